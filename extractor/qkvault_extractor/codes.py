"""Codes of attention weights where the weights are: whole numbers, still in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from typing import Literal

    from torch import Tensor


def to_codes(weights: Tensor, kind: Literal["uint8", "uint16"], out: Tensor) -> Tensor:
    """Turn weights into the codes of a kind, those that :func:`qkvault.encode_attention` gives.

    Args:
        weights: float32, any shape, every value in [0, 1].
        kind: the stored type: ``uint16`` is ``round(65535 a)``, ``uint8`` ``round(255 sqrt(a))``.
        out: float32 of that shape, overwritten; may be ``weights`` itself.

    Returns:
        ``out``.
    """
    if kind == "uint16":
        return torch.mul(weights, 65535.0, out=out).round_()  # half to even, as numpy
    if out.device.type == "cpu":
        # Torch's own is not correctly rounded on every processor, and takes longer.
        np.sqrt(weights.numpy(), out=out.numpy())
    else:
        torch.sqrt(weights, out=out)
    return out.mul_(255.0).round_()
