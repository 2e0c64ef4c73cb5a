"""What models that compute attention in blocks report of it, as maps of tokens.

By the forms that transformers documents for their outputs, cell by cell or block by block: what was
captured is held against these, so that nothing of how it is captured is used here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def read_band(report: Tensor, of_global: Tensor | None, tokens: int) -> Tensor:
    """Longformer's and LED's ``attentions`` as ``(example, head, query_token, key_token)``.

    Args:
        report: ``(example, head, token, x + window + 1)``: weights of the x global tokens, then of
            those from half a window before to half a window after; rows of global tokens are 0.
        of_global: ``(example, head, token, x)``: weights of all tokens for the x global ones.
        tokens: how many.
    """
    examples, heads = report.shape[:2]
    count = 0 if of_global is None else of_global.shape[-1]
    reach = (report.shape[-1] - count - 1) // 2
    dense = report.new_zeros(examples, heads, tokens, tokens)
    for step in range(max(-reach, 1 - tokens), min(reach, tokens - 1) + 1):
        rows = slice(max(0, -step), tokens - max(0, step))
        dense.diagonal(step, -2, -1).copy_(report[:, :, rows, count + reach + step])
    if of_global is None:
        return dense
    empty = (report == 0).all(-1).all(1)  # (example, token); padding comes last
    for example in range(examples):
        places = list(enumerate(torch.where(empty[example])[0][:count].tolist()))
        for place, token in places:
            dense[example, :, :, token] = report[example, :, :tokens, place]
        for place, token in places:  # their rows were 0
            dense[example, :, token] = of_global[example, :, :tokens, place]
    return dense


def read_neighbours(report: Tensor, of_global: Tensor | None, tokens: int) -> Tensor:
    """LongT5's ``encoder_attentions`` as ``(example, head, query_token, key_token)``.

    Args:
        report: ``(example, block, head, query_token, 3 * block + summary)``.
        of_global: None.
        tokens: how many.
    """
    examples, blocks, heads, length, _ = report.shape
    dense = report.new_zeros(examples, heads, tokens, tokens)
    for block in range(blocks):
        first = block * length
        last = min(first + length, tokens)
        left, right = max(0, first - length), min(last + length, tokens)
        skipped = left - (first - length)
        part = report[:, block, :, : last - first, skipped : skipped + right - left]
        dense[:, :, first:last, left:right] = part
    return dense


def read_parted(report: Mapping[str, Tensor], of_global: Tensor | None, tokens: int) -> Tensor:
    """Pegasus-X's ``encoder_attentions`` as ``(example, head, query_token, key_token)``.

    Args:
        report: of ``local``, ``(example, head, block, query_token, global + key_token)``; where
            blocks are shifted, half a block comes before the first token.
        of_global: None.
        tokens: how many.
    """
    local = report["local"]
    examples, heads, blocks, length, width = local.shape
    shifted = blocks * length > -(-tokens // length) * length
    dense = local.new_zeros(examples, heads, tokens, tokens)
    for block in range(blocks):
        start = block * length - (length // 2 if shifted else 0)
        first, last = max(0, start), min(start + length, tokens)
        if first < last:
            of_block = slice(first - start, last - start)
            own = local[:, :, block, of_block, width - length :]
            dense[:, :, first:last, first:last] = own[..., of_block]
    return dense
