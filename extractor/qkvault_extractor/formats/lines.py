"""Readers for files of one row a line: JSON Lines and plain text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from qkvault_extractor.formats.source import Raw, Source, describe_undecodable, peek, read_lines

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


def read_jsonl(path: Path) -> Source:
    """Open a JSON Lines file: one object a line; blank lines are passed over."""
    return peek(path.name, "jsonl", _walk_jsonl(path))


def read_text(path: Path) -> Source:
    """Open a plain text file: every line is one text, in a single column named ``text``."""
    return peek(path.name, "text", _walk_text(path), ("text",), spelled=True)


def _walk_jsonl(path: Path) -> Generator[Raw]:
    for number, line in read_lines(path):
        if line.strip():
            source = f"{path.name} line {number}"
            values, flaw = _parse_object(line)
            yield Raw(source, values, flaw)


def _parse_object(line: bytes) -> tuple[dict[str, object], str]:
    """Parse one line; the second part says what is wrong with it, or is ""."""
    try:
        found = json.loads(line.decode())
    except UnicodeDecodeError:
        return {}, describe_undecodable(line)
    except json.JSONDecodeError as error:
        return {}, f"broken JSON ({error.msg}, column {error.colno})"
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 10,000 brackets
        return {}, f"JSON that cannot be read ({error})"
    if not isinstance(found, dict):
        return {}, f"a JSON {_JSON_KIND[type(found)]} where an object {{...}} is expected"
    return found, ""


_JSON_KIND = {
    list: "list",
    str: "string",
    int: "number",
    float: "number",
    bool: "true/false",
    type(None): "null",
}


def _walk_text(path: Path) -> Generator[Raw]:
    for number, line in read_lines(path):
        flaw = describe_undecodable(line)
        values = {} if flaw else {"text": line.decode()}
        yield Raw(f"{path.name} line {number}", values, flaw)
