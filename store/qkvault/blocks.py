"""Reading many rows of one array at once, each touched chunk unpacked once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import allocate, scale_cells, split_axis
from .codecs import DamagedChunk
from .decoding import DECODERS, copy_codes
from .errors import VaultError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .arrays import RowReader
    from .decoding import Decode
    from .shards import Shard

Axis = slice | list[int]


class BlockReader:
    """Reads rows of a five-axis array ``(example, layer, head, token, width)``, chunk by chunk.

    Attributes:
        meta: of the array.
        width: values along the last axis; int16 vectors have one stored cell more.
    """

    def __init__(self, reader: RowReader) -> None:
        self.meta = reader.meta
        self.width = reader.width
        self._shard_of = reader.shard

    def read(
        self,
        rows: NDArray[np.int64],
        layers: Sequence[int],
        heads: Sequence[int],
        raw: bool = False,
    ) -> NDArray[Any]:
        """Read some layers and heads of some rows.

        Args:
            rows: int64 ``(row,)``, ascending, within the array.
            layers, heads: positions along their axes.
            raw: give the numbers as stored, with the scales of int16 vectors.

        Returns:
            ``(row, layer, head, token, width)``, float32 or the stored type, padded to the bucket's
            length.

        Raises:
            VaultError: a touched file or chunk is missing or damaged.
            ResourceError: the machine has not the memory for the answer.
        """
        width = self.width + scale_cells(self.meta) if raw else self.width
        dtype = self.meta.dtype if raw else np.dtype(np.float32)
        decode = copy_codes if raw else DECODERS[self.meta.dtype.name]
        shape = (len(rows), len(layers), len(heads), self.meta.shape[3], width)
        out = allocate(shape, dtype)
        buffer = np.empty(self.meta.chunk, self.meta.dtype)
        starts = np.flatnonzero(np.diff(rows // self.meta.chunk[0], prepend=-1)).tolist()
        for first, last in zip(starts, [*starts[1:], len(rows)], strict=True):
            shard = self._shard_of(int(rows[first]))
            inside = _as_axis((rows[first:last] % self.meta.chunk[0]).tolist())
            for number, source, target in self._chunks(int(rows[first]), layers, heads):
                self._unpack(shard, number, buffer)
                _place(buffer[inside], source, out[first:last], target, decode)
        return out

    def _chunks(
        self, row: int, layers: Sequence[int], heads: Sequence[int]
    ) -> list[tuple[int, tuple[Axis, Axis], tuple[Axis, Axis, slice]]]:
        """The chunks to read for a row: number in the shard, what to take, where to put it."""
        chunk, grid = self.meta.chunk, self.meta.grid
        block = row % self.meta.shard[0] // chunk[0]
        head_parts = split_axis(heads, chunk[2])
        return [
            (
                ((block * grid[1] + layer) * grid[2] + head) * grid[3] + token,
                (layer_in, head_in),
                (layer_out, head_out, slice(token * chunk[3], (token + 1) * chunk[3])),
            )
            for layer, layer_in, layer_out in split_axis(layers, chunk[1])
            for head, head_in, head_out in head_parts
            for token in range(grid[3])
        ]

    def _unpack(self, shard: Shard, number: int, target: NDArray[Any]) -> None:
        offset, size = shard.entry(number)
        try:
            self.meta.codec.decode(shard.read(offset, size), target)
        except DamagedChunk as damage:
            raise VaultError(f"{shard.path} is damaged in chunk {number}: {damage}") from None


def _as_axis(indices: list[int]) -> Axis:
    """A slice where the indices follow each other, so that indexing copies nothing."""
    first, count = indices[0], len(indices)
    return slice(first, first + count) if indices[-1] - first == count - 1 else indices


def _place(
    codes: NDArray[Any],
    source: tuple[Axis, Axis],
    out: NDArray[Any],
    target: tuple[Axis, Axis, slice],
    decode: Decode,
) -> None:
    """Decode some layers and heads of a chunk's rows into their places."""
    layers, heads = (_as_axis(axis) if isinstance(axis, list) else axis for axis in source)
    part = codes[:, layers][:, :, heads]
    layers_out, heads_out, tokens = target
    if isinstance(layers_out, slice) and isinstance(heads_out, slice):
        decode(part, out[:, layers_out, heads_out, tokens])
        return
    layers_at = np.arange(out.shape[1])[layers_out].tolist()
    heads_at = np.arange(out.shape[2])[heads_out].tolist()
    for i, layer in enumerate(layers_at):
        for j, head in enumerate(heads_at):
            decode(part[:, i, j], out[:, layer, head, tokens])
