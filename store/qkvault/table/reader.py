"""An open search table: its file, and what has been read of it and worked out from it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .columns import Column, typed
from .filter import Condition, Fetch, find_column, matching_mask, value_fetcher
from .measures import Measures
from .order import Mask, Order, Ordered, Rows, natural_order
from .recent import Recent
from .sorting import read_columns, read_order
from .words import matching_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..spec import Json
    from .build import TableSource
    from .cache import Connections
    from .terms import Search

_ORDERS_LIMIT: Final = 512 * 2**20
_MASKS_LIMIT: Final = 64 * 2**20
_ROW_SQL: Final = (
    "SELECT n, id, first, second, length, label, prediction, correct, columns, target FROM example"
    " WHERE n IN (SELECT value FROM json_each(?))"
)


class Selected:
    """Which rows pass a filter: ``mask`` bool (rows,), None for all of them; and how many."""

    def __init__(self, mask: Mask | None, rows: int) -> None:
        self.mask = mask
        self.total = rows if mask is None else int(np.count_nonzero(mask))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 256 + (0 if self.mask is None else self.mask.nbytes)


class TableReader:
    """Reads one table file; any number of threads may share it.

    Attributes:
        columns: every column by its name.
        count: rows in the table.
    """

    def __init__(self, connections: Connections, source: TableSource) -> None:
        self._connections = connections
        self._measures = Measures(source)
        self.count = count = len(source)
        with connections.lend() as connection:
            self.columns: dict[str, Column] = read_columns(connection, count)
        self._orders: Recent[Order] = Recent(_ORDERS_LIMIT)
        self._selected: Recent[Selected] = Recent(_MASKS_LIMIT)
        self._ordered: Recent[Ordered] = Recent(_MASKS_LIMIT)

    def close(self) -> None:
        """Close the file."""
        self._connections.close()

    def find(self, name: str) -> Column:
        """The column of that name, or the head metric.

        Raises:
            InputError: there is none; the message names the nearest.
        """
        measure = None if name in self.columns else self._measures.find(name)
        return find_column(name, self.columns) if measure is None else measure.column

    def order(self, name: str) -> Order:
        """The rows sorted by a column, ascending.

        Raises:
            sqlite3.DatabaseError: the file is damaged.
        """
        kept = self._orders.get(name)
        if kept is not None:
            return kept
        measure = None if name in self.columns else self._measures.find(name)
        if measure is not None:
            return measure.order
        order: Order | None = natural_order(self.count)
        if name != "index":
            with self._connections.lend() as connection:
                order = read_order(connection, name, self.count)
        if order is None:
            raise sqlite3.DatabaseError(f"the order by {name!r} is damaged")
        return self._orders.put(name, order)

    def selected(self, search: Search, conditions: tuple[Condition, ...]) -> Selected:
        """The rows that hold the words and meet the conditions."""
        key = (search, conditions)
        kept = self._selected.get(key)
        if kept is not None:
            return kept
        if search and conditions:
            found, met = self.selected(search, ()).mask, self.selected((), conditions).mask
            mask = found if met is None else met if found is None else found & met
        else:
            with self._connections.lend() as connection:
                mask = matching_rows(connection, search, self.count)
                if mask is None:
                    mask = self._met(connection, conditions)
        return self._selected.put(key, Selected(mask, self.count))

    def ordered(
        self,
        search: Search,
        conditions: tuple[Condition, ...],
        sort: str,
        descending: bool,
    ) -> Ordered:
        """The same rows, in an order."""
        key = (search, conditions, sort, descending)
        kept = self._ordered.get(key)
        if kept is not None:
            return kept
        order = self.order(sort).descending if descending else self.order(sort)
        selected = self.selected(search, conditions)
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:12]
        return self._ordered.put(key, Ordered(order, selected.mask, selected.total, name))

    def read_rows(self, rows: Rows, measures: Iterable[str] = ()) -> list[dict[str, Any]]:
        """What the table shows of each row, in the order given; with these head metrics."""
        with self._connections.lend() as connection:
            found = connection.execute(_ROW_SQL, (json.dumps(rows.tolist()),)).fetchall()
        try:
            shown = {line[0]: self._shown(*line) for line in found}
            found_rows = [shown[row] for row in rows.tolist()]
        except (KeyError, TypeError, ValueError) as error:
            raise sqlite3.DatabaseError(f"a row is damaged: {error!r}") from error
        for name in measures:
            measure = None if name in self.columns else self._measures.find(name)
            if measure is not None:
                for line in found_rows:
                    line.setdefault("metrics", {})[name] = measure.value(line["index"])
        return found_rows

    def _met(
        self, connection: sqlite3.Connection, conditions: tuple[Condition, ...]
    ) -> Mask | None:
        def fetch_of(name: str) -> Fetch:
            if name in self.columns:
                return value_fetcher(connection, self.columns[name])
            measure = self._measures.find(name)
            assert measure is not None
            return measure.value

        return matching_mask(conditions, self.order, fetch_of)

    def _shown(
        self,
        n: int,
        identity: str,
        first: str,
        second: str | None,
        length: int,
        label: Json,
        prediction: int | float | None,
        correct: int | None,
        columns: str,
        target: str | None,
    ) -> dict[str, Any]:
        values: list[Json] = json.loads(columns)
        return {
            "index": n,
            "id": identity,
            "text": [first] if second is None else [first, second],
            **({} if target is None else {"target": target}),
            "length": length,
            "label": typed(label, self.columns["label"].type),
            "prediction": prediction,
            "correct": None if correct is None else bool(correct),
            "columns": {
                column.original: values[column.place]
                for column in self.columns.values()
                if column.place is not None and column.place < len(values)
            },
        }
