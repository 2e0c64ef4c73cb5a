"""How attention follows from queries and keys: what a vault states of every layer's scores.

For query token ``i`` and key token ``j`` of head ``h``, whose key head is ``k``::

    score[h, i, j] = cap(scaling * query[h, i] . key[k, j]) + slope[h] * (j - i) + bias[h, j - i]
                     where j is visible from i, -inf elsewhere; cap(x) = c * tanh(x / c)
    attention[h, i] = softmax(score[h, i] with sink[h] beside it), the sink's share left out

Terms that a layer does not have are left out. The scaling stands in :attr:`Stack.scaling`, the rest
here. Queries and keys are those that meet in the product: after rotary embedding (Su et al. 2021)
and normalisation, which therefore need no term.

Sources: Vaswani et al. 2017, equation 1 (scaled product and softmax); Press et al. 2022, section 3
(slopes, ALiBi); Raffel et al. 2020, section 2.1 (bias by relative position, T5); Gemma Team 2024,
section 2 (cap, Gemma 2); OpenAI 2025, gpt-oss model card (sinks as a term of the softmax's
denominator); Beltagy et al. 2020, section 3.1 (windows).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SinkMode = Literal["softmax", "gate"]

MAX_NUMBERS: Final = 1 << 18
"""Most numbers in one bias table; a table that is larger is not derivable (state ``unknown``)."""

_MAX_TOKENS: Final = 1 << 31


@dataclass(frozen=True)
class Mask:
    """Which keys a query sees; every rule that is given must allow the pair.

    Attributes:
        causal: only keys at or before the query's own token.
        window: only keys at most so many tokens away; a sliding window that counts ``w`` keys, the
            query's own among them, is ``w - 1``.
        chunk: only keys of the query's own chunk: ``i // chunk == j // chunk``.
    """

    causal: bool = False
    window: int | None = None
    chunk: int | None = None


@dataclass(frozen=True)
class RelativeBias:
    """A number per head and distance ``j - i``, added to the score; constant in steps.

    Attributes:
        starts: first distance of each step, ascending. The first step also holds for all distances
            below it, the last for all above.
        values: ``[head][step]``.
    """

    starts: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Sinks:
    """A learnt score per head that belongs to no token.

    Attributes:
        values: ``[head]``.
        mode: ``softmax``: one more term of the softmax, so that a row's weights sum to less than
            one. ``gate``: it scales the head's output and leaves the weights as they are.
    """

    values: tuple[float, ...]
    mode: SinkMode


@dataclass(frozen=True)
class Recipe:
    """What makes one layer's attention of its queries and keys, the scaling apart.

    Attributes:
        mask: which keys a query sees.
        softcap: ``c`` of ``c * tanh(x / c)``, taken of the scaled product.
        slopes: ``[head]``, times ``j - i``; positive for ALiBi. Scores that differ by a constant in
            each row have one softmax, so a model that adds ``slope * j`` has the same slopes.
        bias: by relative position.
        sinks: scores beside the keys'.
        unknown: why attention cannot be derived from queries and keys, where it cannot.
    """

    mask: Mask = Mask()
    softcap: float | None = None
    slopes: tuple[float, ...] | None = None
    bias: RelativeBias | None = None
    sinks: Sinks | None = None
    unknown: str | None = None


def default_recipe(layers: int, causal: bool) -> tuple[Recipe, ...]:
    """Recipes of a stack that states none: the plain softmax over all keys, or those not after."""
    return (Recipe(Mask(causal=causal)),) * layers


def pick_heads(recipe: Recipe, heads: Sequence[int]) -> Recipe:
    """The recipe of some of a layer's heads, numbered anew in the order given."""
    slopes, bias, sinks = recipe.slopes, recipe.bias, recipe.sinks
    if slopes is not None:
        slopes = tuple(slopes[head] for head in heads)
    if bias is not None:
        bias = replace(bias, values=tuple(bias.values[head] for head in heads))
    if sinks is not None:
        sinks = replace(sinks, values=tuple(sinks.values[head] for head in heads))
    return replace(recipe, slopes=slopes, bias=bias, sinks=sinks)


