"""From stored numbers to float32 values: one function per stored type, each into a given array."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .vectors import scales_of

Decode = Callable[[NDArray[Any], NDArray[Any]], None]

UINT16_SCALE: Final = np.asarray(1.0 / 65535.0, np.float32)
SQUARE_ROOT_TABLE: Final = ((np.arange(256) / 255.0) ** 2).astype(np.float32)
"""uint8 code -> weight, float32 [256]: ``(c / 255) ** 2``."""


def copy_codes(codes: NDArray[Any], out: NDArray[Any]) -> None:
    """The decoding that changes nothing."""
    out[...] = codes


def _decode_uint16(codes: NDArray[Any], out: NDArray[Any]) -> None:
    # Told the type of the product, numpy need not look for it: that takes longer than a small map.
    np.multiply(codes, UINT16_SCALE, out, dtype=np.float32)


def _decode_uint8(codes: NDArray[Any], out: NDArray[Any]) -> None:
    SQUARE_ROOT_TABLE.take(codes, out=out, mode="clip")


def _decode_float16(codes: NDArray[Any], out: NDArray[Any]) -> None:
    # Exact, and twice as fast as numpy's own conversion, which slows down at every NaN.
    _float16_values().take(codes.view(np.uint16), out=out, mode="clip")


def _decode_int16(codes: NDArray[Any], out: NDArray[Any]) -> None:
    np.multiply(codes[..., :-1], scales_of(codes), out=out)


@cache
def _float16_values() -> NDArray[np.float32]:
    """The value of every float16 by its bits, float32 [65536]."""
    return np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)


DECODERS: Final[dict[str, Decode]] = {
    "uint16": _decode_uint16,
    "uint8": _decode_uint8,
    "int16": _decode_int16,
    "float16": _decode_float16,
    "float32": copy_codes,
}
"""By stored type: weights of attention and thumbnails, and vectors (:mod:`qkvault.vectors`)."""
