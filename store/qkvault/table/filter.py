"""Filters on the table's columns: from what the caller says to which rows pass."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..spec import Json
from .terms import storable

if TYPE_CHECKING:
    from .columns import Column
    from .order import Mask, Order

Where = Mapping[str, object]
"""Column to what is asked of it: a value; a list, of which any will do; a range, as ``{"min": low,
"max": high}`` or a pair ``(low, high)``, both ends included, None for open; None for missing.
``min_length`` and ``max_length`` bound the number of tokens."""

_BOUNDS = {"min_length": "min", "max_length": "max"}


@dataclass(frozen=True)
class Span:
    """Values from ``low`` to ``high``, both included; None for an open end."""

    low: Json
    high: Json


@dataclass(frozen=True)
class Condition:
    """What one column must be: any of some spans; or missing."""

    column: str
    spans: tuple[Span, ...]
    missing: bool


def parse_where(
    where: Where | None, find: Callable[[str], Column], label_names: tuple[str, ...] = ()
) -> tuple[Condition, ...]:
    """Read a filter; conditions come out in one order, so that equal filters compare equal.

    Raises:
        InputError: a column the table does not have (the message names the nearest), or a value
            that no column can have.
    """
    conditions = []
    for name, wanted in (where or {}).items():
        column = find("length" if name in _BOUNDS else name)
        if name in _BOUNDS:
            wanted = {_BOUNDS[name]: wanted}
        names = label_names if column.name in ("label", "prediction") else ()
        conditions.append(_condition(column, wanted, names))
    return tuple(sorted(conditions, key=repr))


def find_column(name: str, columns: Mapping[str, Column]) -> Column:
    """The column that ``name`` names; a column of the data also goes by ``columns.<name>``."""
    if name in columns:
        return columns[name]
    plain = name.removeprefix("columns.")
    if plain != name and plain in columns and columns[plain].user:
        return columns[plain]
    nearest = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {', '.join(columns)}"
    raise InputError(f"the table has no column {name!r}; {hint}")


Fetch = Callable[[int], Json]
"""The value of a column in a row."""


def matching_mask(
    conditions: Iterable[Condition],
    order_of: Callable[[str], Order],
    fetch_of: Callable[[str], Fetch],
) -> Mask | None:
    """Which rows meet every condition: bool (rows,), or None where there is no condition."""
    mask: Mask | None = None
    for condition in conditions:
        met = _met(condition, order_of(condition.column), fetch_of(condition.column))
        mask = met if mask is None else mask & met
    return mask


def value_fetcher(connection: sqlite3.Connection, column: Column) -> Fetch:
    """A function that reads the column's value in a row."""
    query = f"SELECT {column.sql} FROM example WHERE n=?"

    def fetch(row: int) -> Json:
        found = connection.execute(query, (row,)).fetchone()
        if found is None:
            raise sqlite3.DatabaseError(f"row {row} is lost")
        value: Json = found[0]
        return value

    return fetch


def _condition(column: Column, wanted: object, names: tuple[str, ...]) -> Condition:
    if isinstance(wanted, Mapping):
        unknown = sorted(str(key) for key in wanted if key not in ("min", "max"))
        if unknown or not wanted:
            found = f"it has {unknown[0]!r}" if unknown else "it is empty"
            raise InputError(f"a range of {column.name!r} has 'min' and 'max'; {found}")
        return _range(column, wanted.get("min"), wanted.get("max"))
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise InputError(
                f"a range of {column.name!r} is a pair (low, high), not {len(wanted)} values;"
                " for any of several values give a list"
            )
        return _range(column, *wanted)
    choices = wanted if isinstance(wanted, list | set | frozenset) else [wanted]
    values = [_value(column, choice, names) for choice in choices]
    spans = sorted(
        {json.dumps(value): Span(value, value) for value in values if value is not None}.items()
    )
    return Condition(column.name, tuple(span for _, span in spans), None in values)


def _range(column: Column, low: object, high: object) -> Condition:
    return Condition(column.name, (Span(_value(column, low), _value(column, high)),), False)


def _value(column: Column, value: object, names: tuple[str, ...] = ()) -> Json:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str) and value in names and column.type in ("integer", "empty"):
        return names.index(value)
    if isinstance(value, str):
        return storable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and value == value:
        return value
    raise InputError(
        f"column {column.name!r} cannot be {str(value)[:40]!r}: give a number, a text, a list of"
        " them, or a range"
    )


def _met(condition: Condition, order: Order, fetch: Fetch) -> Mask:
    rank = order.rank
    mask = rank >= order.present if condition.missing else np.zeros(len(rank), np.bool_)
    for span in condition.spans:
        low = 0 if span.low is None else order.bound(_before(fetch, span.low))
        high = order.present if span.high is None else order.bound(_up_to(fetch, span.high))
        mask |= (rank >= low) & (rank < high)
    return mask


def _before(fetch: Fetch, bound: Json) -> Callable[[int], bool]:
    key = _key(bound)
    return lambda row: _key(fetch(row)) < key


def _up_to(fetch: Fetch, bound: Json) -> Callable[[int], bool]:
    key = _key(bound)
    return lambda row: _key(fetch(row)) <= key


def _key(value: Json) -> tuple[int, float | str]:
    # SQLite's order: numbers (booleans are 0 and 1) before text, text by code point.
    if isinstance(value, bool | int | float):
        return 0, value
    return 1, value if isinstance(value, str) else json.dumps(value)
