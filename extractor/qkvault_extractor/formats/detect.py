"""Which format a file has: by its name, then by its first bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from qkvault import InputError
from qkvault_extractor.formats.delimited import MRPC_COLUMNS
from qkvault_extractor.formats.source import BOM, FORMATS, Format

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
    ".conll": "conll",
    ".conllu": "conll",
    ".bio": "conll",
    ".iob": "conll",
}
"""Formats by the name's ending; ``.txt`` and endings not listed are looked into."""

_PACKED: Final = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_WIDE: Final = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_HEAD_BYTES = 65536


def detect_format(path: Path) -> Format:
    """Tell the format of a file that is there and not empty.

    Raises:
        InputError: compressed, UTF-16, one JSON array, a TSV file whose quoting is in doubt, or
            nothing known.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"PAR1"):
        return "parquet"
    refuse_binary(path.name, head)
    lines = head.removeprefix(BOM).split(b"\n")
    by_name = SUFFIXES.get(path.suffix.lower())
    if lines[0].rstrip(b"\r").decode(errors="replace").split("\t") == list(MRPC_COLUMNS):
        return "mrpc"
    if by_name == "jsonl" and lines[0].lstrip().startswith(b"["):
        raise InputError(
            f"{path.name} is one JSON array; one object a line is needed"
            f" (jq -c '.[]' {path.name} > {path.stem}.jsonl)"
        )
    if by_name == "tsv":
        _refuse_doubtful_quotes(path.name, lines)
    if by_name not in (None, "text"):
        return by_name
    if _is_object(lines[0]):
        return "jsonl"
    if by_name is None:
        raise InputError(
            f"the format of {path.name} cannot be told from its name or its first line;"
            f" say --format ({', '.join(FORMATS)})"
        )
    return by_name


def refuse_binary(name: str, head: bytes) -> None:
    """Raise InputError for bytes that no text format starts with."""
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise InputError(f"{name} is compressed ({kind}); unpack it first")
    for magic, kind in _WIDE.items():
        if head.startswith(magic):
            raise InputError(f"{name} is {kind}; save it as UTF-8")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_doubtful_quotes(name: str, lines: list[bytes]) -> None:
    """Refuse a TSV file with a field that is quoted and doubles the quotation marks inside.

    Whoever wrote it quoted fields. Read as text those marks would end up in the tokens; taken as
    quoting they might be wrong too.
    """
    for number, line in enumerate(lines[:-1], 1):
        for field in line.rstrip(b"\r").split(b"\t"):
            inner = field[1:-1]
            quoted = len(field) > 3 and field[:1] == field[-1:] == b'"' and b'""' in inner
            if quoted and b'"' not in inner.replace(b'""', b""):
                raise InputError(
                    f"{name} line {number}: do the quotation marks enclose fields, or are they"
                    " text? say --format csv if they enclose, --format tsv if they are text"
                )
