"""Thumbnails on the device: bit for bit what :func:`qkvault.make_thumbnail` gives, faster.

Up to 64 tokens a thumbnail is the map itself. Beyond, bin ``i`` of 64 holds tokens
``floor(i*S/64)`` up to ``floor((i+1)*S/64)``: either ``k = S // 64`` of them or ``k + 1``. So the
first tokens of all bins are picked at once, then the second ones, and so on, and added.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from qkvault import THUMBNAIL_SIDE

Bins = tuple[Tensor, Tensor, Tensor]

LONGEST_EXACT: Final = 8 * THUMBNAIL_SIDE
"""Tokens up to which :func:`pool` adds in numpy's order; in longer bins numpy sums in blocks."""

LONGEST_FASTER: Final = {"cpu": 4 * THUMBNAIL_SIDE}
"""Tokens up to which :func:`pool` beats numpy, where that is less, by kind of device."""


def is_poolable(tokens: int, device: torch.device) -> bool:
    """Say whether maps of this length are for :func:`pool`; others are for the numpy reference."""
    return THUMBNAIL_SIDE < tokens <= LONGEST_FASTER.get(device.type, LONGEST_EXACT)


def pool(attention: Tensor) -> Tensor:
    """Pool maps to 64 x 64: mean over the query tokens of a bin, sum over its key tokens.

    Args:
        attention: float32 ``(..., S, S)`` with 64 < S <= :data:`LONGEST_EXACT`, on any device.

    Returns:
        float32 ``(..., 64, 64)`` weights, not yet coded.
    """
    bins = _bins(attention.shape[-1], attention.device)
    sums = _sum_bins(attention, -1, bins)  # (..., query_token, key_bin)
    sums = _sum_bins(sums, -2, bins)  # (..., query_bin, key_bin)
    return sums.div_(bins[0][:, None])


@lru_cache(maxsize=512)
def _bins(tokens: int, device: torch.device) -> Bins:
    """Sizes of the 64 bins (float32 [64]), their first tokens, and which are the longer ones."""
    edges = np.arange(THUMBNAIL_SIDE + 1) * tokens // THUMBNAIL_SIDE
    sizes = np.diff(edges)
    longer = np.flatnonzero(sizes > tokens // THUMBNAIL_SIDE)
    parts = (sizes.astype(np.float32), edges[:-1].copy(), longer)
    sizes_, starts, longer_ = (torch.from_numpy(part).to(device) for part in parts)
    return sizes_, starts, longer_


def _sum_bins(x: Tensor, axis: int, bins: Bins) -> Tensor:
    """Sum the tokens of each bin along the last axis or the one before it.

    Numpy adds a run as ``x0 + (((x1 + x2) + x3) + ...)``: the first, plus the running sum of those
    that follow. The same order here is what makes the results equal.
    """
    sizes, starts, longer = bins
    fewest = x.shape[axis] // THUMBNAIL_SIDE
    first = _pick(x, axis, starts)
    following = _pick(x, axis, starts + 1) if fewest > 1 else first
    for place in range(2, fewest):
        following.add_(_pick(x, axis, starts + place))
    if len(longer):
        following.index_add_(axis, longer, _pick(x, axis, starts[longer] + fewest))
    return first if following is first else first.add_(following)


def _pick(x: Tensor, axis: int, tokens: Tensor) -> Tensor:
    if axis == -1:  # index_select is several times slower than gather along the last axis
        return x.gather(-1, tokens.expand(*x.shape[:-1], len(tokens)))
    return x.index_select(axis, tokens)
