"""A record as one line of JSON, and what a record must be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import isfinite
from operator import gt
from operator import index as as_int
from typing import Any, Final

from .errors import InputError, VaultError
from .spec import Record, Target

MAX_RECORD_BYTES: Final = 16 << 20
_MAX_INT: Final = 2**31 - 1


def id_hash(example_id: str) -> int:
    """First 8 bytes of the id's SHA-256 as a little-endian unsigned integer."""
    return int.from_bytes(hashlib.sha256(example_id.encode("utf-8")).digest()[:8], "little")


def record_line(record: Record, *, has_target: bool) -> bytes:
    """Spell a record as one line of UTF-8 JSON.

    Args:
        record: the record.
        has_target: whether the vault's examples have a target.

    Raises:
        InputError: the record breaks a rule of :class:`Record`, or holds what JSON cannot.
    """
    problem = _problem(record, has_target)
    if problem:
        raise InputError(f"example {record.id!r:.200} cannot be stored: {problem}")
    document = {
        "id": record.id,
        "text": list(record.text),
        **_token_document(record),
        "label": record.label,
        "columns": dict(record.columns),
    }
    if record.target is not None:
        document["target"] = {"text": record.target.text, **_token_document(record.target)}
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = text.encode("utf-8") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"example {record.id!r:.200} cannot be stored: {error}") from None
    if len(line) > MAX_RECORD_BYTES:
        raise InputError(f"example {record.id!r:.200} cannot be stored: {len(line)} bytes of text")
    return line


def _token_document(tokens: Record | Target) -> dict[str, Any]:
    segments = tokens.segments if isinstance(tokens, Record) else None
    return {
        "tokens": list(tokens.tokens),
        "token_ids": [*map(as_int, tokens.token_ids)],
        **({} if segments is None else {"segments": [*map(as_int, segments)]}),
        "special": [*map(as_int, tokens.special)],
        "offsets": [[*map(as_int, pair)] for pair in tokens.offsets],
        "words": [*map(as_int, tokens.words)],
    }


def parse_record(line: bytes, index: int, *, has_target: bool) -> Record:
    """Read a record's line; nothing in it is trusted.

    Args:
        line: as :func:`record_line` gives it.
        index: the example's number, for messages.
        has_target: whether the vault's examples have a target.

    Raises:
        VaultError: not a record, with the example's number.
    """
    try:
        document = _DECODER.decode(line.decode("utf-8"))
        if b"\\u" in line:  # may spell half a character, which no text has
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        record = _record(document)
        problem = _problem(record, has_target)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError) as error:
        raise VaultError(f"the record of example {index} is damaged: {error!s:.300}") from None
    if problem:
        raise VaultError(f"the record of example {index} is damaged: {problem}")
    return record


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text:.40} is no number that JSON has")
    return value


_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def _record(document: Mapping[str, Any]) -> Record:
    return Record(
        id=document["id"],
        text=tuple(document["text"]),
        tokens=tuple(document["tokens"]),
        token_ids=tuple(document["token_ids"]),
        segments=tuple(document["segments"]),
        special=tuple(document["special"]),
        offsets=tuple(map(_pair, document["offsets"])),
        words=tuple(document["words"]),
        label=document["label"],
        columns=document["columns"],
        target=_target(document["target"]) if "target" in document else None,
    )


def _target(document: Mapping[str, Any]) -> Target:
    return Target(
        text=document["text"],
        tokens=tuple(document["tokens"]),
        token_ids=tuple(document["token_ids"]),
        special=tuple(document["special"]),
        offsets=tuple(map(_pair, document["offsets"])),
        words=tuple(document["words"]),
    )


def _pair(value: Sequence[int]) -> tuple[int, int]:
    start, end = value
    return (start, end)


def _problem(record: Record, has_target: bool) -> str | None:
    """What is wrong with a record, or None."""
    if not isinstance(record.id, str) or not record.id:
        return "its id is not a non-empty text"
    if len(record.text) not in (1, 2) or not all(isinstance(t, str) for t in record.text):
        return "it has neither one text nor two"
    if not isinstance(record.label, None | bool | int | float | str):
        return f"its label is a {type(record.label).__name__}"
    if not isinstance(record.columns, Mapping):
        return "its columns are not an object"
    if not all(isinstance(name, str) for name in record.columns):
        return "a column's name is not text"
    return (
        _token_problem(record)
        or _segment_problem(record)
        or _target_problem(record.target, has_target)
    )


def _segment_problem(record: Record) -> str | None:
    if len(record.segments) != len(record.tokens):
        return f"it has {len(record.tokens)} tokens but {len(record.segments)} segments"
    if not _lie_in(record.segments, 0, 127):
        return "a segment is not a number from 0 to 127"
    return None


def _target_problem(target: Target | None, has_target: bool) -> str | None:
    if target is None:
        return "it has no target, which the others of the vault have" if has_target else None
    if not has_target:
        return "it has a target, which the others of the vault have not"
    if not isinstance(target.text, str):
        return "its target is not a text"
    problem = _token_problem(target)
    return problem and f"of its target, {problem}"


def _token_problem(record: Record | Target) -> str | None:
    tokens = len(record.tokens)
    if tokens == 0:
        return "it has no tokens"
    if set(map(type, record.tokens)) != {str}:
        return "a token is not text"
    for name in ("token_ids", "special"):
        if len(getattr(record, name)) != tokens:
            return f"it has {tokens} tokens but {len(getattr(record, name))} {name}"
    for name in ("offsets", "words"):
        if len(getattr(record, name)) not in (0, tokens):
            return f"it has {tokens} tokens but {len(getattr(record, name))} {name}"
    if not _lie_in(record.token_ids, 0, _MAX_INT):
        return "a token id is not a number from 0 to 2**31-1"
    if not _lie_in(record.special, 0, 1):
        return "a special mark is neither 0 nor 1"
    if not _lie_in(record.words, -1, _MAX_INT):
        return "a word number is out of range"
    starts, ends = [pair[0] for pair in record.offsets], [pair[1] for pair in record.offsets]
    ranges = _lie_in(starts, 0, _MAX_INT) and _lie_in(ends, 0, _MAX_INT)
    if not ranges or any(map(gt, starts, ends)):
        return "an offset is not a character range"
    return None


def _lie_in(values: Sequence[Any], low: int, high: int) -> bool:
    """Whether all are whole numbers within bounds; quick, for every record passes here."""
    if not values:
        return True
    try:
        return low <= min(map(as_int, values)) and max(map(as_int, values)) <= high
    except TypeError:
        return False
