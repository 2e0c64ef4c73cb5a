"""Blocks that see themselves and their neighbours: LongT5's encoders.

Guo et al. 2022, section 3.1: a token attends to those less than a block's length away, which lie in
its own block or in one of the two beside it; transient-global attention adds a summary of every so
many tokens, which are no tokens of the example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from qkvault_extractor.layouts.reports import read_neighbours
from qkvault_extractor.layouts.steps import Blocks, LaidOut, Steps, spread

if TYPE_CHECKING:
    from torch import Tensor

_SUMMARIES: Final = "summaries of the text's blocks"

QUERY_KEY: Final = "...qhd,...khd->...hqk"
WEIGHT_VALUE: Final = "...hqk,...khd->...qhd"


def lay_out(steps: Steps, tokens: int, describe: bool, weigh: bool) -> LaidOut:
    """Lay a call out.

    Args:
        steps: of the module.
        tokens: of the longest example; the module has filled them up to whole blocks.
        describe: give what is added to the scores too.
        weigh: give weights, rather than what they make of the values.
    """
    product, mixed = steps.product(QUERY_KEY), steps.product(WEIGHT_VALUE)
    queries, keys = product.inputs  # (example, block, token of the block, head, dim)
    values = mixed.inputs[1]
    weights = steps.named("softmax").output  # (example, block, head, query_token, key_token)
    length = queries.shape[2]
    own = slice(length, 2 * length)
    added = None
    if describe:
        added = steps.sum_with(product.output).inputs[1].float().expand_as(weights)
    return LaidOut(
        _join(queries, tokens),
        _join(keys[:, :, own], tokens),
        _join(values[:, :, own], tokens),
        _map_of(weights.to(queries.dtype), tokens) if weigh else None,
        None if added is None else _map_of(added, tokens, torch.finfo(torch.float32).min),
        _describe(length, keys.shape[2] > 3 * length),
        None if weigh else _join(mixed.output, tokens),
    )


def _describe(length: int, has_summaries: bool) -> Blocks:
    if not has_summaries:
        return Blocks(read_neighbours, length - 1)
    reason = f"part of the attention goes to {_SUMMARIES}, whose keys are not kept"
    return Blocks(read_neighbours, unknown=reason, beside=_SUMMARIES)


def _join(blocks: Tensor, tokens: int) -> Tensor:
    """Blocks end to end: ``(example, head, token, dim)``."""
    return blocks.flatten(1, 2)[:, :tokens].transpose(1, 2)


def _map_of(blocks: Tensor, tokens: int, fill: float = 0.0) -> Tensor:
    """``(example, head, query_token, key_token)``, without what is of no token."""
    length = blocks.shape[3]
    wide = spread(blocks[..., : 3 * length].transpose(1, 2), fill)
    return wide[:, :, :tokens, length : length + tokens]
