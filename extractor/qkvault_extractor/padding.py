"""Whether what fills up the shorter texts of a batch changes the attention of their own tokens.

Masks keep it out of most models. Convolutions over tokens (ConvBERT), pools of tokens (Funnel,
CANINE) and a choice of keys (DeepSeek-V3.2) may let it in: then texts share a batch with texts of
their length only, or what is kept of one would depend on which others it was run with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from qkvault_extractor.stacks import Sides
from qkvault_extractor.ways import collect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault import Record
    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.captured import Captured
    from qkvault_extractor.model import LoadedModel

MOVED: Final = {torch.float32: 1e-3}
"""How far a weight may move by rounding, which batches of other shapes do otherwise."""

MOVED_IN_HALF: Final = 0.1


def bears_padding(loaded: LoadedModel, captured: Captured, batch: list[Record]) -> bool:
    """Whether a text's attention is the same with padding behind it as it is alone.

    Args:
        loaded: the model.
        captured: what was captured of the batch.
        batch: examples, of which the second one is padded to the length of the first.
    """
    sides = Sides.of(batch)
    if len(batch) < 2 or sides.lengths[0] == sides.lengths[1]:
        return True
    calls: list[AttentionCall] = []
    left_out = [place for place, _ in captured.left_out]
    try:
        with collect(
            loaded.model,
            captured.way,
            calls.append,
            left_out=left_out,
            joined=captured.joined,
            describe=True,
        ):
            loaded.forward(batch[1:2])
    except Exception:  # the model's own code: it takes no text as short as that without padding
        return True
    if len(calls) != len(captured.placed):
        return False
    for alone, one in zip(calls, captured.placed, strict=True):
        queries, keys = sides.along(one.site.stack)[1]
        padded = one.call.weights[1, :, :queries, :keys].float()
        own = alone.weights[0, :, :queries, :keys].float()
        allowed = MOVED.get(one.call.weights.dtype, MOVED_IN_HALF)
        if own.shape != padded.shape or not float((own - padded).abs().max()) <= allowed:
            return False
    return True


def part_by_length(
    kinds: NDArray[np.int64], lengths: NDArray[np.int32], targets: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Kinds of examples of which none needs padding in a batch of its kind.

    Args:
        kinds: as :func:`qkvault_extractor.batches.plan_batches` takes them, int64 [N].
        lengths, targets: tokens of each example and of its target, int32 [N].

    Returns:
        int64 [N]; by ascending kind and length.
    """
    rows = np.stack([kinds, targets, lengths], 1)
    found: NDArray[np.int64] = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    return found.astype(np.int64)
