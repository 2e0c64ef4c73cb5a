"""Scores and attention derived from queries and keys, by the recipe of :mod:`qkvault.recipe`.

Work goes by blocks of query rows, so that beyond the result no more memory is taken than for one
block, however long the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .errors import InputError, MissingArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .recipe import Mask, Recipe, RelativeBias

_BLOCK_CELLS: Final = 1 << 20  # scores of a block; smaller ones waste time in threads of BLAS


def derive_scores(
    query: NDArray[Any],
    key: NDArray[Any],
    scaling: float,
    recipe: Recipe,
    *,
    key_head: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    first_query: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Scores before softmax; ``-inf`` where the mask hides the key.

    Args:
        query: ``(head, query_token, head_dim)``, any float type.
        key: ``(key_head, key_token, head_dim)``, not repeated for grouped queries.
        scaling: the layer's factor, :attr:`Stack.scaling`.
        recipe: the layer's.
        key_head: for each head of ``query``, its row in ``key``; equal groups in order if not given
            (Ainslie et al. 2023).
        heads: for each head of ``query``, its number in the recipe's tables; from 0 if not given.
        first_query: place of the first query token among the key tokens.
        out: where to write; made if not given.

    Returns:
        float32 ``(head, query_token, key_token)``.

    Raises:
        MissingArray: the recipe says that attention does not follow from queries and keys.
        InputError: shapes that do not fit each other.
    """
    job = _Job(query, key, scaling, recipe, key_head, heads, first_query)
    out = job.output(out)
    for block in job.blocks():
        job.score(block, out)
    return out


