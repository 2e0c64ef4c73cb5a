"""Memory for the arrays of units, used again and again: fresh pages cost a run several per cent."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from .chunks import UNIT_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POPULATE: Final = 23  # MADV_POPULATE_WRITE of Linux 5.14, which Python has no name for


class UnitMemory:
    """Blocks of memory, most of them as large as units get."""

    def __init__(self) -> None:
        self._spare: list[NDArray[np.uint8]] = []

    def reserve(self, units: int, total: int) -> None:
        """Have the system give the memory of so many units now, and not while they are filled.

        A run that lacks it then fails before it has begun, and takes no more later on.

        Args:
            units: that are in memory at a time.
            total: bytes of all that are going to be; no more than that is taken.
        """
        for _ in range(units - len(self._spare)):
            self._spare.append(_make_block(min(max(0, total), UNIT_BYTES)))
            total -= UNIT_BYTES

    def take(self, size: int) -> NDArray[np.uint8]:
        """At least so many bytes, of any value."""
        while self._spare:
            block = self._spare.pop()
            if block.size >= size:
                return block
        # Most units are about as large as units get.
        return np.empty(max(size, UNIT_BYTES), np.uint8)

    def give_back(self, block: NDArray[np.uint8]) -> None:
        """For whoever takes next."""
        self._spare.append(block)


def _make_block(used: int) -> NDArray[np.uint8]:
    """A block of which the system has given so many bytes already.

    Asked for all at once they take a fifth of the time of numpy's own large arrays: those want huge
    pages, for which the system moves others about.
    """
    pages = mmap.mmap(-1, UNIT_BYTES)
    block = np.frombuffer(pages, np.uint8)
    with suppress(OSError, ValueError):
        if used and hasattr(pages, "madvise"):
            pages.madvise(_POPULATE, 0, used)
            return block
    block[:used].fill(0)  # pages that are not touched are not there yet
    return block
