"""Thumbnails and head metrics of one layer, gathered while its attention goes by in tiles."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from qkvault import THUMBNAIL_SIDE
from qkvault_extractor.codes import to_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from qkvault_extractor.metrics import HeadMetrics

Run = tuple[int, int, int, int]
"""Examples of equal lengths: first, one after the last, query tokens, key tokens."""


class LayerSummary:
    """What is kept of a layer's attention where attention itself is not.

    Args:
        runs: the batch's examples by length, in order.
        meter: measures heads; None where metrics are not kept.
    """

    def __init__(self, runs: Sequence[Run], meter: HeadMetrics | None) -> None:
        self._runs = runs
        self._meter = meter
        self._numbers: dict[tuple[int, int], Tensor] = {}
        self._maps: list[Tensor | None] = [None] * len(runs)

    def add(self, first: int, start: int, weights: Tensor) -> None:
        """Take a tile.

        Args:
            first: its first example in the batch.
            start: its first query token.
            weights: float32 ``(example, head, query_token, key_token)``, overwritten afterwards.
        """
        stop = first + len(weights)
        if self._meter is not None:
            rows = self._meter.take_rows(weights, start, slice(first, stop))
            self._numbers[first, start] = rows
        for place, (low, high, queries, keys) in enumerate(self._runs):
            a, b = max(low, first), min(high, stop)
            rows_left = min(weights.shape[2], queries - start)
            if a < b and rows_left > 0:
                part = weights[a - first : b - first, :, :rows_left, :keys]
                self._add_map(place, slice(a - low, b - low), start, part)

    def thumbnails(self) -> list[tuple[int, Tensor]]:
        """First example and codes of each run, uint8 ``(example, head, query_bin, key_bin)``."""
        found = []
        for (low, _, *sides), pooled in zip(self._runs, self._maps, strict=True):
            assert pooled is not None, "a tile is missing"
            if max(sides) > THUMBNAIL_SIDE:
                pooled = to_codes(pooled.clamp_(max=1.0), "uint8", pooled)
            found.append((low, pooled.to(torch.uint8)))
        return found

    def metric_rows(self) -> Tensor:
        """What the layer's metrics need, float32 ``(number, example, head, query_token)``."""
        parts = []
        for first in sorted({first for first, _ in self._numbers}):
            starts = sorted(start for other, start in self._numbers if other == first)
            tiles = [self._numbers[first, start] for start in starts]
            parts.append(torch.cat(tiles, 3) if len(tiles) > 1 else tiles[0])
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _add_map(self, place: int, examples: slice, start: int, part: Tensor) -> None:
        """Code a short text's rows at once; sum a longer one's into its bins."""
        low, high, queries, keys = self._runs[place]
        height, width = (min(tokens, THUMBNAIL_SIDE) for tokens in (queries, keys))
        target = self._maps[place]
        if target is None:
            target = part.new_zeros((high - low, part.shape[1], height, width))
            self._maps[place] = target
        rows = slice(start, start + part.shape[2])
        if (height, width) == (queries, keys):
            to_codes(part, "uint8", target[examples, :, rows])
            return
        if keys > THUMBNAIL_SIDE:
            part = torch.matmul(part, _bins(keys, part.device)[0])  # (..., query_token, key_bin)
        if queries > THUMBNAIL_SIDE:
            target[examples] += torch.matmul(_bins(queries, part.device)[1][:, rows], part)
        else:
            target[examples, :, rows] = part


@lru_cache(maxsize=128)
def _bins(tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """What sums key tokens into bins, ``(key_token, bin)``; what averages query tokens,
    ``(bin, query_token)``."""
    edges = np.arange(THUMBNAIL_SIDE + 1) * tokens // THUMBNAIL_SIDE
    sizes = np.diff(edges)
    member = np.zeros((tokens, THUMBNAIL_SIDE), np.float32)
    member[np.arange(tokens), np.repeat(np.arange(THUMBNAIL_SIDE), sizes)] = 1.0
    mean = (member / sizes.astype(np.float32)).T
    return (
        torch.from_numpy(member).to(device),
        torch.from_numpy(np.ascontiguousarray(mean)).to(device),
    )
