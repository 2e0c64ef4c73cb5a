"""Attention computed tile by tile, so that no map of all tokens by all tokens ever exists.

It stands in for the model's own attention function where attention is to be derived, not stored. A
tile is some examples with all their rows where texts are short, and some query rows of one example
where they are long; whoever wants to know of the weights sees each tile once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from qkvault import (
    ARITHMETIC_ERROR,
    Mask,
    Recipe,
    bias_by_distance,
    bound_weights,
    head_terms,
    visible_range,
)
from qkvault_extractor.batch import ONE_SEQUENCE
from qkvault_extractor.unfit import Flaw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

CELLS: Final = {"cpu": 1 << 20}
"""Attention weights of a tile, by kind of device, where that is less than :data:`MOST_CELLS`."""

MOST_CELLS: Final = 1 << 24

MASKS_OTHERS: Final = Flaw(
    "the model masks other keys on it than its rule says, so that its attention cannot be derived",
    "use --attention store",
)

TileCall = Callable[[int, int, int, "Tensor"], None]
"""Told of a tile: the call's index, first example, first query token, weights
``(example, head, query_token, key_token)`` that the next tile overwrites."""


def by_side(
    lengths: Sequence[int], target_lengths: Sequence[int] | None
) -> dict[str, Sequence[int]]:
    """Tokens of each example by the sequence they are of, that of the target where there is one."""
    target = {} if target_lengths is None else {"target": target_lengths}
    return {"source": lengths, **target}


class TiledAttention:
    """Computes the attention of a model's calls by their recipes.

    Args:
        recipes: of each call of a forward pass, all known.
        on_tile: told of each tile; None where nobody wants to know.
        axes: of each call, the sequences of its query tokens and key tokens; the only one there is
            if not given.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        on_tile: TileCall | None,
        axes: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        self._recipes = recipes
        self._on_tile = on_tile
        self._axes = axes
        self._lengths: dict[str, Tensor] = {}
        self._checked: dict[tuple[Mask, tuple[str, str]], Tensor] = {}
        self._mismatches: list[Tensor] = []

    def start(
        self,
        lengths: Sequence[int],
        device: torch.device,
        target_lengths: Sequence[int] | None = None,
    ) -> None:
        """Begin a batch: tokens of each example, and of its target where there is one."""
        sides = by_side(lengths, target_lengths)
        self._lengths = {side: torch.tensor(own, device=device) for side, own in sides.items()}
        self._checked.clear()
        self._mismatches.clear()

    def finish(self) -> dict[int, Flaw]:
        """End a batch; tells of examples of which the model masked other keys than its recipe says,
        by their place."""
        if not self._mismatches:
            return {}
        broken = torch.stack(self._mismatches).any(0).nonzero().flatten()
        return dict.fromkeys(broken.tolist(), MASKS_OTHERS)

    def __call__(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
    ) -> Tensor:
        """Compute one call.

        Args:
            index: the call's.
            query, key, value: ``(example, head, token, dim)``, keys and values not repeated.
            mask: additive or boolean, ``(example, 1, query_token, key_token)``, or None.
            scaling: factor of the scores.

        Returns:
            ``(example, query_token, head, value_dim)``.
        """
        recipe = self._recipes[index]
        if mask is not None:
            axes = ONE_SEQUENCE if self._axes is None else self._axes[index]
            self._check_mask(mask, recipe.mask, axes)
        out = value.new_empty((query.shape[0], query.shape[2], query.shape[1], value.shape[3]))
        query, key, value = query.float(), key.float(), value.float()  # once, not for each tile
        for examples, rows in cut(query, key.shape[2]):
            part = None if mask is None else mask[examples, :, rows]
            weights = weigh(query[examples, :, rows], key[examples], part, scaling, recipe, rows)
            if self._on_tile is not None:
                self._on_tile(index, examples.start, rows.start, weights)
            mixed = _multiply(weights, value[examples])
            out[examples, rows] = mixed.transpose(1, 2)
        return out

    def _check_mask(self, mask: Tensor, rule: Mask, axes: tuple[str, str]) -> None:
        """Note whether a mask hides what its rule and padding hide; layers mostly share one."""
        known = self._checked.get((rule, axes))
        if not self._lengths or (known is not None and known.data_ptr() == mask.data_ptr()):
            return
        self._checked[rule, axes] = mask  # held, so that no other one comes to lie in its place
        asking, there = (self._lengths[sequence][: len(mask), None] for sequence in axes)
        self._mismatches.append(breaks_rule(mask, rule, asking, there))


