"""How far a run is, for a progress function."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from qkvault import forward_cost
from qkvault_extractor.options import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qkvault import Unit, VaultSpec

REPORT_INTERVAL_S: Final = 0.1
"""Shortest time between two calls of a progress function."""


class Meter:
    """Counts what has been done and tells a progress function.

    Attributes:
        bytes: written so far.
    """

    def __init__(
        self,
        spec: VaultSpec,
        units: Sequence[Unit],
        pending: Sequence[Unit],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Start the clock.

        Args:
            spec: of the vault.
            units: all that count, done or not.
            pending: those of them that are still to be run.
            progress: told now and then how far the run is.
        """
        self.bytes = 0
        self._spec = spec
        self._progress = progress
        self._total = sum(len(unit.lengths) for unit in units)
        self._before = self._total - sum(len(unit.lengths) for unit in pending)
        self._cost_left = sum(forward_cost(spec, unit.lengths) for unit in pending)
        self._cost_done = 0.0
        self._ran = 0
        self._start = time.perf_counter()
        self._told = 0.0

    def ran(self, lengths: NDArray[np.int32]) -> None:
        """Count examples that went through the model, by their tokens."""
        self._ran += len(lengths)
        cost = forward_cost(self._spec, lengths)
        self._cost_done += cost
        self._cost_left -= cost
        now = time.perf_counter()
        if self._before + self._ran == self._total or now - self._told >= REPORT_INTERVAL_S:
            self._told = now
            self._tell(now - self._start)

    def _tell(self, seconds: float) -> None:
        if self._progress is None:
            return
        self._progress(
            Progress(
                done=self._before + self._ran,
                total=self._total,
                examples_per_s=self._ran / seconds,
                bytes_per_s=self.bytes / seconds,
                eta_s=max(0.0, self._cost_left) * seconds / self._cost_done,
                bytes=self.bytes,
            )
        )