def recipe_document(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Recipes as JSON: the distinct ones, and which of them each layer has."""
    forms = list(dict.fromkeys(recipes))
    return {
        "forms": [_form_document(form) for form in forms],
        "layers": [forms.index(recipe) for recipe in recipes],
    }


def parse_recipe(document: Mapping[str, Any]) -> tuple[Recipe, ...]:
    """Read what :func:`recipe_document` gives; :func:`check_recipe` then judges the numbers.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is something else.
    """
    forms = [_parse_form(form) for form in document["forms"]]
    places = document["layers"]
    if not all(type(place) is int and 0 <= place < len(forms) for place in places):
        raise ValueError("a layer of no known recipe")
    return tuple(forms[place] for place in places)


def check_recipe(recipe: Recipe, heads: int, causal: bool) -> None:
    """Refuse a recipe that does not fit its stack.

    Raises:
        ValueError: a number is missing, not finite or out of range, or the mask contradicts the
            stack's ``causal``.
    """
    if type(recipe.mask.causal) is not bool or recipe.mask.causal < causal:
        raise ValueError("a recipe whose mask is not causal in a causal stack")
    for name, low in (("window", 0), ("chunk", 1)):
        size = getattr(recipe.mask, name)
        if size is not None and not (type(size) is int and low <= size < _MAX_TOKENS):
            raise ValueError(f"a mask with a {name} of {size!r:.40}")
    if recipe.softcap is not None and not (_is_number(recipe.softcap) and recipe.softcap > 0):
        raise ValueError(f"a softcap of {recipe.softcap!r:.40}")
    if recipe.slopes is not None:
        _check_numbers(recipe.slopes, heads, "slopes")
    if recipe.sinks is not None:
        _check_numbers(recipe.sinks.values, heads, "sinks")
        if recipe.sinks.mode not in ("softmax", "gate"):
            raise ValueError(f"sinks of mode {recipe.sinks.mode!r:.40}")
    if recipe.bias is not None:
        _check_bias(recipe.bias, heads)
    if recipe.unknown is not None and not (isinstance(recipe.unknown, str) and recipe.unknown):
        raise ValueError("an unknown recipe without a reason")


def _check_bias(bias: RelativeBias, heads: int) -> None:
    starts = bias.starts
    if not starts or not all(type(n) is int and abs(n) < _MAX_TOKENS for n in starts):
        raise ValueError("a bias whose steps do not start at whole distances")
    if any(a >= b for a, b in zip(starts, starts[1:], strict=False)):
        raise ValueError("a bias whose steps do not ascend")
    if len(bias.values) != heads or heads * len(starts) > MAX_NUMBERS:
        raise ValueError(f"a bias of {len(bias.values)} x {len(starts)} numbers for {heads} heads")
    for row in bias.values:
        _check_numbers(row, len(starts), "biases of a head")


def _check_numbers(values: Sequence[Any], count: int, what: str) -> None:
    if len(values) != count or not all(_is_number(value) for value in values):
        raise ValueError(f"{what} are not {count} finite numbers")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _form_document(recipe: Recipe) -> dict[str, Any]:
    mask = recipe.mask
    document: dict[str, Any] = {
        "mask": {"causal": mask.causal, "window": mask.window, "chunk": mask.chunk}
    }
    if recipe.softcap is not None:
        document["softcap"] = recipe.softcap
    if recipe.slopes is not None:
        document["slopes"] = list(recipe.slopes)
    if recipe.bias is not None:
        values = [list(row) for row in recipe.bias.values]
        document["bias"] = {"starts": list(recipe.bias.starts), "values": values}
    if recipe.sinks is not None:
        document["sinks"] = {"values": list(recipe.sinks.values), "mode": recipe.sinks.mode}
    if recipe.unknown is not None:
        document["unknown"] = recipe.unknown
    return document


_TERMS: Final = {"mask", "softcap", "slopes", "bias", "sinks", "unknown"}


def _parse_form(form: Mapping[str, Any]) -> Recipe:
    if strange := sorted(set(form) - _TERMS):  # a term left out would make another attention
        raise ValueError(f"a recipe with {strange[0]!r:.40}, which this release does not know")
    mask, bias, sinks = form["mask"], form.get("bias"), form.get("sinks")
    slopes = form.get("slopes")
    return Recipe(
        mask=Mask(mask["causal"], mask["window"], mask["chunk"]),
        softcap=form.get("softcap"),
        slopes=None if slopes is None else tuple(slopes),
        bias=None
        if bias is None
        else RelativeBias(tuple(bias["starts"]), tuple(tuple(row) for row in bias["values"])),
        sinks=None if sinks is None else Sinks(tuple(sinks["values"]), sinks["mode"]),
        unknown=form.get("unknown"),
    )
