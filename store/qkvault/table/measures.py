"""Head metrics as columns of the table: ``entropy[3,5]`` is the entropy of head 5 of layer 3.

There are thousands of them and most are never asked for, so they are not in the table's file: one
is read from the vault, and sorted, when it is first asked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from .columns import Column
from .order import Order, order_of_values
from .recent import Recent

if TYPE_CHECKING:
    import numpy.typing as npt

    from .build import TableSource

_NAME = re.compile(r"(?:(\w{1,40})\.)?(\w{1,80})\[ ?(-?\d{1,6}) ?, ?(-?\d{1,6}) ?\]")
_LIMIT: Final = 256 * 2**20


class Measure:
    """One metric of one head, of every example.

    Attributes:
        column: as which it can be sorted by and filtered on.
        values: float32 (rows,); NaN where an example has no such number.
        order: the rows by these values.
    """

    def __init__(self, name: str, values: npt.NDArray[np.float32]) -> None:
        self.values = values
        self.order: Order = order_of_values(values)
        present, rows = self.order.present, self.order.rows
        lowest, highest = (
            (float(values[rows[0]]), float(values[rows[present - 1]])) if present else (None, None)
        )
        self.column = Column(name, "number", present, None, lowest, highest, None, name)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.values.nbytes + self.order.nbytes

    def value(self, row: int) -> float | None:
        """The number of one example, if it has one."""
        number = float(self.values[row])
        return None if np.isnan(number) else number


class Measures:
    """The metrics of one vault, by the names of their columns."""

    def __init__(self, source: TableSource) -> None:
        self._source = source
        self._kept: Recent[Measure] = Recent(_LIMIT)

    def find(self, name: str) -> Measure | None:
        """The metric that ``name`` names; None if it names none.

        Raises:
            InputError, OutOfRange: the vault has no such stack, layer or head.
            VaultError: its metrics are damaged.
        """
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        match = _NAME.fullmatch(name)
        if match is None or match[2] not in self._source.spec.metrics:
            return None
        stack, metric, layer, head = match.groups()
        values = self._source.metrics(metric, stack, int(layer), int(head))
        return self._kept.put(name, Measure(name, values))
