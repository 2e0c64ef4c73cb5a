"""Windows that slide by one token, beside some global tokens: Longformer, and LED's encoder.

Beltagy et al. 2020, section 3.1: a token attends to those at most ``window`` away and to all global
tokens; a global token attends to all, by queries and keys of projections of its own. The module
multiplies chunks of ``2 * window`` tokens that overlap by half, and keeps of each row the
``2 * window + 1`` scores of its window, behind those of the global tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from qkvault_extractor.layouts.reports import read_band
from qkvault_extractor.layouts.steps import Blocks, LaidOut, Steps, spread

if TYPE_CHECKING:
    from torch import Tensor

QUERY_KEY: Final = "bcxd,bcyd->bcxy"
WEIGHT_VALUE: Final = "bcwd,bcdh->bcwh"

_HIDDEN: Final = -1e4
_GLOBAL: Final = (
    "global tokens attend by queries and keys of projections of their own, and those keys are not "
    "kept"
)


def lay_out(steps: Steps, tokens: int, describe: bool, weigh: bool) -> LaidOut:
    """Lay a call out; a global token's query is the one that it attends by.

    Args:
        steps: of the module.
        tokens: of the longest example; the module has filled them up to whole chunks.
        describe: give the mask too.
        weigh: give weights, rather than what they make of the values; with global tokens they are
            given in any case, since no recipe stands in for them.
    """
    queries, keys = steps.product(QUERY_KEY).inputs
    mixed = steps.product(WEIGHT_VALUE)
    weights = steps.named("softmax").output.transpose(1, 2)  # (example, head, token, width)
    window, examples = queries.shape[2] // 2, len(weights)
    count = weights.shape[-1] - 2 * window - 1  # of global tokens
    query = _join(queries[:, ::2], examples)[:, :, :tokens]
    key = _join(keys[:, ::2], examples)[:, :, :tokens]
    # A chunk of values is three windows, of which the outer ones are its neighbours'.
    value = _join(mixed.inputs[1][:, :, window : 2 * window], examples)[:, :, :tokens]
    removed = _removed(steps, examples)[:, :tokens]
    if not count:
        mask = _mask(removed, torch.zeros_like(removed), window) if describe else None
        if not weigh:
            output = _join(mixed.output, examples)[:, :, :tokens]
            return LaidOut(query, key, value, None, mask, Blocks(read_band, window), output)
        attention = _spread(weights[:, :, :tokens], window, query.dtype)
        return LaidOut(query, key, value, attention, mask, Blocks(read_band, window))
    query, is_global = query.clone(), steps.named("nonzero").inputs[0][:, :tokens]
    attention = _spread(weights[:, :, :tokens, count:], window, query.dtype)
    _place_global(steps, is_global, weights[..., :count], attention, query)
    mask = _mask(removed, is_global, window) if describe else None
    return LaidOut(query, key, value, attention, mask, Blocks(read_band, None, _GLOBAL))


def _spread(band: Tensor, window: int, dtype: torch.dtype) -> Tensor:
    """A band ``(example, head, token, 2 * window + 1)`` as a map of tokens."""
    return spread(band[:, :, :, None].to(dtype))[..., window : window + band.shape[2]]


def _join(chunks: Tensor, examples: int) -> Tensor:
    """Chunks ``(example * head, chunk, token, dim)`` end to end: ``(example, head, token, ..)``."""
    _, count, length, width = chunks.shape
    return chunks.reshape(examples, -1, count * length, width)


def _removed(steps: Steps, examples: int) -> Tensor:
    """Which keys are left out of windows, ``(example, token)``: padding, and global tokens."""
    hidden = steps.product(QUERY_KEY, 1).inputs[1]
    return (_join(hidden[:, ::2], examples) <= _HIDDEN)[:, 0, :, 0]


def _place_global(
    steps: Steps, is_global: Tensor, columns: Tensor, attention: Tensor, query: Tensor
) -> None:
    """Put what is attended to global tokens, and what they attend to, into their places.

    Args:
        steps: of the module.
        is_global: ``(example, token)``.
        columns: attention to global tokens, by their order, ``(example, head, token, global)``.
        attention: ``(example, head, query_token, key_token)``, written to.
        query: ``(example, head, token, dim)``, written to.
    """
    examples, heads, tokens, _ = attention.shape
    example, token = torch.where(is_global)
    place = (is_global.cumsum(1) - 1)[example, token]
    rows = steps.named("softmax", 1).output.view(examples, heads, columns.shape[-1], -1)
    own = steps.named("bmm").inputs[0].view(examples, heads, columns.shape[-1], -1)
    kind = attention.dtype
    attention[example, :, :, token] = columns[example, :, :tokens, place].to(kind)
    attention[example, :, token] = rows[example, :, place, :tokens].to(kind)
    query[example, :, token] = own[example, :, place]


def _mask(removed: Tensor, is_global: Tensor, window: int) -> Tensor:
    """What hides keys, additive, ``(example, 1, query_token, key_token)``."""
    place = torch.arange(removed.shape[1], device=removed.device)
    near = (place[:, None] - place).abs() <= window
    shown = (near & ~removed[:, None]) | is_global[:, None]
    own = ~removed | is_global
    shown = torch.where(is_global[:, :, None], own[:, None], shown)
    least = torch.finfo(torch.float32).min
    return torch.zeros(shown.shape, device=shown.device).masked_fill_(~shown, least)[:, None]
