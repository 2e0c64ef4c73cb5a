"""The examples of one forward pass: their rows, lengths and roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from qkvault import token_roles

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault import Record, TokenRoles
    from qkvault_extractor.summaries import Run

CACHED_WEIGHTS: Final = 1 << 17
"""Attention weights packed at once, 512 kB as float32: later passes find them in a cache."""

Axes = tuple[str, str]
"""The sequences, ``source`` or ``target``, that query tokens and key tokens are of."""

ONE_SEQUENCE: Final[Axes] = ("source", "source")


@dataclass(frozen=True)
class Batch:
    """Examples that share a forward pass, by ascending length.

    Attributes:
        rows: their rows in the unit's buffers, int64 [B].
        lengths: their tokens, int64 [B].
        roles: of each one's tokens; needed only where head metrics are kept.
        target_lengths, target_roles: of their targets, where they have any.
    """

    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    roles: Sequence[TokenRoles] = ()
    target_lengths: NDArray[np.int64] | None = None
    target_roles: Sequence[TokenRoles] = ()

    @classmethod
    def of_records(
        cls, rows: NDArray[np.int64], records: Sequence[Record], *, measured: bool
    ) -> Batch:
        """The batch of some records, with their roles where heads are ``measured``."""
        targets = [record.target for record in records if record.target is not None]
        return cls(
            rows,
            np.array([len(record.tokens) for record in records], np.int64),
            [token_roles(record) for record in records] if measured else (),
            np.array([len(target.tokens) for target in targets], np.int64) if targets else None,
            [token_roles(target) for target in targets] if measured else (),
        )

    def side(self, sequence: str) -> NDArray[np.int64]:
        """Tokens of each example's ``source`` or ``target``."""
        if sequence == "source":
            return self.lengths
        assert self.target_lengths is not None, "the examples have no targets"
        return self.target_lengths

    def runs(self, heads: int, axes: Axes = ONE_SEQUENCE) -> list[Run]:
        """Ranges that share their lengths and fit into a cache; as :meth:`equal_lengths`.

        Args:
            heads: maps per example that are packed at once.
            axes: sequences of query and key tokens.
        """
        runs = []
        for first, last, queries, keys in self.equal_lengths(axes):
            step = max(1, CACHED_WEIGHTS // (heads * queries * keys))
            runs += [(i, min(i + step, last), queries, keys) for i in range(first, last, step)]
        return runs

    def equal_lengths(self, axes: Axes = ONE_SEQUENCE) -> list[Run]:
        """Half-open ranges that share their lengths: ``(start, stop, queries, keys)``."""
        sides = np.stack([self.side(sequence) for sequence in axes], 1)
        changes = np.flatnonzero(np.diff(sides, axis=0).any(1)) + 1
        edges = [0, *changes.tolist(), len(sides)]
        return [
            (first, last, *sides[first].tolist())
            for first, last in zip(edges, edges[1:], strict=False)
            if first < last
        ]