def breaks_rule(mask: Tensor, rule: Mask, asking: Tensor, there: Tensor) -> Tensor:
    """Whether a mask hides other keys than a rule and padding do, bool ``(example,)``.

    Args:
        mask: additive or boolean, ``(example, 1, query_token, key_token)``.
        rule: the layer's.
        asking, there: query tokens and key tokens that are no padding, int64 ``(example, 1)``.
    """
    examples, heads, queries, keys = mask.shape
    if heads != 1:
        return torch.ones(examples, dtype=torch.bool, device=mask.device)
    broken = torch.zeros(examples, dtype=torch.bool, device=mask.device)
    step = max(1, MOST_CELLS // (examples * keys))
    for start in range(0, queries, step):
        rows = range(start, min(start + step, queries))
        shown = mask[:, 0, rows.start : rows.stop]
        seen = shown if shown.dtype == torch.bool else shown == 0
        differs = seen != shown_keys(rule, rows, keys, there)
        real = torch.arange(rows.start, rows.stop, device=mask.device) < asking
        broken |= (differs & real[:, :, None]).flatten(1).any(1)
    return broken


def shown_keys(rule: Mask, rows: range, keys: int, there: Tensor) -> Tensor:
    """Which keys some query tokens see, bool ``(example, query_token, key_token)``.

    Args:
        rule: the layer's.
        rows: the query tokens.
        keys: key tokens, padding included.
        there: those that are no padding, int64 ``(example, 1)``.
    """
    low, high = _range(rule, rows, keys, there.device)
    places = torch.arange(keys, device=there.device)
    seen = (places >= low[:, None]) & (places < high[:, None])
    return seen & (places < there)[:, None]


def cut(query: Tensor, keys: int) -> Iterator[tuple[slice, slice]]:
    """Examples and query rows of each tile, of no more weights than suit the device if may be.

    Args:
        query: ``(example, head, query_token, dim)``.
        keys: key tokens.
    """
    cells = CELLS.get(query.device.type, MOST_CELLS)
    examples, heads, queries, _ = query.shape
    together = max(1, cells // (heads * queries * keys))
    rows = queries if together > 1 else max(1, min(queries, cells // (heads * keys)))
    for first in range(0, examples, together):
        for row in range(0, queries, rows):
            yield (
                slice(first, min(first + together, examples)),
                slice(row, min(row + rows, queries)),
            )


def weigh(
    query: Tensor, key: Tensor, mask: Tensor | None, scaling: float, recipe: Recipe, rows: slice
) -> Tensor:
    """Attention weights of a tile, float32 ``(example, head, query_token, key_token)``.

    Args:
        query, key: of its examples; of all query tokens those of ``rows``.
        mask: additive or boolean, ``(example, 1, query_token, key_token)``; where None, the
            recipe's own rule holds, and nothing is padding.
        scaling: factor of the scores.
        recipe: the layer's.
        rows: the tile's query tokens.
    """
    scores = _multiply(query.float(), key.float().transpose(2, 3))
    scores *= scaling
    if recipe.softcap is not None:
        scores.div_(recipe.softcap).tanh_().mul_(recipe.softcap)
    bias = _bias(recipe, scores.shape, rows, scores.device)
    if bias is not None:
        scores += bias
    # The least number, not -inf: rows of padding may see nothing, and must not become NaN.
    least = torch.finfo(torch.float32).min
    if mask is None:
        hidden = _hidden(recipe.mask, rows, scores.shape[3], scores.device)
        if hidden is not None:
            scores.masked_fill_(hidden, least)
    elif mask.dtype == torch.bool:
        scores.masked_fill_(~mask, least)
    else:
        scores += mask
    return _softmax(scores, recipe)


def bound(
    query: Tensor,
    key: Tensor,
    scaling: float,
    recipe: Recipe,
    rows: slice,
    weights: Tensor,
    precision: str,
) -> Tensor:
    """How far a tile's weights of half precision may be from exact ones, ``(example, head,
    query_token, key_token)``; arguments as of :func:`weigh`, which gave ``weights``, and
    :func:`qkvault.bound_weights`."""
    scaled = capped = _multiply(query.float(), key.float().transpose(2, 3)) * scaling
    if recipe.softcap is not None:
        capped = torch.tanh(scaled / recipe.softcap) * recipe.softcap
    bias = _bias(recipe, scaled.shape, rows, scaled.device)
    slopes, sinks = (
        None if values is None else scaled.new_tensor(values)[:, None, None]
        for values in head_terms(recipe, range(query.shape[1]))
    )
    parts = (scaled, capped, capped if bias is None else capped + bias, slopes, sinks)
    found: Tensor = bound_weights(torch, precision, weights, recipe, *parts)
    return found + ARITHMETIC_ERROR


def _softmax(scores: Tensor, recipe: Recipe) -> Tensor:
    sinks = recipe.sinks
    if sinks is None or sinks.mode != "softmax":
        return torch.softmax(scores, -1)
    sink = scores.new_tensor(sinks.values)[:, None, None].expand(*scores.shape[:3], 1)
    return torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Products per head; the heads of ``left`` that share one of ``right`` in one product."""
    examples, heads, rows, width = left.shape
    shared = heads // right.shape[1]
    if shared == 1:
        return torch.matmul(left, right)
    grouped = left.reshape(examples, right.shape[1], shared * rows, width)
    return torch.matmul(grouped, right).view(examples, heads, rows, right.shape[3])


def _bias(recipe: Recipe, shape: Sequence[int], rows: slice, device: torch.device) -> Tensor | None:
    """What slopes and bias add to a tile, ``(head, query_token, key_token)``."""
    if recipe.slopes is None and recipe.bias is None:
        return None
    _, heads, _, keys = shape
    most = max(keys, rows.stop)
    by_distance = _bias_table(recipe, heads, 1 - most, keys, device)
    windows = by_distance.unfold(1, keys, 1)  # row i starts at distance -i, place most - 1 - i
    return windows[:, most - rows.stop : most - rows.start].flip(1)


@lru_cache(maxsize=64)
def _bias_table(recipe: Recipe, heads: int, low: int, high: int, device: torch.device) -> Tensor:
    table = bias_by_distance(recipe, range(heads), low, high)
    assert table is not None
    return torch.from_numpy(np.ascontiguousarray(table)).to(device)


@lru_cache(maxsize=64)
def _range(mask: Mask, rows: range, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
    low, high = visible_range(mask, rows, keys)
    return torch.from_numpy(low).to(device), torch.from_numpy(high).to(device)


def _hidden(mask: Mask, rows: slice, keys: int, device: torch.device) -> Tensor | None:
    """Where a rule hides the key, bool ``(query_token, key_token)``; None for nowhere."""
    if mask == Mask():
        return None
    low, high = _range(mask, range(rows.start, rows.stop), keys, device)
    places = torch.arange(keys, device=device)
    return (places < low[:, None]) | (places >= high[:, None])
