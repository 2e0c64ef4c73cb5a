"""Derived vaults of models that compute attention in code of their own.

Nothing can stand in for such code. The model runs as it is; maps that its code makes exist while a
layer runs, are looked at and not kept. Where it calls torch's fused function there are none: then
weights are computed beside it, in tiles. Either way some rows of every example are held against
what the recipe gives, so that no text is derived by a rule that its attention does not follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch

from qkvault_extractor.native import TOLERANCE
from qkvault_extractor.recipes import DERIVED_TOLERANCE, HALF
from qkvault_extractor.tiles import bound, by_side, cut, shown_keys, weigh
from qkvault_extractor.unfit import OVERFLOW, Flaw

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault import Recipe
    from qkvault_extractor.batch import Axes
    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.tiles import TileCall

CHECKED_ROWS: Final = 4
"""Query tokens of the longest and of the shortest example of a batch, in every layer and head, at
which the weights of all examples are held against the recipe's."""


FOLLOWS_NOT: Final = Flaw(
    "its attention is not what its queries and keys give by the model's rule, so that it cannot be "
    "derived",
    "use --attention store",
)
NOT_FINITE: Final = Flaw("its attention is not finite", OVERFLOW)


class WatchedAttention:
    """Looks at the attention calls of a model that computes its attention itself.

    Call it with each :class:`~qkvault_extractor.capture.AttentionCall`.

    Args:
        recipes: of each call of a forward pass, all known.
        axes: of each call, the sequences of its query tokens and key tokens.
        take: told of each call, without its attention, after its tiles.
        on_tile: told of each tile; None where nobody wants to know.
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        axes: Sequence[Axes],
        take: Callable[[AttentionCall], None],
        on_tile: TileCall | None = None,
    ) -> None:
        self._recipes = recipes
        self._axes = axes
        self._take = take
        self._on_tile = on_tile
        self._lengths: dict[str, Tensor] = {}
        self._shortest: dict[str, int] = {}
        self._excesses: list[Tensor] = []

    def start(
        self,
        lengths: Sequence[int],
        device: torch.device,
        target_lengths: Sequence[int] | None = None,
    ) -> None:
        """Begin a batch: tokens of each example, and of its target where there is one."""
        sides = by_side(lengths, target_lengths)
        self._lengths = {side: torch.tensor(own, device=device) for side, own in sides.items()}
        self._shortest = {side: min(own) for side, own in sides.items()}
        self._excesses.clear()

    def finish(self) -> dict[int, Flaw]:
        """End a batch; tells of examples whose attention is not what their recipes give, by their
        place."""
        if not self._excesses:
            return {}
        worst = torch.stack(self._excesses).amax(0).tolist()  # NaN is the largest
        return {
            place: FOLLOWS_NOT if excess == excess else NOT_FINITE
            for place, excess in enumerate(worst)
            if not excess <= 0
        }

    def __call__(self, call: AttentionCall) -> None:
        """Look at a call, and hand it on."""
        # Once, and not for each tile.
        wide = replace(call, query=call.query.float(), key=call.key.float())
        if self._on_tile is not None:
            for examples, rows in cut(call.query, call.key.shape[2]):
                weights = self._tile(wide, examples, rows)
                self._on_tile(call.index, examples.start, rows.start, weights)
        self._check_rows(wide)
        self._take(replace(call, attention=None, output=None))

    def _tile(self, call: AttentionCall, examples: slice, rows: slice) -> Tensor:
        """The model's own weights where there are any, else those that its recipe gives."""
        if call.attention is not None:
            return call.attention[examples, :, rows].float()
        return self._derive(call, examples, rows)

    def _derive(self, call: AttentionCall, examples: slice, rows: slice) -> Tensor:
        recipe, key = self._recipes[call.index], call.key[examples]
        there = self._lengths[self._axes[call.index][1]][examples, None]
        shown = shown_keys(recipe.mask, range(rows.start, rows.stop), key.shape[2], there)
        query = call.query[examples, :, rows]
        return weigh(query, key, shown[:, None], call.scaling, recipe, rows)

    def _check_rows(self, call: AttentionCall) -> None:
        """Note by how much some rows are farther off than rounding explains: evenly spaced ones,
        of the longest example and of the shortest, so that all examples have some."""
        asking = self._lengths[self._axes[call.index][0]]
        places = {
            max(0, (n + 1) * tokens // CHECKED_ROWS - 1)
            for tokens in (call.query.shape[2], self._shortest[self._axes[call.index][0]])
            for n in range(CHECKED_ROWS)
        }
        for place in sorted(places):
            row = slice(place, place + 1)
            derived = self._derive(call, slice(None), row)
            excess = self._excess(call, derived, row)  # (example,)
            self._excesses.append(torch.where(place < asking, excess, 0.0))

    def _allowed(self, call: AttentionCall, derived: Tensor, row: slice) -> Tensor | float:
        precision = HALF.get(call.weights.dtype)
        if precision is None:
            return DERIVED_TOLERANCE
        query, recipe = call.query[:, :, row], self._recipes[call.index]
        return bound(query, call.key, call.scaling, recipe, row, derived, precision)

    def _excess(self, call: AttentionCall, derived: Tensor, row: slice) -> Tensor:
        """How far the rows of each example differ beyond what is allowed, ``(example,)``."""
        if call.attention is not None:
            difference = (derived - call.attention[:, :, row]).abs()
            return (difference - self._allowed(call, derived, row)).flatten(1).amax(1)
        assert call.output is not None, "attention, or what came of it, is there"
        shared = call.query.shape[1] // call.value.shape[1]
        values = call.value.repeat_interleave(shared, 1).to(derived.dtype)
        mixed, own = derived @ values, call.output[:, :, row]
        size = own.abs().flatten(1).amax(1).clamp(min=1.0)
        allowed = size * max(TOLERANCE, 2 * torch.finfo(own.dtype).eps)
        return (mixed - own).abs().flatten(1).amax(1) - allowed
