"""Masks of the longest text, where a model is tried on less of it.

A window or chunk that is wider than a probe does not show there. The longest text shows all that
there are, and no attention need be computed for it: what a rule hides does not depend on that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from qkvault_extractor.capture import Collector
from qkvault_extractor.followed import HIDDEN
from qkvault_extractor.stacks import Sides

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault import Record
    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.captured import Captured
    from qkvault_extractor.model import LoadedModel


def see_masks(
    loaded: LoadedModel, captured: Captured, tried: Sides, records: Sequence[Record]
) -> Mapping[int, Tensor] | None:
    """Which keys the calls of a model show on the longest text.

    Args:
        loaded: the model.
        captured: how it was captured, at the interface.
        tried: tokens of the batch that it was tried on.
        records: examples of the data, the longest among them.

    Returns:
        Of each call with a mask, by its place among those kept, bool ``(1, 1 or head, query_token,
        key_token)``; nothing where the model was tried on as long a text. None where it does not
        run so.
    """
    longest = loaded.feed.choose_probe(records, sys.maxsize)[:1]
    if Sides.of(longest).lengths == tried.lengths[:1]:
        return {}
    found: dict[int, Tensor] = {}
    before: list[Tensor] = []  # layers mostly share a mask

    def look(call: AttentionCall) -> None:
        if call.mask is None:
            return
        if not before or before[0] is not call.mask:
            own = call.mask if call.mask.dtype == torch.bool else call.mask > HIDDEN
            before[:] = [call.mask, own]
        found[call.index] = before[1]

    left_out = [place for place, _ in captured.left_out]
    try:
        with Collector(loaded.model, look, _give_nothing, left_out, captured.joined):
            loaded.forward(longest)
    except Exception:  # the model's own code; or there is no memory for it
        return None
    return found


def _give_nothing(
    index: int, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> Tensor:
    """Stand in for attention."""
    return value.new_zeros((query.shape[0], query.shape[2], query.shape[1], value.shape[3]))
