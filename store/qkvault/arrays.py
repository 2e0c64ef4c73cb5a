"""Reading one array of a vault: which chunks a request touches, and getting just those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from .codecs import DamagedChunk
from .errors import VaultError
from .metadata import ArrayMeta
from .shards import Shard

if TYPE_CHECKING:
    from .cache import Cache

OpenShard = Callable[[ArrayMeta, int], Shard]
Decode = Callable[[NDArray[Any], NDArray[Any]], None]
AxisPart = tuple[int, slice | list[int], slice | list[int]]

_MAX_READ: Final = 8 << 20  # chunks that follow each other are read at once up to so many bytes


def copy_codes(codes: NDArray[Any], out: NDArray[Any]) -> None:
    """The decoding that changes nothing."""
    out[...] = codes


def split_axis(indices: Sequence[int], chunk: int) -> list[AxisPart]:
    """Part wanted indices of an axis by chunk: (chunk, indices within it, places in the result)."""
    if isinstance(indices, range) and indices.step == 1:
        start, stop = indices.start, indices.stop
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


class RowReader:
    """Reads one example's part of a five-axis array ``(example, layer, head, token, width)``."""

    def __init__(self, meta: ArrayMeta, open_shard: OpenShard) -> None:
        self.meta = meta
        self._open = open_shard
        self._rows_per_shard = meta.shard[0]
        self._rows_per_chunk = meta.chunk[0]
        _, layers, heads, tokens, _ = meta.grid
        self._strides = (layers * heads * tokens, heads * tokens, tokens)

    def read(
        self,
        row: int,
        layers: Sequence[int],
        heads: Sequence[int],
        tokens: range,
        width: int,
        dtype: np.dtype[Any],
        decode: Decode,
    ) -> NDArray[Any]:
        """Read some layers, heads and tokens of one row.

        Args:
            row: of the array.
            layers, heads: positions along their axes.
            tokens: along the token axis, step 1.
            width: leading cells of the last axis.
            dtype: of the result.
            decode: writes codes into a part of the result.

        Returns:
            ``(layer, head, token, width)``.

        Raises:
            VaultError: a touched file or chunk is missing or damaged.
        """
        out = np.empty((len(layers), len(heads), len(tokens), width), dtype)
        shard = self._open(self.meta, row // self._rows_per_shard)
        inside = row % self._rows_per_shard
        base = inside // self._rows_per_chunk * self._strides[0]
        within = inside % self._rows_per_chunk
        chunk_shape = self.meta.chunk
        wanted = []
        for layer_chunk, layer_in, layer_out in split_axis(layers, chunk_shape[1]):
            for head_chunk, head_in, head_out in split_axis(heads, chunk_shape[2]):
                at = base + layer_chunk * self._strides[1] + head_chunk * self._strides[2]
                for token_chunk, token_in, token_out in split_axis(tokens, chunk_shape[3]):
                    places = (layer_in, head_in, token_in, layer_out, head_out, token_out)
                    wanted.append((at + token_chunk, places))
        buffer = np.empty(chunk_shape, self.meta.dtype)
        for place, source in _fetch(shard, [number for number, _ in wanted]):
            self._unpack(source, buffer, shard, row)
            layer_in, head_in, token_in, layer_out, head_out, token_out = wanted[place][1]
            codes = buffer[within, :, :, :, :width]
            _scatter(
                codes, (layer_in, head_in, token_in), out, (layer_out, head_out, token_out), decode
            )
        return out

    def _unpack(self, source: bytes, out: NDArray[Any], shard: Shard, row: int) -> None:
        try:
            self.meta.codec.decode(source, out)
        except DamagedChunk as damage:
            raise VaultError(f"{shard.path} is damaged at row {row}: {damage}") from None


def _scatter(
    codes: NDArray[Any],
    source: tuple[slice | list[int], slice | list[int], slice | list[int]],
    out: NDArray[Any],
    target: tuple[slice | list[int], slice | list[int], slice | list[int]],
    decode: Decode,
) -> None:
    """Decode a part of a chunk into its place; lists of indices go through a copy."""
    part = codes[source[0]][:, source[1]][:, :, source[2]]
    if all(isinstance(places, slice) for places in target):
        decode(part, out[target])
        return
    piece = np.empty(part.shape, out.dtype)
    decode(part, piece)
    every = [
        np.arange(out.shape[axis])[places] if isinstance(places, slice) else places
        for axis, places in enumerate(target)
    ]
    out[np.ix_(*every)] = piece


def _fetch(shard: Shard, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
    """Bytes of each chunk, with its place in ``numbers``; neighbours in the file are read once."""
    if len(numbers) == 1:
        offset, size = shard.entry(numbers[0])
        yield 0, shard.read(offset, size)
        return
    entries = [shard.entry(number) for number in numbers]
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
        data = shard.read(first, end - first)
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
