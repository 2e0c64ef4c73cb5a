"""Torch's fused attention in place of the model's own, where nobody wants to see the weights.

Where only queries, keys and values are kept, no map of all tokens by all tokens need exist, and the
forward pass costs what it costs in plain inference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch.nn.functional import scaled_dot_product_attention

from qkvault_extractor.capture import Collector
from qkvault_extractor.native import largest_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from qkvault import Recipe, Record
    from qkvault_extractor.model import LoadedModel

SAME_OUTPUT: Final = 1e-3
"""Largest difference of outputs, relative to their size, by which another kernel may differ."""

LONGEST_TRIAL: Final = 512
SHORT_TRIAL: Final = 32
"""Most tokens of the text it is tried on, where that can be shortened: if some layers attend near
by only, and if none does."""


class FusedAttention:
    """Computes attention by ``scaled_dot_product_attention``; see
    :class:`qkvault_extractor.capture.Attend`.

    Args:
        recipes: of each call of a forward pass; plain ones, as :func:`is_plain` says.
    """

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        self._recipes = recipes

    def __call__(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
    ) -> Tensor:
        """Compute one call; arguments and result as :class:`qkvault_extractor.tiles.TiledAttention`
        has them."""
        mixed = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None and self._recipes[index].mask.causal,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return mixed.transpose(1, 2)


def is_plain(recipe: Recipe) -> bool:
    """Whether attention is the softmax of scaled products under a mask, and nothing else."""
    terms = (recipe.unknown, recipe.softcap, recipe.slopes, recipe.bias, recipe.sinks)
    return all(term is None for term in terms)


def fuse(
    loaded: LoadedModel, recipes: Sequence[Recipe], records: Sequence[Record]
) -> FusedAttention | None:
    """Fused attention for a model, if it gives the model's own output on some examples.

    Args:
        loaded: the model, whose attention can be captured at the interface.
        recipes: of each call of a forward pass.
        records: examples to try it on.

    Returns:
        None where the model's own attention has to be used.
    """
    import torch

    if not all(map(is_plain, recipes)):
        return None
    fused = FusedAttention(recipes)
    # Where each token sees all, or all before it, a short text shows as much as a long one.
    near = any(r.mask.window is not None or r.mask.chunk is not None for r in recipes)
    batch = loaded.feed.choose_probe(records, LONGEST_TRIAL if near else SHORT_TRIAL)
    with torch.inference_mode():
        with Collector(loaded.model, lambda _: None):
            own = loaded.forward(batch)
        with Collector(loaded.model, lambda _: None, fused):
            found = loaded.forward(batch)
    same = largest_output(found, own, [record.lengths[-1] for record in batch]) <= SAME_OUTPUT
    return fused if same else None
