"""Queries, keys and values as stored: float32, float16, or int16 with a scale for each vector.

=======  ===============================================  ==================================
type     stored                                           largest error of one value
=======  ===============================================  ==================================
float32  the value                                        0
float16  the value, rounded                               2**-11 of it, 2**-25 at least
int16    ``round(value / scale)``, and the scale last     1.55e-5 of its vector's largest
=======  ===============================================  ==================================

A scale is float32 whose lower 16 bits are zero, so that the upper ones fit the cell after the
vector's own: one read gets both, and ``code * scale`` is exact in float32. It is the least such
number that brings the largest value of the vector within 32767.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .spec import VectorPrecision

VECTOR_FILL: Final = 0x7FC0
"""What stands in int16 cells that hold nothing: as a scale it is NaN, and so is the vector."""

VECTOR_ERROR: Final[dict[VectorPrecision, float]] = {
    "float32": 0.0,
    "float16": 2.0**-11,
    "int16": 1.55e-5,
}
"""Largest relative error: of the value itself, but of its vector's largest value for int16."""

LARGEST_CODE: Final = 32767
_LEAST_SCALE: Final = 0x0080  # upper bits of 2**-126, the least number that is not subnormal


def encode_vectors(vectors: NDArray[Any], precision: VectorPrecision) -> NDArray[Any]:
    """Turn vectors into what a vault stores.

    Args:
        vectors: floats ``(..., dim)``.
        precision: see the module's table.

    Returns:
        The stored type; ``(..., dim)``, or ``(..., dim + 1)`` for int16. What is not finite stays
        so for floats, and makes the whole vector NaN for int16.
    """
    if precision != "int16":
        return vectors.astype(precision)
    values = np.asarray(vectors, np.float32)
    out = np.empty((*values.shape[:-1], values.shape[-1] + 1), np.int16)
    least = np.abs(values).max(-1, keepdims=True) / np.float32(LARGEST_CODE)
    # Rounded up to the next number without lower bits.
    upper = np.maximum((least.view(np.uint32) + np.uint32(0xFFFF)) >> 16, _LEAST_SCALE)
    upper[~np.isfinite(least)] = VECTOR_FILL
    out[..., -1:] = upper.astype(np.uint16).view(np.int16)
    with np.errstate(invalid="ignore"):
        out[..., :-1] = np.rint(values / scales_of(out))
    return out


def decode_vectors(codes: NDArray[Any]) -> NDArray[np.float32]:
    """Turn stored vectors back into float32 ``(..., dim)``; inverse of :func:`encode_vectors`."""
    if codes.dtype.kind == "f":
        return codes.astype(np.float32)
    out: NDArray[np.float32] = codes[..., :-1] * scales_of(codes)
    return out


def scales_of(codes: NDArray[np.int16]) -> NDArray[np.float32]:
    """Scales of int16 vectors ``(..., dim + 1)``: float32 ``(..., 1)``."""
    return (codes[..., -1:].astype(np.int32) << 16).view(np.float32)


def crop_vectors(vectors: NDArray[Any], width: int) -> NDArray[Any]:
    """The first values of vectors, ``(..., dim)`` floats or ``(..., dim + 1)`` of int16, which keep
    their scale."""
    if vectors.dtype != np.int16:
        return vectors[..., :width]
    if vectors.shape[-1] == width + 1:
        return vectors
    return np.concatenate([vectors[..., :width], vectors[..., -1:]], -1)


def crop_widths(vectors: NDArray[Any], widths: Sequence[int], layers: int = 0) -> NDArray[Any]:
    """Leave out what is stored beyond the own widths of layers (:attr:`qkvault.Stack.widths`).

    Args:
        vectors: floats or stored codes, the width of the widest along their last axis.
        widths: of each layer along the axis ``layers``.
        layers: which axis that is.

    Returns:
        As wide as the widest of these layers; NaN where a narrower one has no such dimension.

    Raises:
        InputError: codes of int16 of layers of several widths, which have no such number.
    """
    if not widths:
        return vectors
    cropped = crop_vectors(vectors, max(widths))
    if len(set(widths)) > 1:
        if vectors.dtype == np.int16:
            raise InputError(
                "codes of layers of several widths were asked for; take layers of one width"
            )
        cropped = cropped.copy()
        for layer, width in zip(np.moveaxis(cropped, layers, 0), widths, strict=True):
            layer[..., width:] = np.nan
    return cropped
