"""How far attention that a model computed is from what exact arithmetic makes of its operands.

A model in half precision rounds the result of every operation to its type: by at most ``u`` of it,
the type's unit roundoff (products are summed in float32 and rounded once). A score goes through few
operations, so that it is off by at most ::

    e = g (2 |s| + 3 |c| + |c| + |a| (n - 1) + |t| + |t - top|),  g = u / (1 - 8 u)

where ``s`` is the scaled product (rounded when multiplied, and when scaled), ``c`` the capped one
(3: division, tanh, multiplication), ``a`` the slope of the head (of the sum no more is known than
that the model counts its distances from one of the ``n`` key tokens), ``t`` the score with its bias
(the sum), and ``top`` the largest of its row, which models with sinks take off before the softmax;
terms that the recipe does not have fall away. ``g`` bounds several roundings in a row (Higham 2002,
section 3.1). If scores of a row move by at most ``e[j]``, its weights ``p`` change by at most ::

    p[j] (exp(e[j] + E + g) - 1),  E = log(sum_k p[k] exp(e[k]))

since numerators change by a factor ``exp(e[j])``, the sum of all by ``exp(E)``, and the weight is
rounded at last. The formulas hold for arrays of numpy and tensors of torch alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .recipe import Recipe
from .scores import derive_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ARITHMETIC_ERROR: Final = 5e-6
"""Largest error of a weight that computing in float32 makes, in a model and here together."""

UNIT_ROUNDOFF: Final = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Of the types of half precision: half the distance from 1 to the next number (IEEE 754)."""


def bound_weights(
    xp: Any,
    precision: str,
    weights: Any,
    recipe: Recipe,
    scaled: Any,
    capped: Any,
    total: Any,
    slopes: Any = None,
    sinks: Any = None,
    moved: Any = 0.0,
) -> Any:
    """Most that weights of a model in half precision differ from exact ones, as above.

    Args:
        xp: the library of the arrays: numpy or torch.
        precision: a key of :data:`UNIT_ROUNDOFF`.
        weights: exact weights, ``(..., head, query_token, key_token)``; 0 where hidden.
        recipe: the layer's.
        scaled, capped, total: ``s``, ``c`` and ``t``, of the same axes, of meaning where weights
            are not 0; one stands for another that the recipe does not part from it.
        slopes, sinks: of :func:`head_terms`, ``(head, 1, 1)``; None without.
        moved: what scores are off by besides, broadcast against them.

    Returns:
        An array like ``weights``; :data:`ARITHMETIC_ERROR` comes on top.
    """
    roundoff = UNIT_ROUNDOFF[precision]
    step = roundoff / (1 - 8 * roundoff)
    seen = weights > 0
    off = 2 * abs(scaled)
    if recipe.softcap is not None:
        off = off + 3 * abs(capped)
    if slopes is not None:
        off = off + abs(capped) + abs(slopes) * (weights.shape[-1] - 1)
    if recipe.bias is not None:
        off = off + abs(total)
    rest = 0.0
    if sinks is not None:
        top = xp.maximum(xp.amax(xp.where(seen, total, -xp.inf), -1)[..., None], sinks)
        off = off + abs(total - top)
        rest = (1 - weights.sum(-1)[..., None]) * xp.exp(step * (top - sinks))
    off = xp.where(seen, step * off + moved, 0.0)
    whole = (weights * xp.exp(off)).sum(-1)[..., None] + rest
    return weights * xp.expm1(off + xp.log(whole) + step)


def head_terms(
    recipe: Recipe, heads: Sequence[int]
) -> tuple[list[float] | None, list[float] | None]:
    """Slopes, and sinks that are in the softmax, of some heads; None where there are none."""
    slopes, sinks = recipe.slopes, recipe.sinks
    return (
        None if slopes is None else [slopes[head] for head in heads],
        None
        if sinks is None or sinks.mode != "softmax"
        else [sinks.values[head] for head in heads],
    )


def bound_derived(
    query: NDArray[Any],
    key: NDArray[Any],
    scaling: float,
    recipe: Recipe,
    weights: NDArray[np.float32],
    precision: str,
    *,
    moved: NDArray[np.float32] | float = 0.0,
    key_head: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Most that attention of a model in half precision differs from that derived from its vectors.

    Args:
        query, key, scaling, recipe: as of :func:`qkvault.derive_attention`.
        weights: what that gave, float32 ``(head, query_token, key_token)``.
        precision: ``float16`` or ``bfloat16``.
        moved: as of :func:`bound_weights`.
        key_head, heads: as of :func:`qkvault.derive_attention`.

    Returns:
        float32, of the shape of ``weights``, :data:`ARITHMETIC_ERROR` included.
    """
    where: dict[str, Any] = {"key_head": key_head, "heads": heads}
    plain, cap = Recipe(), Recipe(softcap=recipe.softcap)
    scaled = derive_scores(query, key, scaling, plain, **where)
    capped = scaled if cap == plain else derive_scores(query, key, scaling, cap, **where)
    total = derive_scores(query, key, scaling, recipe, **where)
    slopes, sinks = (
        None if values is None else np.array(values, np.float32)[:, None, None]
        for values in head_terms(recipe, heads or range(len(weights)))
    )
    parts = (scaled, capped, total, slopes, sinks)
    with np.errstate(invalid="ignore"):  # -inf where hidden
        bound = bound_weights(np, precision, weights, recipe, *parts, moved=moved)
    found: NDArray[np.float32] = (bound + ARITHMETIC_ERROR).astype(np.float32)
    return found
