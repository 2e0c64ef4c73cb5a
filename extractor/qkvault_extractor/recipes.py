"""The recipe of a layer's attention, read off one captured call and checked against it.

A mask is recognised by its pattern, not by the model's name; what fits no rule, or does not give
the captured attention back, is stated as unknown rather than stated wrong.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from qkvault import (
    Mask,
    Recipe,
    RelativeBias,
    Sinks,
    bound_derived,
    decode_vectors,
    derive_attention,
    encode_vectors,
)
from qkvault_extractor.tiles import breaks_rule

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from qkvault import VectorPrecision
    from qkvault_extractor.capture import AttentionCall

DERIVED_TOLERANCE: Final = 2e-5
"""Largest difference allowed between derived and captured attention, both of float32."""

MOST_BIASES: Final = 1 << 18
"""Most numbers of a bias table that a vault keeps."""

HALF: Final = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
"""Types of half precision, by the names that rounding to them has in :mod:`qkvault.arithmetic`."""

_HIDDEN: Final = -1e4
"""Additive masks hide by at least this much (the least number of float16 is -65504)."""


_NO_RULE: Final = "the model's mask follows no rule that a recipe can state"


def find_recipe(
    call: AttentionCall, tokens: int, longest: int, *, tells_window: bool = True
) -> Recipe:
    """State how a call's attention follows from its queries and keys.

    Args:
        call: a call of the probe, whose first example has no padding.
        tokens: that example's length.
        longest: the longest example that the recipe has to hold for.
        tells_window: whether the call would tell of a window that is wider than the probe.

    Returns:
        The recipe; one that is ``unknown``, with the reason, where none is found. Its mask's
        ``causal`` is right in any case.
    """
    causal = not bool(call.weights[0, :, :tokens, :tokens].triu(1).any())
    if call.blocks is not None and call.blocks.unknown is not None:
        return _unknown(call.blocks.unknown, causal)
    seen, added = _split_added(call, tokens, tokens)
    slopes, bias = None, None
    if added is not None:
        slopes = _find_slopes(added, seen)
        bias = None if slopes is not None else _find_bias(added, seen)
        if slopes is None and bias is None:
            return _unknown(
                "the model adds a bias that depends on more than relative position", causal
            )
    window = _known_window(call)
    whole = window is not None and (bias is None or window < tokens)  # nothing is left to learn
    if longest > tokens and not whole and (bias is not None or not tells_window):
        what = "bias" if bias is not None else "mask"
        return _unknown(f"the model's {what} is known up to {tokens} tokens only", causal)
    mask = _find_mask(call, seen, longest)
    if mask is None:
        return _unknown(_NO_RULE, causal)
    return _prove(call, (tokens, tokens), Recipe(mask, None, slopes, bias))


def fit_rule(recipe: Recipe, shown: Tensor, tokens: int) -> Recipe:
    """A recipe whose mask holds on the longest text too.

    Args:
        recipe: what shorter texts tell.
        shown: which keys the longest one shows, of
            :func:`qkvault_extractor.masks.see_masks`.
        tokens: how long the shorter ones were.

    Returns:
        It, with the window or chunk that shows on the longest text only; or one that is unknown.
    """
    if recipe.unknown is not None:
        return recipe
    rule, own = recipe.mask, shown[:, :1]
    count = int(own[0, 0, :, 0].sum())  # queries that see the first key
    rules = [rule]
    if rule == Mask(rule.causal) and count >= tokens:
        rules += [Mask(rule.causal, window=count - 1), Mask(rule.causal, chunk=count)]
    asking, there = (torch.tensor([[side]], device=own.device) for side in own.shape[2:])
    if bool((shown == own).all()):
        for found in rules:
            if not bool(breaks_rule(own, found, asking, there)):
                return replace(recipe, mask=found)
    return _unknown(_NO_RULE, rule.causal)


def find_cross_recipe(call: AttentionCall) -> Recipe:
    """As :func:`find_recipe`, for cross-attention of a probe whose first example has no padding at
    all: keys stand in no order to queries there, so that nothing may depend on their distance."""
    queries, keys = call.weights.shape[2:]
    seen, added = _split_added(call, queries, keys)
    if added is not None or not seen.all():
        return _unknown("the model hides keys from its cross-attention, or adds a bias", False)
    return _prove(call, (queries, keys), Recipe())


def _prove(call: AttentionCall, sides: tuple[int, int], known: Recipe) -> Recipe:
    """Complete a recipe by what the call tells of caps and sinks, if attention then follows."""
    softcap = call.terms.get("softcap")
    for sinks in _possible_sinks(call):
        recipe = replace(known, softcap=None if softcap is None else float(softcap), sinks=sinks)
        difference = derived_difference(call, sides, recipe)
        if difference <= DERIVED_TOLERANCE:
            return recipe
    if (rounded := HALF.get(call.weights.dtype)) is not None:
        reason = (
            f"the model's code does not run in float32, and rounding to {rounded} hides its rule"
        )
    else:
        reason = (
            f"attention derived from queries and keys differs from the model's by {difference:.1e}"
        )
    return _unknown(reason, known.mask.causal)


def confirm(call: AttentionCall, sides: tuple[int, int], recipe: Recipe) -> Recipe:
    """Hold a recipe, found in float32, against a call whose attention is of half precision.

    Args:
        call: a call of the probe.
        sides: query tokens and key tokens of its first example.
        recipe: what was found.

    Returns:
        It, or one that is ``unknown`` where rounding does not explain the difference.
    """
    precision = HALF.get(call.weights.dtype)
    if precision is None or recipe.unknown is not None:
        return recipe
    query, key, attention = _first_example(call, sides)
    derived = derive_attention(query, key, call.scaling, recipe)
    allowed = bound_derived(query, key, call.scaling, recipe, derived, precision)
    if bool((np.abs(derived - attention) <= allowed).all()):
        return recipe
    return _unknown(
        "attention derived from queries and keys differs from the model's by more than rounding "
        f"to {precision} explains",
        recipe.mask.causal,
    )


def derived_difference(
    call: AttentionCall,
    tokens: int | tuple[int, int],
    recipe: Recipe,
    kept: tuple[VectorPrecision, VectorPrecision] = ("float32", "float32"),
) -> float:
    """Largest difference between derived and captured attention of the first example.

    Args:
        call: a call of the probe.
        tokens: the first example's length, or how many query tokens and key tokens it has.
        recipe: the layer's.
        kept: how a vault keeps the queries and the keys that it derives from.
    """
    queries, keys = (tokens, tokens) if isinstance(tokens, int) else tokens
    query, key, attention = _first_example(call, (queries, keys))
    query, key = (
        decode_vectors(encode_vectors(part, how))
        for part, how in zip((query, key), kept, strict=True)
    )
    derived = derive_attention(query, key, call.scaling, recipe)
    return float(np.abs(derived - attention).max())


def _first_example(
    call: AttentionCall, sides: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Queries, keys and attention of a call's first example, padding cut off."""
    queries, keys = sides
    query, key, attention = (
        part[0, :, :count].float().cpu().numpy()
        for part, count in ((call.query, queries), (call.key, keys), (call.weights, queries))
    )
    return query, key, attention[:, :, :keys]


