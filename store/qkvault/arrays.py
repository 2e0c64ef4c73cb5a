"""Reading one array of a vault: which chunks a request touches, and getting just those."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .codecs import DamagedChunk
from .decoding import DECODERS, Decode, copy_codes
from .errors import ResourceError, VaultError
from .metadata import ArrayMeta
from .shards import Shard
from .threads import cores, pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .blocks import BlockReader
    from .cache import Cache

OpenShard = Callable[[ArrayMeta, int], Shard]
AxisPart = tuple[int, slice | list[int], slice | list[int]]
Places = tuple[slice | list[int], slice | list[int], slice | list[int]]
Piece = tuple[int, Places, Places]

_MIN_SHARED: Final = 2 << 20  # decoded bytes from which several threads are worth their start
_FLOAT32: Final = np.dtype(np.float32)
_MAX_READ: Final = 8 << 20  # chunks that follow each other are read at once up to so many bytes


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array for an answer, unfilled.

    Raises:
        ResourceError: the machine has not the memory.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):  # ValueError: more than can be addressed
        size = math.prod(shape) * dtype.itemsize
        raise ResourceError(
            f"there is no memory for {size} bytes of {list(shape)}; ask for less at a time"
        ) from None


def split_axis(indices: Sequence[int], chunk: int) -> list[AxisPart]:
    """Part wanted indices of an axis by chunk: (chunk, indices within it, places in the result)."""
    if isinstance(indices, range) and indices.step == 1:
        start, stop = indices.start, indices.stop
        number = start // chunk
        first = number * chunk
        if start < stop <= first + chunk:  # the common case, on every read's path
            return [(number, slice(start - first, stop - first), slice(0, stop - start))]
        parts: list[AxisPart] = []
        while start < stop:
            number = start // chunk
            first = number * chunk
            end = min(stop, first + chunk)
            at = start - indices.start
            parts.append((number, slice(start - first, end - first), slice(at, at + end - start)))
            start = end
        return parts
    grouped: dict[int, tuple[list[int], list[int]]] = {}
    for place, index in enumerate(indices):
        inside, places = grouped.setdefault(index // chunk, ([], []))
        inside.append(index % chunk)
        places.append(place)
    return [(number, inside, places) for number, (inside, places) in sorted(grouped.items())]


def scale_cells(meta: ArrayMeta) -> int:
    """Cells of the last axis that hold no value but a vector's scale: one for int16."""
    return int(meta.dtype.name == "int16")


