"""Thumbnails that are not stored, because the attention they would repeat is.

A map of at most 64 tokens is its own thumbnail: only the code differs. Its attention is read, and
coded anew.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .decoding import DECODERS, SQUARE_ROOT_TABLE
from .errors import VaultError
from .holes import find_holes
from .precision import MAX_ERROR, square_root_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .arrays import RowReader
    from .blocks import BlockReader
    from .metadata import ArrayMeta

_CODES: Final = np.dtype(np.uint8)


class ImpliedThumbnails:
    """Reads thumbnails ``(example, layer, head, query_bin, key_bin)`` off the attention.

    Attributes:
        meta: of the attention, but for the type.
        width, layers, places: as of :class:`qkvault.arrays.RowReader`.
        precision: ``uint8``.
        max_error: the code's, and the attention's own.
        derived: False: the weights are stored.
    """

    precision = "uint8"
    derived = False

    def __init__(self, attention: RowReader) -> None:
        self.meta = replace(attention.meta, dtype=_CODES)
        self.width = attention.width
        self.layers = attention.layers
        self.places = attention.places
        self.max_error = MAX_ERROR["uint8"]
        if attention.precision != "uint8":
            self.max_error += attention.max_error
        self._attention = attention

    def read(
        self,
        row: int,
        layers: Sequence[int],
        heads: Sequence[int],
        tokens: range,
        width: int,
        raw: bool = False,
    ) -> NDArray[Any]:
        """Read some layers, heads and query bins of one row; as :meth:`RowReader.read`."""
        codes = self._attention.read(row, layers, heads, tokens, width, raw=True)
        if tokens and not tokens.start:
            _refuse_holes(self.meta, codes[:, :, 0])
        return _made_of(codes, raw)

    def blocks(self) -> ImpliedBlocks:
        """Reader of many rows at once."""
        return ImpliedBlocks(self.meta, self._attention.blocks())


class ImpliedBlocks:
    """Reads thumbnails of many rows; as :class:`qkvault.blocks.BlockReader`."""

    def __init__(self, meta: ArrayMeta, attention: BlockReader) -> None:
        self.meta = meta
        self.width = attention.width
        self._attention = attention

    def read(
        self,
        rows: NDArray[np.int64],
        layers: Sequence[int],
        heads: Sequence[int],
        raw: bool = False,
    ) -> NDArray[Any]:
        """Arguments and result as :meth:`qkvault.blocks.BlockReader.read`."""
        codes = self._attention.read(rows, layers, heads, raw=True)
        _refuse_holes(self.meta, codes[:, :, :, 0])
        return _made_of(codes, raw)


def _refuse_holes(meta: ArrayMeta, first: NDArray[Any]) -> None:
    """The code of a thumbnail cannot say that nothing stands where attention says so with NaN."""
    if find_holes("attention", first, meta.may_be_empty).any():
        raise VaultError(f"{meta.path} is damaged: it holds nothing for some example")


def _made_of(attention: NDArray[Any], raw: bool) -> NDArray[Any]:
    thumbnails = recode(attention)
    return thumbnails if raw else SQUARE_ROOT_TABLE.take(thumbnails)


def recode(codes: NDArray[Any]) -> NDArray[np.uint8]:
    """Codes of a thumbnail from those of attention, of any stored type; 0 for what holds nothing.

    Args:
        codes: any shape, as stored.
    """
    if codes.dtype == np.uint8:
        return codes
    if codes.dtype == np.float32:
        return square_root_codes(_cleared(codes))
    return _table(codes.dtype.name).take(codes.view(np.uint16))


@cache
def _table(precision: str) -> NDArray[np.uint8]:
    """The thumbnail's code of every 16-bit code of attention, uint8 [65536]."""
    weights = np.empty(1 << 16, np.float32)
    codes = np.arange(1 << 16, dtype=np.uint16).view(precision)
    DECODERS[precision](codes, weights)
    return square_root_codes(_cleared(weights))


def _cleared(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without what is no weight: float16 has codes for such, and float32 where nothing stands."""
    return np.where((weights >= 0) & (weights <= 1), weights, np.float32(0))