def _unknown(reason: str, causal: bool) -> Recipe:
    return Recipe(Mask(causal=causal), unknown=reason)


def _split_added(
    call: AttentionCall, queries: int, keys: int
) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None]:
    """Part what is added to the scores of the first example.

    Returns:
        Which keys are shown, ``(head or 1, query_token, key_token)``; and what else is added,
        ``(head, query_token, key_token)``, of meaning where they are shown, None for nothing.
    """
    parts = [
        part[0, :, :queries, :keys].float().cpu().numpy()
        for part in (call.mask, call.terms.get("position_bias"))
        if part is not None
    ]
    shown = np.ones((1, queries, keys), np.bool_)
    added = np.zeros((1, queries, keys), np.float32)
    for part in parts:
        shown = shown & (part > _HIDDEN)
        added = added + np.where(part > _HIDDEN, part, np.float32(0.0))
    if not added.any():
        return shown, None
    return shown, np.broadcast_to(added, (call.query.shape[1], queries, keys))


def _find_slopes(added: NDArray[np.float32], seen: NDArray[np.bool_]) -> tuple[float, ...] | None:
    """What is added per step to the right, where that is one number per head (ALiBi)."""
    shown = np.broadcast_to(seen, added.shape)
    pairs = shown[:, :, 1:] & shown[:, :, :-1]
    steps = np.diff(added, axis=2)
    if not pairs[:, -1].any(1).all():
        return None
    last = np.where(pairs[:, -1], steps[:, -1].astype(np.float64), 0.0)  # (head, key_token)
    slopes = last.sum(1) / pairs[:, -1].sum(1)
    rounding = 4e-7 * float(np.abs(added).max())
    if (np.abs(steps - slopes[:, None, None]) > rounding)[pairs].any() or not slopes.any():
        return None
    return tuple(slopes.tolist())


