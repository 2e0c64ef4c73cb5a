"""Blocks that see themselves and a few global tokens: Pegasus-X's encoder.

Phang et al. 2022, section 3.2: a token attends to its own block and to global tokens, which are
learnt and none of the example's; every other layer may shift its blocks by half of their length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from qkvault_extractor.layouts.reports import read_parted
from qkvault_extractor.layouts.steps import Blocks, LaidOut, Steps, spread

if TYPE_CHECKING:
    from torch import Tensor

FIRST: Final = "BHGF,BHXF->BHGX"
"""What the global tokens attend to, which is not kept."""

QUERY_KEY: Final = "BHNKF,BHNXF->BHNKX"
WEIGHT_VALUE: Final = "BHNKX,BHNXF->BHNKF"

_GLOBAL: Final = "global tokens that are none of the text's"
_UNKNOWN: Final = f"part of the attention goes to {_GLOBAL}, whose keys are not kept"


def lay_out(steps: Steps, tokens: int, describe: bool, weigh: bool) -> LaidOut:
    """Lay a call out.

    Args:
        steps: of the module.
        tokens: of the longest example; the module has filled them up to whole blocks, and by half a
            block on both sides where blocks are shifted.
        describe: give what is added to the scores too.
        weigh: of no meaning here, since no recipe stands in for these weights.
    """
    queries, keys = steps.product(QUERY_KEY).inputs  # (example, head, block, token, dim)
    values = steps.product(WEIGHT_VALUE).inputs[1]
    softmax = steps.named("softmax", 1)
    weights = softmax.output  # (example, head, block, token, global + token)
    length = queries.shape[3]
    count = weights.shape[-1] - length
    filled = -(-tokens // length) * length
    first = (queries.shape[2] * length - filled) // 2
    whole = slice(first, first + tokens)
    mask = None
    if describe:
        added = steps.sum_with(softmax.inputs[0]).inputs[1].float().expand_as(weights)
        least = torch.finfo(torch.float32).min
        mask = spread(added[..., count:], least)[:, :1, whole, whole]
    return LaidOut(
        _join(queries)[:, :, whole],
        _join(keys)[:, :, whole],
        _join(values)[:, :, whole],
        spread(weights[..., count:].to(queries.dtype))[:, :, whole, whole],
        mask,
        Blocks(read_parted, None, _UNKNOWN, _GLOBAL) if count else Blocks(read_parted),
    )


def _join(blocks: Tensor) -> Tensor:
    """Blocks end to end: ``(example, head, token, dim)``."""
    return blocks.flatten(2, 3)