class RowReader:
    """Reads one example's part of a five-axis array ``(example, layer, head, token, width)``.

    Attributes:
        meta: the array's metadata.
        width: values along the last axis; int16 vectors have one stored cell more.
        layers: number of the layer at each place of the layer axis.
        places: layer number -> place.
        precision: name of the stored type.
        max_error: largest error of a value, as the array's encoding states it.
        derived: False: the values are stored.
    """

    derived = False

    def __init__(
        self, meta: ArrayMeta, open_shard: OpenShard, layers: tuple[int, ...], max_error: float
    ) -> None:
        self.meta = meta
        self._scale_cells = scale_cells(meta)
        self.width = meta.shape[4] - self._scale_cells
        self.layers = layers
        self.places = {layer: place for place, layer in enumerate(layers)}
        self.precision = str(meta.dtype.name)
        self.max_error = max_error
        self._decode = DECODERS[self.precision]
        self._open = open_shard
        self._rows_per_shard = meta.shard[0]
        self._rows_per_chunk = meta.chunk[0]
        self._chunk_bytes = math.prod(meta.chunk) * meta.dtype.itemsize
        per_head = meta.grid[3]
        per_layer = meta.grid[2] * per_head
        self._strides = (meta.grid[1] * per_layer, per_layer, per_head)

    def blocks(self) -> BlockReader:
        """Reader of many rows of the array at once."""
        from .blocks import BlockReader  # which is made of this module's parts

        return BlockReader(self)

    def shard(self, row: int) -> Shard:
        """The shard that holds a row of the array."""
        return self._open(self.meta, row // self._rows_per_shard)

    def read(
        self,
        row: int,
        layers: Sequence[int],
        heads: Sequence[int],
        tokens: range,
        width: int,
        raw: bool = False,
    ) -> NDArray[Any]:
        """Read some layers, heads and tokens of one row.

        Args:
            row: of the array.
            layers, heads: positions along their axes.
            tokens: along the token axis, step 1.
            width: leading values of the last axis.
            raw: give the numbers as stored, with the scales of int16 vectors.

        Returns:
            ``(layer, head, token, width)``, float32 or the stored type.

        Raises:
            VaultError: a touched file or chunk is missing or damaged.
            ResourceError: the machine has not the memory for the answer.
        """
        shard = self._open(self.meta, row // self._rows_per_shard)
        dtype, decode = (self.meta.dtype, copy_codes) if raw else (_FLOAT32, self._decode)
        cells = width + self._scale_cells
        out = allocate((len(layers), len(heads), len(tokens), cells if raw else width), dtype)
        pieces = self._pieces(row, layers, heads, tokens)
        if len(pieces) > 1 and len(pieces) * self._chunk_bytes >= _MIN_SHARED:
            self._read_shared(pieces, shard, row, cells, out, decode)
        else:
            self._read_pieces(pieces, shard, row, cells, out, decode)
        return out

    def _pieces(
        self, row: int, layers: Sequence[int], heads: Sequence[int], tokens: range
    ) -> list[Piece]:
        """The chunks to read: number in the shard, what to take from it, where to put it."""
        _, per_layer, per_head = self._strides
        inside = row % self._rows_per_shard
        base = inside // self._rows_per_chunk * self._strides[0]
        chunk = self.meta.chunk
        head_parts = split_axis(heads, chunk[2])
        token_parts = split_axis(tokens, chunk[3])
        pieces: list[Piece] = []
        for layer_chunk, layer_in, layer_out in split_axis(layers, chunk[1]):
            for head_chunk, head_in, head_out in head_parts:
                at = base + layer_chunk * per_layer + head_chunk * per_head
                for token_chunk, token_in, token_out in token_parts:
                    source = (layer_in, head_in, token_in)
                    pieces.append((at + token_chunk, source, (layer_out, head_out, token_out)))
        return pieces

    def _read_shared(
        self,
        pieces: list[Piece],
        shard: Shard,
        row: int,
        cells: int,
        out: NDArray[Any],
        decode: Decode,
    ) -> None:
        """Read on all cores. Helpers take from one end and this thread from the other, so that a
        busy machine, on which no helper gets to run, costs nothing but their being asked."""
        left = deque(pieces)

        def work(take: Callable[[], Piece]) -> None:
            while True:
                try:
                    piece = take()
                except IndexError:  # none is left
                    return
                self._read_pieces([piece], shard, row, cells, out, decode)

        helpers = [pool().submit(work, left.pop) for _ in range(min(cores(), len(pieces)) - 1)]
        try:
            work(left.popleft)
        finally:
            left.clear()
            running = [helper for helper in helpers if not helper.cancel()]
            wait(running)
        for helper in running:
            helper.result()

    def _read_pieces(
        self,
        pieces: list[Piece],
        shard: Shard,
        row: int,
        cells: int,
        out: NDArray[Any],
        decode: Decode,
    ) -> None:
        inside = row % self._rows_per_shard % self._rows_per_chunk
        meta = self.meta
        for place, packed in _fetch(shard, pieces):
            try:
                unpacked = meta.codec.unpack(packed, self._chunk_bytes)
            except DamagedChunk as damage:
                raise VaultError(f"{shard.path} is damaged at row {row}: {damage}") from None
            chunk = np.frombuffer(unpacked, meta.dtype).reshape(meta.chunk)
            codes = chunk[inside, ..., :cells]
            _, source, target = pieces[place]
            _scatter(codes, source, out, target, decode)


def _scatter(
    codes: NDArray[Any], source: Places, out: NDArray[Any], target: Places, decode: Decode
) -> None:
    """Decode a part of a chunk into its place; lists of indices go through a copy."""
    layers, heads, tokens = source
    if isinstance(layers, slice) and isinstance(heads, slice):
        decode(codes[layers, heads, tokens], out[target])
        return
    part = codes[layers][:, heads][:, :, tokens]
    piece = np.empty((*part.shape[:3], out.shape[3]), out.dtype)
    decode(part, piece)
    every = [
        np.arange(out.shape[axis])[places] if isinstance(places, slice) else places
        for axis, places in enumerate(target)
    ]
    out[np.ix_(*every)] = piece


def _fetch(shard: Shard, pieces: list[Piece]) -> Iterable[tuple[int, bytes | memoryview]]:
    """Bytes of each piece's chunk, with its place; neighbours in the file are read at once."""
    if len(pieces) == 1:
        return [(0, shard.read(*shard.entry(pieces[0][0])))]
    return _fetch_runs(shard, [shard.entry(piece[0]) for piece in pieces])


def _fetch_runs(shard: Shard, entries: list[tuple[int, int]]) -> Iterator[tuple[int, memoryview]]:
    order = sorted(range(len(entries)), key=entries.__getitem__)
    start = 0
    while start < len(order):
        first = entries[order[start]][0]
        end = first + entries[order[start]][1]
        stop = start + 1
        while stop < len(order):
            offset, size = entries[order[stop]]
            if offset != end or end + size - first > _MAX_READ:
                break
            end += size
            stop += 1
        data = memoryview(shard.read(first, end - first))
        for place in order[start:stop]:
            offset, size = entries[place]
            yield place, data[offset - first : offset - first + size]
        start = stop


class Column:
    """Reads rows of an array that is cut along its first axis only; keeps decoded chunks."""

    def __init__(self, meta: ArrayMeta, open_shard: OpenShard, cache: Cache[Any, Any]) -> None:
        self.meta = meta
        self._open = open_shard
        self._cache = cache
        self._rows = meta.chunk[0]

    def row(self, index: int) -> Any:
        """One row: an element, or an array of the other axes. ``index`` is within the array."""
        return self.chunk(index // self._rows)[index % self._rows]

    def chunk(self, number: int) -> NDArray[Any]:
        """A decoded chunk, read-only; the last one is padded to full size.

        Raises:
            VaultError: the chunk is missing or damaged.
        """
        key = (self.meta.path, number)
        kept: NDArray[Any] | None = self._cache.get(key)
        if kept is None:
            kept = self._read(number)
            kept.flags.writeable = False
            self._cache.put(key, kept, kept.nbytes)
        return kept

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop`` (within the array) in one array."""
        size = self._rows
        pieces = [
            self.chunk(number)[max(start - number * size, 0) : stop - number * size]
            for number in range(start // size, -(-stop // size))
        ]
        if len(pieces) == 1:
            return pieces[0]
        return (
            np.concatenate(pieces)
            if pieces
            else np.empty((0, *self.meta.shape[1:]), self.meta.dtype)
        )

    def _read(self, number: int) -> NDArray[Any]:
        per_shard = self.meta.grid[0]
        shard = self._open(self.meta, number // per_shard)
        offset, size = shard.entry(number % per_shard)
        out = np.empty(self.meta.chunk, self.meta.dtype)
        try:
            self.meta.codec.decode(shard.read(offset, size), out)
        except DamagedChunk as damage:
            raise VaultError(
                f"{shard.path} is damaged in chunk {number % per_shard}: {damage}"
            ) from None
        return out
