"""Which examples of a unit share a forward pass: a pure function of their lengths.

So a unit that is computed again gives the same bytes: the rounding of a matrix product may depend
on what else is in the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_TOKENS: Final = {"cpu": 768, "cuda": 16384, "mps": 8192}
"""Tokens of one forward pass, per kind of device.

On a CPU larger batches leave its caches. Measured on MiniLM with MRPC's lengths and one thread, in
seconds of the forward pass alone and with packing: 256 tokens 4.75 and 5.78, 512 4.45 and 5.27, 768
4.34 and 5.20, 1024 4.42 and 5.34, 2048 4.33 and 5.40. The other devices' are not measured.
"""


def plan_batches(
    lengths: NDArray[np.int32],
    budget: int,
    kinds: NDArray[np.int64] | None = None,
    target_lengths: NDArray[np.int32] | None = None,
) -> list[NDArray[np.int64]]:
    """Divide examples into batches of at most ``budget`` tokens, padding included.

    Examples go by ascending length, of their targets first where there are any. A batch is closed
    where the length changes once it holds a quarter of the budget, so that most batches need no
    padding; one example alone may exceed the budget.

    Args:
        lengths: tokens of each example, int32 [N].
        budget: most tokens in one batch.
        kinds: a number per example, int64 [N]; unequal ones share no batch. All alike if None.
        target_lengths: tokens of each one's target, int32 [N]; they count too. None for no targets.

    Returns:
        Positions into ``lengths``, one int64 array per batch, together a permutation.
    """
    if kinds is None:
        kinds = np.zeros(len(lengths), np.int64)
    if target_lengths is None:
        target_lengths = np.zeros(len(lengths), np.int32)
    # Sources of a unit differ by little, their bucket's step; targets by anything.
    order = np.lexsort((lengths, target_lengths, kinds)).astype(np.int64)
    sides = np.stack([lengths, target_lengths], 1)[order].astype(np.int64)  # (example, sequence)
    batches: list[NDArray[np.int64]] = []
    start, padded = 0, sides[0]
    for stop in range(1, len(order) + 1):
        if stop < len(order):
            following = np.maximum(padded, sides[stop])
            count, width, wider = stop - start, int(padded.sum()), int(following.sum())
            parted = kinds[order[stop - 1]] != kinds[order[stop]]
            parted |= wider > width and count * width >= budget // 4
            if (count + 1) * wider <= budget and not parted:
                padded = following
                continue
            padded = sides[stop]
        batches.append(order[start:stop])
        start = stop
    return batches


def default_budget(device: str) -> int:
    """Tokens of one forward pass on a kind of device, where the user does not say."""
    return DEFAULT_TOKENS.get(device, DEFAULT_TOKENS["cpu"])
