"""How the rows of the table stand when sorted by one column: arrays of positions, no values.

A column is kept as the order of its rows. Whatever the table is asked (a page, a filter by value or
range, a position, a neighbour) is then a walk along that order or a comparison of ranks, whose cost
does not depend on the column's type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

SPARSE = 64
"""A selection of fewer than one row in this many is sorted by itself; a denser one is walked to."""


class Order:
    """The rows of the table in one order.

    What is derived from it is derived once, on first use; two threads that do so at the same time
    get equal arrays, so no lock is held (one could be held across a fork).

    Attributes:
        rows: int32 (rows,), row numbers, by rising value, ties by row number, missing values last.
        present: how many rows have a value.
        starts: bool (rows,), whether the value at that position differs from the one before.
    """

    def __init__(self, rows: Rows, present: int, starts: Mask) -> None:
        self.rows = rows
        self.present = present
        self.starts = starts
        self._rank: Rows | None = None
        self._descending: Order | None = None

    @property
    def rank(self) -> Rows:
        """int32 (rows,): the position of each row in the order."""
        if self._rank is None:
            rank = np.empty_like(self.rows)
            rank[self.rows] = np.arange(len(self.rows), dtype=np.int32)
            self._rank = rank
        return self._rank

    @property
    def descending(self) -> Order:
        """The order by falling value; ties still by row number, missing values still last."""
        if self._descending is None:
            self._descending = self._turned()
        return self._descending

    @property
    def nbytes(self) -> int:
        """Bytes held once everything that may be derived has been."""
        return 4 * self.rows.nbytes + 2 * self.starts.nbytes

    def bound(self, below: Callable[[int], bool]) -> int:
        """The first position whose row is not ``below``; asks about log2(rows) rows.

        Args:
            below: whether a row's value lies before the bound; true for a first run of the order.
        """
        low, high = 0, self.present
        while low < high:
            middle = (low + high) // 2
            if below(int(self.rows[middle])):
                low = middle + 1
            else:
                high = middle
        return low

    def _turned(self) -> Order:
        first = np.flatnonzero(self.starts[: self.present])  # (group,)
        size = np.diff(np.append(first, self.present))
        # A group that begins at f and has n rows moves, as a block, to begin at present - f - n.
        moved = self.present - first - size
        rows = self.rows.copy()
        rows[np.arange(self.present) + np.repeat(moved - first, size)] = self.rows[: self.present]
        starts = self.starts.copy()
        starts[: self.present] = False
        starts[moved] = True
        return Order(rows, self.present, starts)


def order_of_values(values: npt.NDArray[np.float32]) -> Order:
    """The order by (rows,) numbers; NaN is a missing value."""
    rows = np.argsort(values, kind="stable").astype(np.int32)
    ordered = values[rows]
    present = len(values) - int(np.count_nonzero(np.isnan(values)))
    starts = np.ones(len(values), np.bool_)
    starts[1:] = ordered[1:] != ordered[:-1]
    return Order(rows, present, starts)


def natural_order(count: int) -> Order:
    """The order by row number: (count,) rows, no two alike."""
    return Order(np.arange(count, dtype=np.int32), count, np.ones(count, np.bool_))


class Ordered:
    """The rows that pass a filter, in one order.

    Attributes:
        order: the order of all rows.
        mask: bool (rows,), which rows pass; None if all do.
        total: how many pass.
        name: tells this list from any other.
    """

    def __init__(self, order: Order, mask: Mask | None, total: int, name: str) -> None:
        self.name = name
        self.order = order
        self.mask = mask
        self.total = total
        # int32 (total,): ranks of the rows that pass, ascending, if they are few.
        self._ranks: Rows | None = None
        if mask is not None and total * SPARSE <= len(mask):
            self._ranks = np.sort(order.rank[np.flatnonzero(mask)])

    @property
    def nbytes(self) -> int:
        """Bytes held beyond those of the order and the mask."""
        return 256 + (0 if self._ranks is None else self._ranks.nbytes)

    def every(self) -> Rows:
        """int32 (total,): all rows that pass, in order."""
        rows = self.order.rows
        if self._ranks is not None:
            return rows[self._ranks]
        return rows if self.mask is None else rows[self.mask[rows]]

    def following(self, rank: int, limit: int) -> Rows:
        """Up to ``limit`` rows that pass and stand at position ``rank`` of the order or later."""
        if self._ranks is not None:
            first = int(np.searchsorted(self._ranks, rank))
            return self.order.rows[self._ranks[first : first + limit]]
        return self._gather(self._stretches(rank, limit), limit)

    def preceding(self, rank: int, limit: int) -> Rows:
        """Up to ``limit`` rows that pass and stand before position ``rank``, nearest first."""
        if self._ranks is not None:
            last = int(np.searchsorted(self._ranks, rank))
            return self.order.rows[self._ranks[max(0, last - limit) : last]][::-1]
        return self._gather(self._stretches_back(rank, limit), limit)

    def count_before(self, rank: int) -> int:
        """How many rows that pass stand before position ``rank`` of the order."""
        if self._ranks is not None:
            return int(np.searchsorted(self._ranks, rank))
        if self.mask is None:
            return rank
        return int(np.count_nonzero(self.mask[self.order.rows[:rank]]))

    def passes(self, row: int) -> bool:
        """Whether ``row`` is among the rows."""
        return self.mask is None or bool(self.mask[row])

    def _first_stretch(self, limit: int) -> int:
        # Twice what an even spread would need: one stretch is nearly always enough. Where the rows
        # that pass stand far from the start (a filter on the sorted column), stretches grow.
        return max(256, 2 * limit * len(self.order.rows) // max(1, self.total))

    def _stretches(self, rank: int, limit: int) -> Iterator[Rows]:
        rows, step = self.order.rows, self._first_stretch(limit)
        while rank < len(rows):
            yield rows[rank : rank + step]
            rank, step = rank + step, 4 * step

    def _stretches_back(self, rank: int, limit: int) -> Iterator[Rows]:
        rows, step = self.order.rows, self._first_stretch(limit)
        while rank > 0:
            yield rows[max(0, rank - step) : rank][::-1]
            rank, step = rank - step, 4 * step

    def _gather(self, stretches: Iterator[Rows], limit: int) -> Rows:
        found: list[Rows] = []
        missing = limit
        for stretch in stretches:
            kept = stretch if self.mask is None else stretch[self.mask[stretch]]
            found.append(kept[:missing])
            missing -= len(found[-1])
            if not missing:
                break
        return np.concatenate(found) if found else self.order.rows[:0]