def _find_bias(added: NDArray[np.float32], seen: NDArray[np.bool_]) -> RelativeBias | None:
    """What is added by distance; None where equal distances have unequal bias."""
    tokens = added.shape[1]
    query, key = np.nonzero(seen.all(0))
    values, places = added[:, query, key], key - query + tokens - 1
    by_distance = np.full((len(added), 2 * tokens - 1), np.nan, np.float32)
    by_distance[:, places] = values
    if not np.array_equal(by_distance[:, places], values):
        return None
    known = np.unique(places)  # distances that the mask hides everywhere need no bias
    by_distance = by_distance[:, known]
    changes = (np.diff(by_distance, axis=1) != 0).any(axis=0)
    steps = np.concatenate([[0], np.flatnonzero(changes) + 1])
    if len(by_distance) * len(steps) > MOST_BIASES:
        return None
    starts = known[steps] - tokens + 1
    return RelativeBias(
        tuple(starts.tolist()), tuple(tuple(head) for head in by_distance[:, steps].tolist())
    )


def _find_mask(call: AttentionCall, seen: NDArray[np.bool_], longest: int) -> Mask | None:
    tokens = seen.shape[1]
    if (seen != seen[:1]).any():
        return None
    causal = not np.triu(seen[0], 1).any()
    known = _known_window(call)
    found = _candidates(seen[0], causal) if known is None else [Mask(causal, window=known)]
    for mask in found:
        if np.array_equal(_pattern(mask, tokens), seen[0]):
            break
    else:
        return None
    window = call.terms.get("sliding_window")
    if window is None or longest <= tokens or mask.window is not None or mask.chunk is not None:
        return mask
    # A window too wide for the probe to show; transformers counts the query's own token in it.
    return Mask(causal, window=int(window) - 1) if causal else None


def _known_window(call: AttentionCall) -> int | None:
    """The window by which blocks are laid out, which may be wider than the probe."""
    return None if call.blocks is None else call.blocks.window


def _candidates(seen: NDArray[np.bool_], causal: bool) -> list[Mask]:
    """The masks that could be: all keys, a window, or chunks of the size the first column shows."""
    query, key = np.nonzero(seen)
    reach = int(np.abs(query - key).max(initial=0))
    chunk = int(seen[:, 0].sum())
    return [Mask(causal), Mask(causal, window=reach), Mask(causal, chunk=max(1, chunk))]


def _pattern(mask: Mask, tokens: int) -> NDArray[np.bool_]:
    query, key = np.ogrid[:tokens, :tokens]
    seen = np.ones((tokens, tokens), np.bool_)
    if mask.causal:
        seen &= key <= query
    if mask.window is not None:
        seen &= np.abs(query - key) <= mask.window
    if mask.chunk is not None:
        seen &= query // mask.chunk == key // mask.chunk
    return seen


def _possible_sinks(call: AttentionCall) -> list[Sinks | None]:
    values = call.terms.get("s_aux", call.terms.get("sinks"))
    if values is None:
        return [None]
    numbers = tuple(float(value) for value in values.flatten().tolist())
    return [Sinks(numbers, "softmax"), Sinks(numbers, "gate")]
