"""Thumbnails on the device: bit for bit what :func:`qkvault.make_thumbnail` gives, faster.

Up to 64 tokens a thumbnail is the map itself. Beyond, bin ``i`` of 64 holds tokens
``floor(i*S/64)`` up to ``floor((i+1)*S/64)``: either ``k = S // 64`` of them or ``k + 1``. So the
sums of ``k`` and of ``k + 1`` neighbours are computed at every position, as whole-array additions,
and then the 64 that are bins are picked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from qkvault import THUMBNAIL_SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_POOLED: Final = {"cpu": 2 * THUMBNAIL_SIDE}
"""Tokens up to which :func:`pool` is faster than numpy, per kind of device."""

LONGEST_EXACT: Final = 8 * THUMBNAIL_SIDE
"""Tokens up to which :func:`pool` adds in numpy's order; in longer bins numpy sums in blocks."""


def is_poolable(tokens: int, device: torch.device) -> bool:
    """Say whether maps of this length are for :func:`pool`; others are for the numpy reference."""
    return THUMBNAIL_SIDE < tokens <= LONGEST_POOLED.get(device.type, LONGEST_EXACT)


def pool(attention: Tensor) -> Tensor:
    """Pool maps to 64 x 64: mean over the query tokens of a bin, sum over its key tokens.

    Args:
        attention: float32 ``(..., S, S)`` with 64 < S <= 512, on any device.

    Returns:
        float32 ``(..., 64, 64)`` weights, not yet coded.
    """
    tokens = attention.shape[-1]
    starts, sizes = _bins(tokens)
    place = starts + tokens * (sizes - tokens // THUMBNAIL_SIDE)
    pick = torch.from_numpy(place).to(attention.device)
    sums = _neighbour_sums(attention, -1).flatten(-2)  # (..., query_token, 2 * key_token)
    sums = sums.gather(-1, pick.expand(*sums.shape[:-1], THUMBNAIL_SIDE))
    sums = _neighbour_sums(sums, -2).flatten(-3, -2)  # (..., 2 * query_token, key_bin)
    sums = sums.index_select(-2, pick)
    counts = torch.from_numpy(sizes.astype(np.float32)).to(attention.device)
    return sums.div_(counts[:, None])


@lru_cache(maxsize=512)
def _bins(tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First token and number of tokens of each of the 64 bins, int64 [64] each."""
    edges = np.arange(THUMBNAIL_SIDE + 1) * tokens // THUMBNAIL_SIDE
    return edges[:-1].copy(), np.diff(edges)


def _neighbour_sums(x: Tensor, axis: int) -> Tensor:
    """Sums of ``k`` and of ``k + 1`` neighbours from each position on, ``k = S // 64``.

    Numpy adds a run of neighbours as ``x0 + (((x1 + x2) + x3) + ...)``: ``x0`` plus the running sum
    of those that follow it. The same order here is what makes the results equal.

    Returns:
        ``x`` with an axis of 2 put before ``axis``; positions too near the end are unspecified.
    """
    tokens = x.shape[axis]
    fewest = tokens // THUMBNAIL_SIDE
    shape = list(x.shape)
    shape.insert(len(shape) + axis, 2)
    sums = x.new_empty(shape)
    if fewest == 1:
        sums.select(axis - 1, 0).copy_(x)
    following = x  # from each position on, the sum of `size - 1` neighbours
    for size in range(2, fewest + 2):
        left = tokens - size + 1  # positions that have `size` neighbours
        if size > 2:
            following = following.narrow(axis, 0, left + 1) + x.narrow(axis, size - 2, left + 1)
        if size >= fewest:
            out = sums.select(axis - 1, size - fewest).narrow(axis, 0, left)
            torch.add(x.narrow(axis, 0, left), following.narrow(axis, 1, left), out=out)
    return sums
