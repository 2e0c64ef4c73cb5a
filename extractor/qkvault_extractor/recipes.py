"""The recipe of a layer's attention, read off one captured call and checked against it.

A mask is recognised by its pattern, not by the model's name; what fits no rule, or does not give
the captured attention back, is stated as unknown rather than stated wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from qkvault import Mask, Recipe, RelativeBias, Sinks, derive_attention

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault_extractor.capture import AttentionCall

DERIVED_TOLERANCE: Final = 2e-5
"""Largest difference allowed between derived and captured attention, both of float32."""

MOST_BIASES: Final = 1 << 18
"""Most numbers of a bias table that a vault keeps."""

_HIDDEN: Final = -1e4
"""Additive masks hide by at least this much (the least number of float16 is -65504)."""


def find_recipe(call: AttentionCall, tokens: int, longest: int) -> Recipe:
    """State how a call's attention follows from its queries and keys.

    Args:
        call: a call of the probe, whose first example has no padding.
        tokens: that example's length.
        longest: the longest example that the recipe has to hold for.

    Returns:
        The recipe; one that is ``unknown``, with the reason, where none is found. Its mask's
        ``causal`` is right in any case.
    """
    causal = not bool(call.weights[0, :, :tokens, :tokens].triu(1).any())
    bias = None
    if "position_bias" in call.terms:
        bias = _find_bias(call, tokens)
        if bias is None:
            return _unknown("the model adds a bias that is not one of relative position", causal)
        if longest > tokens:
            return _unknown(f"the model's bias is known up to {tokens} tokens only", causal)
    mask = _find_mask(call, tokens, longest)
    if mask is None:
        return _unknown("the model's mask follows no rule that a recipe can state", causal)
    softcap = call.terms.get("softcap")
    for sinks in _possible_sinks(call):
        cap = None if softcap is None else float(softcap)
        recipe = Recipe(mask, cap, bias=bias, sinks=sinks)
        difference = derived_difference(call, tokens, recipe)
        if difference <= DERIVED_TOLERANCE:
            return recipe
    return _unknown(
        f"attention derived from queries and keys differs from the model's by {difference:.1e}",
        causal,
    )


def derived_difference(
    call: AttentionCall, tokens: int, recipe: Recipe, *, half: bool = False
) -> float:
    """Largest difference between derived and captured attention of the first example.

    Args:
        call: a call of the probe.
        tokens: the first example's length.
        recipe: the layer's.
        half: round queries and keys to float16 first, as a vault that keeps them so.
    """
    query, key, attention = (
        part[0, :, :tokens].float().cpu().numpy() for part in (call.query, call.key, call.weights)
    )
    if half:
        query, key = query.astype(np.float16), key.astype(np.float16)
    derived = derive_attention(query, key, call.scaling, recipe)
    return float(np.abs(derived - attention[:, :, :tokens]).max())


def _unknown(reason: str, causal: bool) -> Recipe:
    return Recipe(Mask(causal=causal), unknown=reason)


def _find_bias(call: AttentionCall, tokens: int) -> RelativeBias | None:
    """The bias of the first example by distance; None where equal distances have unequal bias."""
    own = call.terms["position_bias"][0, :, :tokens, :tokens].float().cpu().numpy()
    table = np.broadcast_to(own, (call.query.shape[1], tokens, tokens))
    before, after = table[:, :0:-1, 0], table[:, 0]  # distances below 0; from 0 on
    by_distance = np.concatenate([before, after], axis=1)  # (head, distance)
    rows = np.lib.stride_tricks.sliding_window_view(by_distance, tokens, axis=1)[:, ::-1]
    if not np.array_equal(rows, table):
        return None
    changes = (np.diff(by_distance, axis=1) != 0).any(axis=0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    if len(table) * len(starts) > MOST_BIASES:
        return None
    values = by_distance[:, starts].tolist()
    return RelativeBias(
        tuple((starts - tokens + 1).tolist()), tuple(tuple(head) for head in values)
    )


def _find_mask(call: AttentionCall, tokens: int, longest: int) -> Mask | None:
    seen = _visible(call, tokens)
    if seen is None:
        return None
    causal = not np.triu(seen, 1).any()
    for mask in _candidates(seen, causal):
        if np.array_equal(_pattern(mask, tokens), seen):
            break
    else:
        return None
    window = call.terms.get("sliding_window")
    if window is None or longest <= tokens or mask.window is not None or mask.chunk is not None:
        return mask
    # A window too wide for the probe to show; transformers counts the query's own token in it.
    return Mask(causal, window=int(window) - 1) if causal else None


def _visible(call: AttentionCall, tokens: int) -> NDArray[np.bool_] | None:
    """Which keys each query of the first example sees; None for a mask that is more than a mask."""
    if call.mask is None:
        return np.ones((tokens, tokens), np.bool_)
    mask = call.mask[0, :, :tokens, :tokens].float().cpu().numpy()  # (1 or head, query, key)
    shown, hidden = mask == 0.0, mask <= _HIDDEN
    if not (shown | hidden).all() or (shown != shown[:1]).any():
        return None
    return np.array(shown[0])


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
