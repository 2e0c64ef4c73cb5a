"""Reading a query string: every parameter known, given once and within its limits, or a 400."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from .documents import ROWS_LIMIT
from .failures import bad_request

if TYPE_CHECKING:
    from .slices import Form, Span, VectorPart

QUERY_LIMIT: Final = 500
WHERE_LIMIT: Final = 2000
WHERE_ENTRIES: Final = 32
NAME_LIMIT: Final = 200
DEFAULT_ROWS: Final = 50
NUMBER: Final = "[0-9]{1,9}"
_SPAN: Final = re.compile(f"({NUMBER}):({NUMBER})")
_CURSOR: Final = re.compile("[0-9A-Za-z_=-]{1,200}")
_FORMS: Final[tuple[Form, ...]] = ("u8", "f32")
_PARTS: Final[tuple[VectorPart, ...]] = ("query", "key", "value")

Choice = TypeVar("Choice", bound=str)


class Query(Protocol):
    """A parsed query string that may hold a name more than once."""

    def lists(self) -> Any:
        """Each name with all its values."""


def single(query: Query, known: Collection[str]) -> dict[str, str]:
    """The parameters by name; a 400 for one that is not ``known`` or is given twice."""
    found: dict[str, str] = {}
    for name, values in query.lists():
        if name not in known:
            raise bad_request(f"unknown parameter; this address takes {_listed(known)}")
        if len(values) != 1:
            raise bad_request(f"{name} is given {len(values)} times")
        if not _is_text(values[0]):
            raise bad_request(f"{name} is not text")
        found[name] = values[0]
    return found


@dataclass(frozen=True)
class Selection:
    """Which examples, in which order: what ``Table.rows`` and ``Table.position`` take.

    Attributes:
        query: words to find.
        where: column to what it must be.
        sort: column.
        descending: highest first.
    """

    query: str
    where: Mapping[str, object]
    sort: str
    descending: bool

    NAMES = ("q", "where", "sort", "order")

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Selection:
        """Read the four parameters; a 400 if one of them is malformed."""
        query, sort = given.get("q", ""), given.get("sort", "index")
        if len(query) > QUERY_LIMIT:
            raise bad_request(f"q has at most {QUERY_LIMIT} characters")
        if not 0 < len(sort) <= NAME_LIMIT:
            raise bad_request(f"sort has 1 to {NAME_LIMIT} characters")
        descending = choice(given, "order", ("asc", "desc"), "asc") == "desc"
        return cls(query, _where(given.get("where", "")), sort, descending)


def choice(
    given: Mapping[str, str], name: str, choices: Sequence[Choice], default: Choice
) -> Choice:
    """The value of a parameter that is one of ``choices``."""
    value = given.get(name, default)
    if value not in choices:
        raise bad_request(f"{name} is one of {_listed(choices)}")
    return cast("Choice", value)


def form(given: Mapping[str, str]) -> Form:
    """``as``: how attention is wanted."""
    return choice(given, "as", _FORMS, "u8")


def span(given: Mapping[str, str], name: str) -> Span | None:
    """A half-open range ``a:b``; None if it is not given."""
    if name not in given:
        return None
    match = _SPAN.fullmatch(given[name])
    if not match:
        raise bad_request(f"{name} is a range such as 0:128")
    return int(match[1]), int(match[2])


def limit(given: Mapping[str, str]) -> int:
    """``limit``: how many rows are wanted."""
    text = given.get("limit", str(DEFAULT_ROWS))
    if not re.fullmatch(NUMBER, text) or not 1 <= int(text) <= ROWS_LIMIT:
        raise bad_request(f"limit is a number from 1 to {ROWS_LIMIT}")
    return int(text)


def cursor(given: Mapping[str, str]) -> str | None:
    """``cursor``: where the page starts; None for the first."""
    text = given.get("cursor")
    if text is not None and not _CURSOR.fullmatch(text):
        raise bad_request("cursor is not one that this server gave")
    return text


def parts(given: Mapping[str, str]) -> list[VectorPart]:
    """``parts``: which vectors, in order."""
    names = given.get("parts", "query,key").split(",")
    if len(set(names)) != len(names) or not set(names) <= set(_PARTS):
        raise bad_request(f"parts are some of {_listed(_PARTS)}, each once, with commas between")
    return cast("list[VectorPart]", names)


def _where(text: str) -> Mapping[str, object]:
    if not text:
        return {}
    if len(text) > WHERE_LIMIT:
        raise bad_request(f"where has at most {WHERE_LIMIT} characters")
    try:
        asked = json.loads(text)
    except (ValueError, RecursionError):
        raise bad_request("where is a JSON object from a column to what it must be") from None
    if not isinstance(asked, dict) or len(asked) > WHERE_ENTRIES:
        raise bad_request(f"where is a JSON object of at most {WHERE_ENTRIES} entries")
    for name, wanted in asked.items():
        flat = wanted if isinstance(wanted, list) else [wanted]
        if isinstance(wanted, dict):
            flat = list(wanted.values())
        if not _is_text(name) or not all(_is_scalar(value) for value in flat):
            raise bad_request("where has a column that is neither a value, a list nor a range")
    return asked


def _is_scalar(value: object) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None


def _is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: lone surrogates come from JSON escapes."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) if names else "none"
