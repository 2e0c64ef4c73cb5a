"""Telling what was never written from what is small: missing data is never shown as zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .vectors import VECTOR_FILL

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STORED_MAPS: Final = ("attention", "thumbnail")


def find_holes(name: str, first: NDArray[Any], may_be_empty: bool) -> NDArray[np.bool_]:
    """Where nothing stands in place of a first token's values.

    The first token attends to something: a first row of a map that is nothing but zeros is a hole,
    unless what is no token may take all of its weight.

    Args:
        name: of the array.
        first: what it holds for the first token, ``(..., width)``: as stored, or as float32.
        may_be_empty: whether a row of a map may be nothing but zeros. No whole number then tells a
            hole.

    Returns:
        bool ``(...)``.
    """
    if first.dtype.kind == "i":
        return np.asarray(first[..., -1] == VECTOR_FILL, np.bool_)
    empty = first == 0 if name in _STORED_MAPS and not may_be_empty else np.zeros_like(first, bool)
    if first.dtype.kind == "f":
        empty |= np.isnan(first)
    return np.asarray(empty.all(axis=-1), np.bool_)
