"""Head metrics on the device, over whole batches: the numbers of :func:`qkvault.head_metrics`.

The definitions are :mod:`qkvault.metrics`'. What they ask of a row of attention is taken first, a
few numbers per query token, and then averaged over the tokens that count; so a batch may come as
tiles of query rows and no whole map need exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from qkvault import METRICS, WITHIN_ONE_SEQUENCE, Mask, TokenRoles, visible_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

LEAST_REST: Final = 1e-12
"""A query that leaves less to all but the first token has no distribution over the rest."""

CELLS_AT_ONCE: Final = 1 << 22
"""Attention weights taken at a time; working memory is as large again."""

FEW_MAPS: Final = 4
"""So many maps or fewer are multiplied faster cell by cell than as products of matrices."""

SHORT_ROWS: Final = 64
"""Rows of fewer keys are folded to their maximum faster than torch reduces them on a CPU: of 168
maps of 54 tokens 139 against 283 us, of 96 maps of 96 tokens 174 against 69 us."""

_ROWS: Final = (
    *("max", "self", "previous", "next", "first"),
    *("special", "content", "in_first", "in_second", "rest"),
    *("rest_surprise", "rest_distance"),
)
"""What is taken of a row of attention. The rest is all but the first token; its surprise is the sum
of ``a ln a``. Logarithms and quotients are left to :meth:`HeadMetrics.average`, which takes many
layers at once: on short texts the number of operations costs more than the work."""

_PLACE: Final = {name: place for place, name in enumerate(_ROWS)}


class HeadMetrics:
    """Measures the heads of one batch, layer after layer.

    Args:
        lengths: tokens of each example; query tokens, in cross-attention.
        roles: of each example's tokens; of its query tokens, in cross-attention.
        device: where attention will be.
        keys: lengths and roles of the key tokens, in cross-attention.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        roles: Sequence[TokenRoles],
        device: torch.device,
        keys: tuple[Sequence[int], Sequence[TokenRoles]] | None = None,
    ) -> None:
        asking = _Tokens(lengths, roles)
        asked = asking if keys is None else _Tokens(*keys)
        self._crosses = keys is not None
        self._key_lengths = asked.lengths
        some = asking.own.any(1, keepdims=True)
        queries = np.where(some, asking.own, asking.there)
        rest = asked.there & (np.arange(asked.there.shape[1]) > 0)
        kinds = np.stack([asked.special, asked.content, *asked.texts, rest], 1).astype(np.float32)
        pairs = asking.texts[0].any(1) & asking.texts[1].any(1)
        self._device = device
        self._kinds = torch.from_numpy(kinds).to(device)  # (example, kind, key_token)
        self._queries = torch.from_numpy(queries).to(device)  # (example, query_token)
        self._texts = [torch.from_numpy(text).to(device) for text in asking.texts]
        self._pairs = torch.from_numpy(pairs).to(device)
        longest = max(queries.shape[1], rest.shape[1])
        self._steps = torch.arange(longest, dtype=torch.float32, device=device)
        self._spans: dict[Mask, Tensor] = {}
        self._away: dict[tuple[int, int], Tensor] = {}
        self._scratch = torch.empty(0, device=device)

    def measure(self, attention: Tensor, mask: Mask) -> Tensor:
        """Measure the heads of one layer.

        Args:
            attention: ``(example, head, query_token, key_token)``, padded; rows of tokens that are
                there give padded keys 0, other rows may hold anything.
            mask: the layer's; which keys a query sees.

        Returns:
            float32 ``(example, head, metric)``, in the order of ``qkvault.METRICS``.
        """
        return self.average(self.take(attention), mask)

    def take(self, attention: Tensor) -> Tensor:
        """Take what the metrics need of whole maps; as :meth:`take_rows`."""
        examples, heads, queries, keys = attention.shape
        cells = queries * keys
        if examples * heads * cells <= CELLS_AT_ONCE:
            return self.take_rows(attention, 0)
        rows = torch.empty((len(_ROWS), examples, heads, queries), device=attention.device)
        together = max(1, CELLS_AT_ONCE // cells)
        for example in range(examples):  # heads of one example lie side by side: nothing is copied
            for head in range(0, heads, together):
                part = (slice(example, example + 1), slice(head, head + together))
                rows[(slice(None), *part)] = self.take_rows(attention[part], 0, part[0])
        return rows

    def take_rows(self, attention: Tensor, start: int, examples: slice = slice(None)) -> Tensor:
        """Take what the metrics need of some query rows.

        Args:
            attention: ``(example, head, query_token, key_token)``: all keys of some queries.
            start: place of the first of these queries in the text.
            examples: which of the batch these are.

        Returns:
            float32 ``(number, example, head, query_token)``, for :meth:`average`.
        """
        weights = attention.float()
        count, heads, queries, keys = weights.shape
        rows = weights.new_zeros((len(_ROWS), count, heads, queries))
        flat = weights.reshape(count, heads * queries, keys)
        masses = torch.bmm(self._kinds[examples], flat.transpose(1, 2))  # (example, kind, row)
        rows[5:10] = masses.view(count, -1, heads, queries).transpose(0, 1)
        _largest(weights, rows[0])
        for place, offset in ((1, 0), (2, -1), (3, 1)):
            found = weights.diagonal(start + offset, -2, -1)  # a[i, i + offset]
            first = max(-start - offset, 0)
            rows[place, :, :, first : first + found.shape[-1]] = found
        rows[4] = weights[..., 0]
        torch.sum(self._surprise(weights)[..., 1:], -1, out=rows[10])
        rows[11] = self._weigh(weights, self._distances(start, queries))
        return rows

    def average(self, rows: Tensor, mask: Mask) -> Tensor:
        """Average rows over the query tokens that count.

        Args:
            rows: of :meth:`take_rows`, ``(number, example, head, query_token)``, of all queries;
                heads of several layers may follow each other.
            mask: theirs.

        Returns:
            float32 ``(example, head, metric)``.
        """
        first, rest = rows[_PLACE["first"]], rows[_PLACE["rest"]]
        steps = self._steps[: rows.shape[3]]
        # Sums over the rest come first and the first token's part is added, not the other way:
        # where the first token takes nearly all, a difference would be rounding alone.
        surprise, distance = rows[_PLACE["rest_surprise"]], rows[_PLACE["rest_distance"]]
        total = rest + first
        entropy = total.log() - (surprise + torch.special.xlogy(first, first)) / total
        queries = self._queries[:, None]  # (example, 1, query_token)
        span = self._span(mask)[:, None]
        texts = [text[:, None] & self._pairs[:, None, None] for text in self._texts]
        left = queries & (rest > LEAST_REST)
        values = torch.stack(
            [
                _mean(entropy, queries),
                _mean(entropy / span, queries & (span > 0)),
                _mean(rows[_PLACE["max"]], queries),
                _mean((distance + first * steps) / total, queries),
                *_mean(rows[_PLACE["self"] : _PLACE["content"] + 1], queries),
                _mean(rows[_PLACE["in_second"]], texts[0]),
                _mean(rows[_PLACE["in_first"]], texts[1]),
                _mean(rest.log() - surprise / rest, left),
                _mean(distance / rest, left),
            ],
            -1,
        )
        if self._crosses:
            values[..., [METRICS.index(name) for name in WITHIN_ONE_SEQUENCE]] = torch.nan
        return values

    def _distances(self, start: int, queries: int) -> Tensor:
        """Distance of some queries from each key but the first, ``(query_token, key_token)``."""
        kept = self._away.get((start, queries))
        if kept is None:
            steps = self._steps[start : start + queries]
            kept = (steps[:, None] - self._steps[None, : self._kinds.shape[2]]).abs_()
            kept[:, 0] = 0.0
            if start == 0:  # tiles of long texts are each met once per layer, and are large
                self._away[start, queries] = kept
        return kept

    def _surprise(self, weights: Tensor) -> Tensor:
        """``a ln a``, 0 for 0, in memory that the next call overwrites."""
        out = self._scratch_like(weights)
        torch.clamp_min(weights, torch.finfo(torch.float32).tiny, out=out)
        if out.device.type == "cpu":  # numpy's logarithm takes a third of the time of torch's
            values = out.numpy()
            np.log(values, out=values)
        else:
            out.log_()
        return out.mul_(weights)

    def _weigh(self, weights: Tensor, factors: Tensor) -> Tensor:
        """Sum of each row times a ``(query_token, key_token)`` of factors."""
        # A product of matrices copies the maps first, unless they are of one example.
        if weights.shape[0] == 1 and weights.shape[1] > FEW_MAPS:
            return torch.einsum("bhij,ij->bhi", weights, factors)
        return torch.mul(weights, factors, out=self._scratch_like(weights)).sum(-1)

    def _scratch_like(self, x: Tensor) -> Tensor:
        if self._scratch.numel() < x.numel():
            self._scratch = x.new_empty(x.numel())
        return self._scratch[: x.numel()].view(x.shape)

    def _span(self, mask: Mask) -> Tensor:
        """ln of how many keys each query sees, ``(example, query_token)``."""
        span = self._spans.get(mask)
        if span is None:
            low, high = visible_range(mask, range(self._queries.shape[1]), self._kinds.shape[2])
            seen = np.minimum(high, self._key_lengths[:, None]) - low
            logs = np.log(np.maximum(seen, 1)).astype(np.float32)
            span = self._spans.setdefault(mask, torch.from_numpy(logs).to(self._device))
        return span


class _Tokens:
    """The roles of a batch's tokens along one axis: each bool ``(example, token)``, padded."""

    def __init__(self, lengths: Sequence[int], roles: Sequence[TokenRoles]) -> None:
        self.lengths = np.asarray(lengths, np.int64)
        longest = int(self.lengths.max())
        self.there = np.arange(longest) < self.lengths[:, None]
        self.special = _pad([role.special for role in roles], longest)
        self.own = self.there & ~self.special
        self.content = self.own & ~_pad([role.punctuation for role in roles], longest)
        self.texts = [
            self.own & _pad([role.segments == number for role in roles], longest)
            for number in (0, 1)
        ]


def _largest(weights: Tensor, out: Tensor) -> None:
    """Largest weight of each row, into ``out``."""
    if weights.device.type != "cpu" or weights.shape[-1] >= SHORT_ROWS:
        torch.amax(weights, -1, out=out)
        return
    left, width = weights, weights.shape[-1]
    while width > 1:
        half = (width + 1) // 2
        left = torch.maximum(left[..., :half], left[..., width - half : width])
        width = half
    out.copy_(left[..., 0])


def _pad(rows: Sequence[NDArray[np.bool_]], longest: int) -> NDArray[np.bool_]:
    padded = np.zeros((len(rows), longest), np.bool_)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the query tokens that count; NaN over none.

    Rows that do not count may hold anything, NaN too, so they are overwritten, not weighted.
    """
    return values.masked_fill(~counted, 0.0).sum(-1) / counted.sum(-1)
