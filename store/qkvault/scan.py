"""One head, or some, across the whole corpus: in the order of the files, each chunk unpacked once.

Examples come bucket by bucket (shortest first), within a bucket in the dataset's order. A few
batches are read ahead by threads, so that reading and unpacking overlap with what the caller does;
memory stays bounded by the batches, whatever the size of the vault.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from .corpus import CorpusReader, ScanArray, ScanBatch, ScanItem, Which, check_places
from .errors import InputError
from .selection import example_indices
from .threads import pool

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from .selection import Examples
    from .vault import Vault

__all__ = ["Scan", "ScanArray", "ScanBatch", "ScanItem", "Which"]

_BATCH_BYTES: Final = 4 << 20


class Scan:
    """Iterates over examples; :meth:`batches` gives them many at a time.

    Attributes:
        stack: the stack that is scanned.
        examples: int64 ``(example,)``, places in the dataset's order, as they will come.
    """

    def __init__(
        self,
        vault: Vault,
        layer: Which,
        head: Which,
        arrays: Sequence[ScanArray],
        stack: str | None,
        select: Examples,
        prefetch: int,
    ) -> None:
        self._reader = CorpusReader(vault, layer, head, arrays, stack)
        self.stack = self._reader.stack
        if prefetch < 0:
            raise InputError(f"prefetch is a number of batches, 0 or more; found {prefetch}")
        self._prefetch = prefetch
        indices = example_indices(vault, select)
        order = np.lexsort((indices, self._reader.places[indices, 0]))
        indices = indices[order]
        self.examples = indices[np.diff(indices, prepend=-1) != 0]

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[ScanItem]:
        for batch in self._batches(padded=False):
            yield from batch

    def batches(self) -> Iterator[ScanBatch]:
        """The examples, many of one bucket at a time.

        Raises:
            VaultError: a touched file or chunk is missing or damaged.
        """
        return self._batches(padded=True)

    def _batches(self, *, padded: bool) -> Iterator[ScanBatch]:
        jobs = self._jobs()
        if not self._prefetch:
            for examples in jobs:
                yield self._reader.read(examples, padded=padded)
            return
        running: deque[Future[ScanBatch]] = deque()
        try:
            for examples in jobs:
                running.append(pool().submit(self._reader.read, examples, padded=padded))
                if len(running) > self._prefetch:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()

    def _jobs(self) -> Iterator[NDArray[np.int64]]:
        """Examples that are read together: whole chunks of one bucket, some megabytes."""
        places = self._reader.places
        lengths = places[self.examples, 0]
        buckets = np.split(self.examples, np.flatnonzero(np.diff(lengths)) + 1)
        for examples in buckets if len(lengths) else ():
            check_places(self._reader.vault, places[examples])
            step = self._reader.rows_at_once(int(places[examples[0], 0]), _BATCH_BYTES)
            rows = places[examples, 1].astype(np.int64)
            yield from np.split(examples, np.flatnonzero(np.diff(rows // step)) + 1)
