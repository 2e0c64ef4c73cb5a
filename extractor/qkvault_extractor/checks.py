"""Checks of single rows, before any model or tokenizer is loaded.

Each ``*_flaw`` function returns what is wrong in a few words, or "" if nothing is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from qkvault_extractor.rows import Reject, Row

if TYPE_CHECKING:
    from qkvault import Json, Label
    from qkvault_extractor.columns import Columns
    from qkvault_extractor.formats import Raw

_INT64 = 2**63


def check_row(raw: Raw, number: int, columns: Columns, dropped: set[str]) -> Row | Reject:
    """Make a row of what was read, or a reject with the first thing that is wrong with it.

    Args:
        raw: the row as read.
        number: its position in the data.
        columns: which columns hold texts, label and id.
        dropped: names of columns left out because JSON cannot carry a value; added to.
    """
    values = raw.values
    row_id = str(number) if columns.id is None else values.get(columns.id)
    known_id = str(row_id) if isinstance(row_id, str | int) and not raw.flaw else None
    text_check = messages_flaw if columns.chat else text_flaw
    flaw = raw.flaw or next(
        filter(None, (text_check(values, column) for column in columns.texts)), ""
    )
    flaw = flaw or (text_flaw(values, columns.target) if columns.target is not None else "")
    flaw = flaw or (id_flaw(values, columns.id) if columns.id is not None else "")
    flaw = flaw or (label_flaw(values.get(columns.label)) if columns.label is not None else "")
    rest = {} if flaw else _keep_columns(values, columns, dropped)
    flaw = flaw or surrogate_flaw(rest)
    if flaw:
        return Reject(number, raw.source, known_id, flaw)
    label = None if columns.label is None else plain_label(values.get(columns.label))
    target = None if columns.target is None else str(values[columns.target])
    if columns.chat:
        messages = plain_messages(values[columns.texts[0]])
        return Row(number, raw.source, (), str(row_id), label, rest, messages, target)
    texts = tuple(str(values[column]) for column in columns.texts)
    return Row(number, raw.source, texts, str(row_id), label, rest, target=target)


def text_flaw(values: Mapping[str, object], column: str) -> str:
    """Check one text: there, a string, not blank, encodable as UTF-8.

    Control characters, NUL, zero-width and right-to-left marks are text like any other.
    """
    text = values.get(column)
    if text is None:
        return f"no text in column {column!r}" + ("" if column in values else " (it is missing)")
    if not isinstance(text, str):
        return f"column {column!r} holds {_kind(text)} where a text is expected"
    if not text.strip():
        return f"empty text in column {column!r}"
    return surrogate_flaw(text)


def messages_flaw(values: Mapping[str, object], column: str) -> str:
    """Check a conversation: a list of objects with a role and a content, both texts."""
    found = values.get(column)
    if not isinstance(found, list | tuple):
        what = "nothing" if found is None else _kind(found)
        return f"column {column!r} holds {what} where a list of messages is expected"
    for number, message in enumerate(found, 1):
        if not isinstance(message, Mapping):
            return f"message {number} is {_kind(message)}; an object with role and content is due"
        for key in ("role", "content"):
            text = message.get(key)
            if not isinstance(text, str) or (key == "role" and not text.strip()):
                return f"message {number} has no {key} that is a text"
            if flaw := surrogate_flaw(text):
                return f"message {number}: {flaw}"
    if not any(message["content"].strip() for message in found):
        return f"no message in column {column!r}" if not found else "all messages are empty"
    return ""


def plain_messages(found: object) -> tuple[dict[str, str], ...]:
    """Role and content of checked messages; what else they have is left."""
    assert isinstance(found, list | tuple)
    return tuple({key: str(message[key]) for key in ("role", "content")} for message in found)


def id_flaw(values: Mapping[str, object], column: str) -> str:
    """Check one id: a string that is not empty, or an integer."""
    found = values.get(column)
    if found is None or found == "":
        return f"no id in column {column!r}"
    if isinstance(found, bool) or not isinstance(found, str | int):
        return f"column {column!r} holds {_kind(found)} where an id (text or integer) is expected"
    return surrogate_flaw(found)


def label_flaw(label: object) -> str:
    """Check one label: a number, a string, true/false or nothing; integers of 64 bits."""
    if isinstance(label, str):
        return surrogate_flaw(label)
    if isinstance(label, float) and math.isinf(label):
        return "the label is infinite"
    if isinstance(label, int) and not -_INT64 <= label < _INT64:
        return "the label is an integer of more than 64 bits"
    if label is not None and not isinstance(label, int | float):
        return f"the label is {_kind(label)}; a number or a string is expected"
    return ""


def surrogate_flaw(value: object) -> str:
    """Find a lone surrogate, which UTF-8 cannot encode, in a string or anywhere in JSON values."""
    if isinstance(value, str):
        if value.isascii():
            return ""
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            return f"a lone surrogate (U+{code:04X} at character {error.start + 1})"
        return ""
    if isinstance(value, Mapping):
        return next(filter(None, map(surrogate_flaw, [*value.keys(), *value.values()])), "")
    if isinstance(value, list):
        return next(filter(None, map(surrogate_flaw, value)), "")
    return ""


def _keep_columns(
    values: Mapping[str, object], columns: Columns, dropped: set[str]
) -> dict[str, Json]:
    used = (*columns.texts, columns.label, columns.id, columns.target)
    kept: dict[str, Json] = {}
    for name, value in values.items():
        if name in used:
            continue
        try:
            kept[name] = to_json(value)
        except TypeError:
            dropped.add(name)
    return kept


def to_json(value: object) -> Json:
    """Turn a value into one JSON carries; TypeError if there is none (bytes, an image).

    Dates and times become ISO 8601 strings, decimals strings, NaN and infinities None.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value).__name__)


def plain_label(label: object) -> Label:
    """Give a checked label its type: true/false become 1/0, NaN and "" nothing."""
    if isinstance(label, float):
        return None if math.isnan(label) else label
    if isinstance(label, str):
        return label or None
    return int(label) if isinstance(label, int) else None


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, str):
        return "a text"
    return f"a value of type {type(value).__name__}"
