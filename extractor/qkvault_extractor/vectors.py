"""Queries, keys and values as a vault stores them, made where the tensors are.

Bit for bit what :func:`qkvault.encode_vectors` gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

_LARGEST_CODE: Final = 32767.0
_LEAST_SCALE: Final = 0x0080
_NAN_SCALE: Final = 0x7FC0


def fit_vectors(vectors: Tensor, heads: int, width: int) -> Tensor:
    """Vectors of a layer in the room of a stack whose layers differ; mostly they fill it.

    Args:
        vectors: ``(example, head, token, dim)``.
        heads: of the layer that has most: a multiple of this one's, each of which is repeated, as
            attention itself does with key heads that are fewer than query heads.
        width: of the widest layer; what lies beyond this one's own is 0.
    """
    if vectors.shape[1] < heads:
        vectors = vectors.repeat_interleave(heads // vectors.shape[1], 1)
    lacking = width - vectors.shape[3]
    return torch.nn.functional.pad(vectors, (0, lacking)) if lacking > 0 else vectors


def stored_vectors(vectors: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """Vectors as stored, where they are; the same tensor if nothing is to be done.

    Args:
        vectors: floats ``(..., dim)``.
        dtype: float32, float16 or int16.

    Returns:
        ``(..., dim)``, or ``(..., dim + 1)`` for int16.
    """
    if dtype.name == "int16":
        return _scaled(vectors.float())
    half = dtype.name == "float16"
    return vectors.to(torch.float16 if half else torch.float32)


def _scaled(vectors: Tensor) -> Tensor:
    least = vectors.abs().amax(-1, keepdim=True) / _LARGEST_CODE
    upper = ((least.view(torch.int32) + 0xFFFF) >> 16).clamp_(min=_LEAST_SCALE)
    upper.masked_fill_(~torch.isfinite(least), _NAN_SCALE)
    scales = (upper << 16).view(torch.float32)
    codes = torch.round(vectors / scales).nan_to_num_(0.0)
    return torch.cat([codes.to(torch.int16), upper.to(torch.int16)], -1)
