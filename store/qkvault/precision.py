"""How attention becomes codes and codes become attention, with the bound on what is lost.

=========  ===================================  =============================
precision  stored                               largest error of one weight
=========  ===================================  =============================
float32    the value                            0
float16    the value, rounded                   2**-12 (weights lie in [0, 1])
uint16     ``c = round(65535 a)``               7.7e-6
uint8      ``c = round(255 sqrt(a))``           3.93e-3
=========  ===================================  =============================

A thumbnail holds the uint8 code of the map pooled to at most 64 x 64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .decoding import DECODERS
from .errors import InputError
from .spec import THUMBNAIL_SIDE, Precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ERROR: Final[dict[Precision, float]] = {
    "float32": 0.0,
    "float16": 2.0**-12,
    "uint16": 7.7e-6,
    "uint8": 3.93e-3,
}
"""Largest absolute error of one attention weight, rounding in float32 included."""

DTYPES: Final[dict[Precision, str]] = {
    "float32": "float32",
    "float16": "float16",
    "uint16": "uint16",
    "uint8": "uint8",
}

_OVERSHOOT = 1e-3  # a softmax in half precision may round above 1


def encode_attention(attention: NDArray[np.float32], precision: Precision) -> NDArray[Any]:
    """Turn attention weights into the codes that a vault stores.

    Args:
        attention: float32, any shape, every value in [0, 1].
        precision: see the module's table.

    Returns:
        An array of the same shape and the precision's stored dtype.

    Raises:
        InputError: a value is NaN, infinite or outside [0, 1].
    """
    weights = np.asarray(attention, dtype=np.float32)
    if weights.size and not (weights.min() >= 0.0 and weights.max() <= 1.0 + _OVERSHOOT):
        raise InputError(
            f"attention weights must lie in [0, 1]; found {weights.min()} to {weights.max()}"
        )
    if precision == "uint16":
        return np.rint(np.minimum(weights, 1.0) * np.float32(65535.0)).astype(np.uint16)
    if precision == "uint8":
        return square_root_codes(weights)
    return weights.astype(DTYPES[precision])


def decode_attention(codes: NDArray[Any], precision: Precision) -> NDArray[np.float32]:
    """Turn stored codes back into float32 weights; inverse of :func:`encode_attention`.

    Args:
        codes: any shape, the precision's stored dtype.
        precision: see the module's table.
    """
    out = np.empty(codes.shape, np.float32)
    DECODERS[precision](codes, out)
    return out


def make_thumbnail(attention: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pool attention maps to at most 64 x 64 and encode them with the square-root code.

    Bin ``i`` of 64 holds tokens ``floor(i*n/64)`` up to ``floor((i+1)*n/64)``; a cell is the mean
    over its query tokens of the sum over its key tokens, so that each row still sums to one and
    thin lines stay visible. An axis of up to 64 tokens is kept as it is.

    Args:
        attention: float32 ``(..., query_token, key_token)``, cropped to the example's own tokens.

    Returns:
        uint8 ``(..., query_bin, key_bin)``, at most 64 of each; weight = ``(code / 255) ** 2``.
    """
    return square_root_codes(pool_attention(np.asarray(attention, dtype=np.float32)))


def pool_attention(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a thumbnail shows before it is coded, float32; argument as :func:`make_thumbnail`."""
    queries, keys = attention.shape[-2:]
    pooled: NDArray[Any] = attention
    if keys > THUMBNAIL_SIDE:  # (..., query_token, key_bin)
        pooled = np.add.reduceat(pooled, _bin_edges(keys)[:-1], axis=-1)
    if queries > THUMBNAIL_SIDE:  # (..., query_bin, key_bin)
        edges = _bin_edges(queries)
        counts = np.diff(edges).astype(np.float32)
        pooled = np.add.reduceat(pooled, edges[:-1], axis=-2) / counts[:, None]
    return pooled


def _bin_edges(tokens: int) -> NDArray[np.int64]:
    """First token of each bin of an axis, and the one after the last."""
    return np.arange(THUMBNAIL_SIDE + 1) * tokens // THUMBNAIL_SIDE


def square_root_codes(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The uint8 code of weights of any shape, those above 1 as 1."""
    roots = np.sqrt(np.minimum(weights, np.float32(1.0)))
    return np.rint(roots * np.float32(255.0)).astype(np.uint8)


def row_sum_bound(precision: Precision, tokens: int) -> float:
    """Largest distance from 1 of the sum of one decoded attention row of ``tokens`` weights.

    With error at most e per weight a sum is off by at most ``tokens * e``. The square-root code
    errs by at most ``2 sqrt(a) d + d**2`` with ``d = 0.5/255``, and ``sum(sqrt(a)) <=
    sqrt(tokens)`` where the row sums to one (Cauchy-Schwarz). Float16 errs by ``2**-11`` of each
    weight, and by ``2**-25`` at least.
    """
    if precision == "uint16":
        return tokens * MAX_ERROR["uint16"]
    if precision == "uint8":
        step = 0.5 / 255.0
        return 2.0 * step * math.sqrt(tokens) + tokens * step * step
    if precision == "float16":
        return 2.0**-11 + tokens * 2.0**-25
    return 0.0