def derive_attention(
    query: NDArray[Any],
    key: NDArray[Any],
    scaling: float,
    recipe: Recipe,
    *,
    key_head: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    first_query: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Attention weights; arguments, result and errors as :func:`derive_scores`.

    From float32 queries and keys a weight is within 5e-6 of a float32 model's own. Rounding both to
    float16 moves a score by up to ``2**-10`` of the sum of its products' sizes; on trained models
    weights stay within 2e-3.
    """
    job = _Job(query, key, scaling, recipe, key_head, heads, first_query)
    out = job.output(out)
    for block in job.blocks():
        _softmax(job.score(block, out, hidden=0.0), job.sinks(block))
    return out


def visible_range(
    mask: Mask, queries: range, keys: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First key that each query token sees, and the one after the last; all between are seen.

    Args:
        mask: the rule.
        queries: places of the query tokens among the key tokens, step 1.
        keys: how many key tokens there are.

    Returns:
        Two of int32 ``(query_token,)``.
    """
    i = np.arange(queries.start, queries.stop, dtype=np.int32)
    low, high = np.zeros_like(i), np.full_like(i, keys)
    if mask.causal:
        np.minimum(high, i + 1, out=high)
    if mask.window is not None:
        np.maximum(low, i - mask.window, out=low)
        np.minimum(high, i + min(mask.window, keys) + 1, out=high)
    if mask.chunk is not None:
        start = i - i % mask.chunk
        np.maximum(low, start, out=low)
        np.minimum(high, start + min(mask.chunk, keys), out=high)
    return low, high


def bias_by_distance(
    recipe: Recipe, heads: Sequence[int], low: int, high: int
) -> NDArray[np.float32] | None:
    """What slopes and bias add at each distance ``j - i`` from ``low`` up to ``high``, exclusive.

    Returns:
        float32 ``(head, distance)``; None for a recipe without such terms.
    """
    distances = np.arange(low, high)
    chosen = list(heads)
    total: NDArray[np.float32] | None = None
    if recipe.slopes is not None:
        slopes = np.array(recipe.slopes, np.float32)[chosen]
        total = slopes[:, None] * distances.astype(np.float32)
    if recipe.bias is not None:
        table = _bias_table(recipe.bias, chosen, distances)
        total = table if total is None else total + table
    return total


def _bias_table(
    bias: RelativeBias, heads: list[int], distances: NDArray[np.int64]
) -> NDArray[np.float32]:
    steps = np.searchsorted(np.array(bias.starts), distances, side="right") - 1
    values = np.array([bias.values[head] for head in heads], np.float32)
    return values[:, np.maximum(steps, 0)]


class _Block(NamedTuple):
    """Some query rows of some heads whose key heads follow each other, or are one."""

    heads: slice
    key_heads: slice
    queries: range  # counted among the keys


class _Job:
    """One derivation: its inputs in float32, checked, and how they are cut into blocks."""

    def __init__(
        self,
        query: NDArray[Any],
        key: NDArray[Any],
        scaling: float,
        recipe: Recipe,
        key_head: Sequence[int] | None,
        heads: Sequence[int] | None,
        first_query: int,
    ) -> None:
        if recipe.unknown is not None:
            raise MissingArray(
                f"attention does not follow from queries and keys here: {recipe.unknown};"
                " a vault that stores attention has it"
            )
        self._query = np.asarray(query, np.float32)
        self._key = np.asarray(key, np.float32)
        self._check_shapes(first_query)
        count = len(self._query)
        self._scaling = np.float32(scaling)
        self._recipe = recipe
        self._key_head = self._map_heads(key_head)
        self._heads = range(count) if heads is None else heads
        self._first = first_query

    def _check_shapes(self, first_query: int) -> None:
        query, key = self._query, self._key
        fits = query.ndim == key.ndim == 3 and query.shape[2] == key.shape[2] and len(key)
        if not fits or first_query < 0:
            raise InputError(
                "queries (head, token, dim) and keys (key_head, token, dim) were expected; found"
                f" {query.shape} and {key.shape} from query token {first_query}"
            )

    def _map_heads(self, key_head: Sequence[int] | None) -> list[int]:
        count, kept = len(self._query), len(self._key)
        if key_head is None:
            if count % kept:
                raise InputError(f"{count} heads do not divide among {kept} key heads")
            return [head // (count // kept) for head in range(count)]
        if len(key_head) != count or not all(0 <= k < kept for k in key_head):
            raise InputError(f"{count} heads and {kept} key heads do not fit the map {key_head!r}")
        return list(key_head)

    def output(self, out: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The array to write to, made or checked."""
        shape = (*self._query.shape[:2], self._key.shape[1])
        if out is None:
            return np.empty(shape, np.float32)
        if out.shape != shape or out.dtype != np.float32:
            raise InputError(
                f"an output float32{list(shape)} was expected, not {out.dtype}{list(out.shape)}"
            )
        return out

    def blocks(self) -> Iterator[_Block]:
        """Some whole heads, or some query rows of one head, at most a block's worth of scores."""
        queries, keys = self._query.shape[1], max(self._key.shape[1], 1)
        together = max(1, _BLOCK_CELLS // max(queries * keys, 1))
        rows = max(1, min(queries, _BLOCK_CELLS // keys))
        for heads, key_heads in _pair_heads(self._key_head, together):
            for row in range(0, queries, rows):
                stop = min(row + rows, queries)
                yield _Block(heads, key_heads, range(self._first + row, self._first + stop))

    def score(
        self, block: _Block, out: NDArray[np.float32], hidden: float = -np.inf
    ) -> NDArray[np.float32]:
        """Write a block's scores; returns the part of it whose keys any of its queries may see.

        Args:
            block: from :meth:`blocks`.
            out: the whole result.
            hidden: what to write left and right of that part.
        """
        queries, count = block.queries, self._key.shape[1]
        rows = slice(queries.start - self._first, queries.stop - self._first)
        low, high = visible_range(self._recipe.mask, queries, count)
        if not (low < high).all():
            raise InputError(f"query tokens {queries} see none of {count} key tokens")
        keys = range(int(low.min()), int(high.max()))
        whole = out[block.heads, rows]
        whole[:, :, : keys.start] = hidden
        whole[:, :, keys.stop :] = hidden
        part = whole[:, :, keys.start : keys.stop]
        kept = self._key[block.key_heads, keys.start : keys.stop]
        np.matmul(self._query[block.heads, rows], kept.swapaxes(1, 2), out=part)
        part *= self._scaling
        if self._recipe.softcap is not None:
            cap = np.float32(self._recipe.softcap)
            part /= cap
            np.tanh(part, out=part)
            part *= cap
        self._add_bias(block.heads, queries, keys, part)
        _hide(part, low - keys.start, high - keys.start)
        return part

    def _add_bias(
        self, heads: slice, queries: range, keys: range, part: NDArray[np.float32]
    ) -> None:
        low, high = keys.start - (queries.stop - 1), keys.stop - queries.start
        bias = bias_by_distance(self._recipe, self._heads[heads], low, high)
        if bias is None:
            return
        # Row i of a head reads the bias from its own distance on: a view, nothing is repeated.
        windows = np.lib.stride_tricks.sliding_window_view(bias, len(keys), axis=1)
        part += windows[:, ::-1]

    def sinks(self, block: _Block) -> NDArray[np.float32] | None:
        """Sinks of a block's heads as ``(head, 1, 1)``, where they stand in the softmax."""
        sinks = self._recipe.sinks
        if sinks is None or sinks.mode != "softmax":
            return None
        chosen = [sinks.values[head] for head in self._heads[block.heads]]
        return np.array(chosen, np.float32)[:, None, None]


def _pair_heads(key_head: list[int], most: int) -> Iterator[tuple[slice, slice]]:
    """Cut heads into runs that numpy can multiply at once: one key head each, or one for all."""
    start = 0
    while start < len(key_head):
        step = key_head[start + 1] - key_head[start] if start + 1 < len(key_head) else 0
        stop = start + 1
        while (
            step in (0, 1)
            and stop < len(key_head)
            and stop - start < most
            and key_head[stop] - key_head[stop - 1] == step
        ):
            stop += 1
        yield slice(start, stop), slice(key_head[start], key_head[stop - 1] + 1)
        start = stop


def _hide(scores: NDArray[np.float32], low: NDArray[np.int32], high: NDArray[np.int32]) -> None:
    """Put ``-inf`` where a query does not see the key; columns that all of them see are skipped."""
    keys = np.arange(scores.shape[-1], dtype=np.int32)
    left, right = int(low.max()), int(high.min())
    nothing = np.float32(-np.inf)
    if left > 0:
        np.copyto(scores[:, :, :left], nothing, where=keys[:left] < low[:, None])
    if right < len(keys):
        np.copyto(scores[:, :, right:], nothing, where=keys[right:] >= high[:, None])


def _softmax(scores: NDArray[np.float32], sinks: NDArray[np.float32] | None) -> None:
    """Turn scores into weights in place, along the last axis."""
    top = scores.max(-1, keepdims=True)
    if sinks is not None:
        np.maximum(top, sinks, out=top)
    scores -= top
    np.exp(scores, out=scores)
    total = scores.sum(-1, keepdims=True)
    if sinks is not None:
        total += np.exp(sinks - top)
    scores /= total
