"""Sorting the table's rows by each column, once, and keeping each order in the file."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from .columns import (
    Column,
    ColumnKinds,
    ColumnType,
    as_column_type,
    column_sql,
    index_column,
    typed,
)
from .order import Order

if TYPE_CHECKING:
    from ..spec import Json

MAX_DISTINCT: Final = 50
"""A column with at most this many different values lists them."""
_LONG_VALUE: Final = 200
_FETCH: Final = 20_000

SORTING_SCHEMA: Final = """
CREATE TABLE sorting (
    name TEXT PRIMARY KEY, place INTEGER, original TEXT, type TEXT, present INTEGER,
    distinct_values TEXT, lowest TEXT, highest TEXT, rows BLOB, starts BLOB, checksum INTEGER
);
"""


def write_orders(
    connection: sqlite3.Connection,
    kinds: ColumnKinds,
    examples: int,
    report: Callable[[float], None],
) -> None:
    """Sort the examples by every column but ``index`` and keep each order."""
    columns = list(kinds.names())
    for done, (name, place, original) in enumerate(columns):
        kind = kinds.type_of(name)
        sorting = _Sorting(examples)
        for batch in _sorted_values(connection, column_sql(name, place)):
            sorting.add(batch)
        connection.execute(
            "INSERT INTO sorting VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (name, place, original, kind, *sorting.row(kind)),
        )
        report((done + 1) / len(columns))


def read_order(connection: sqlite3.Connection, name: str, examples: int) -> Order | None:
    """The kept order by a column, or None if the file holds no sound one."""
    kept = connection.execute(
        "SELECT present, rows, starts, checksum FROM sorting WHERE name=?", (name,)
    ).fetchone()
    if kept is None or _checksum(kept[1], kept[2]) != kept[3]:
        return None
    rows = np.frombuffer(kept[1], "<i4").astype(np.int32, copy=False)  # (examples,)
    starts = np.unpackbits(np.frombuffer(kept[2], np.uint8), count=examples).view(np.bool_)
    return Order(rows, kept[0], starts)


def read_columns(connection: sqlite3.Connection, examples: int) -> dict[str, Column]:
    """Every column of the table by its name, built-in columns first."""
    found = {"index": index_column(examples)}
    for name, place, original, kind, present, distinct, lowest, highest in connection.execute(
        "SELECT name, place, original, type, present, distinct_values, lowest, highest"
        " FROM sorting ORDER BY rowid"
    ):
        pairs = json.loads(distinct)
        found[name] = Column(
            name,
            as_column_type(kind),
            present,
            None if pairs is None else tuple((value, count) for value, count in pairs),
            json.loads(lowest),
            json.loads(highest),
            place,
            original,
        )
    return found


def _sorted_values(
    connection: sqlite3.Connection, expression: str
) -> Iterator[list[tuple[int, Json]]]:
    cursor = connection.execute(
        f"SELECT n, {expression} AS value FROM example ORDER BY value IS NULL, value, n"
    )
    while batch := cursor.fetchmany(_FETCH):
        yield batch


class _Sorting:
    """One column's order, and what is met on the way along it."""

    def __init__(self, examples: int) -> None:
        self._rows = np.zeros(examples, "<i4")
        self._starts = np.zeros(examples, np.bool_)
        self._filled = 0
        self._present = 0
        self._distinct: list[tuple[Json, int]] | None = []  # (value, position where it begins)
        self._lowest: Json = None
        self._highest: Json = None

    def add(self, batch: list[tuple[int, Json]]) -> None:
        """Take the next rows and values of the order."""
        first = self._filled
        self._filled += len(batch)
        self._rows[first : self._filled] = [row for row, _ in batch]
        for position, (_, value) in enumerate(batch, first):
            if value is None:
                break
            if value != self._highest:
                self._begin(position, value)
            self._present = position + 1

    def row(self, kind: ColumnType) -> tuple[int, str, str, str, bytes, bytes, int]:
        """What is kept of the order, as stored in the file."""
        rows, starts = self._rows.tobytes(), np.packbits(self._starts).tobytes()
        return (
            self._present,
            json.dumps(self._counted(kind)),
            json.dumps(typed(_short(self._lowest), kind)),
            json.dumps(typed(_short(self._highest), kind)),
            rows,
            starts,
            _checksum(rows, starts),
        )

    def _begin(self, position: int, value: Json) -> None:
        if self._lowest is None:
            self._lowest = value
        self._highest = value
        self._starts[position] = True
        if self._distinct is not None:
            self._distinct.append((value, position))
            if len(self._distinct) > MAX_DISTINCT or _short(value) != value:
                self._distinct = None

    def _counted(self, kind: ColumnType) -> list[tuple[Json, int]] | None:
        if self._distinct is None or kind == "json":
            return None
        ends = [begin for _, begin in self._distinct] + [self._present]
        return [
            (typed(value, kind), end - begin)
            for (value, begin), end in zip(self._distinct, ends[1:], strict=True)
        ]


def _short(value: Json) -> Json:
    return value[:_LONG_VALUE] if isinstance(value, str) else value


def _checksum(rows: bytes, starts: bytes) -> int:
    return zlib.crc32(starts, zlib.crc32(rows))
