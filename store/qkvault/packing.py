"""The chunks of a unit's array as bytes, in groups that are worth a thread's while."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .chunks import MIB
from .codecs import Buffer
from .threads import cores, pool

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from .metadata import ArrayMeta

_GROUP_BYTES: Final = MIB

Encoded = list[tuple[int, list[Buffer]]]
"""Number of each chunk in its shard, and its bytes."""


Watch = Callable[[str], AbstractContextManager[None]]
"""Gives a context around a stretch of work of a named stage."""


def encode_ahead(
    arrays: Mapping[str, NDArray[Any]], metas: Mapping[str, ArrayMeta], watch: Watch
) -> Iterator[Encoded]:
    """Encode arrays on all cores, group after group of :func:`chunk_groups`, in order, a few ahead
    of who takes them. What is given must have been used before the next is asked for.

    Args:
        arrays: by path.
        metas: of each, in the order that is wanted.
        watch: told of "compress", in the threads that do it.
    """

    blocks = _Blocks()

    def encode(path: str, group: list[tuple[int, ...]]) -> tuple[Encoded, NDArray[np.uint8]]:
        with watch("compress"):
            return encode_group(arrays[path], metas[path], group, blocks)

    def taken() -> Iterator[Encoded]:
        encoded, block = running.popleft().result()
        yield encoded
        blocks.give_back(block)

    ahead = 4 * cores()
    running: deque[Future[tuple[Encoded, NDArray[np.uint8]]]] = deque()
    try:
        for path, meta in metas.items():
            for group in chunk_groups(meta, len(arrays[path])):
                running.append(pool().submit(encode, path, group))
                if len(running) > ahead:
                    yield from taken()
        while running:
            yield from taken()
    finally:
        for future in running:
            future.cancel()


def chunk_groups(meta: ArrayMeta, rows: int) -> list[list[tuple[int, ...]]]:
    """Coordinates of the chunks that hold rows, in C order, in groups worth a thread's while."""
    used = (-(-rows // meta.chunk[0]), *meta.grid[1:])
    places = list(product(*map(range, used)))
    chunk_bytes = int(np.prod(meta.chunk)) * meta.dtype.itemsize
    size = max(1, _GROUP_BYTES // chunk_bytes)
    return [places[start : start + size] for start in range(0, len(places), size)]


class _Blocks:
    """Memory that chunks are gathered in, used again and again: fresh pages cost as much as the
    gathering."""

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque()

    def take(self, size: int) -> NDArray[np.uint8]:
        """At least ``size`` bytes."""
        try:
            block = self._free.pop()
        except IndexError:
            block = np.empty(0, np.uint8)
        return block if block.size >= size else np.empty(max(size, _GROUP_BYTES), np.uint8)

    def give_back(self, block: NDArray[np.uint8]) -> None:
        """For whoever takes next; what was encoded in it must have been written."""
        self._free.append(block)


def encode_group(
    values: NDArray[Any], meta: ArrayMeta, group: list[tuple[int, ...]], blocks: _Blocks
) -> tuple[Encoded, NDArray[np.uint8]]:
    """Chunks of an array as bytes, each with its number in the shard.

    Returns:
        The chunks, and the block that they may lie in: to be given back once they are written.
    """
    encoded = []
    cells = int(np.prod(meta.chunk))
    block = blocks.take(len(group) * cells * meta.dtype.itemsize)
    gathered = block[: len(group) * cells * meta.dtype.itemsize].view(meta.dtype)
    for at_group, place in enumerate(group):
        window = tuple(
            slice(at * size, (at + 1) * size) for at, size in zip(place, meta.chunk, strict=True)
        )
        part = values[window]
        if part.shape != meta.chunk or not part.flags.c_contiguous:
            own = gathered[at_group * cells : (at_group + 1) * cells].reshape(meta.chunk)
            own[: len(part)] = part
            own[len(part) :] = meta.fill  # rows beyond the last example
            part = own
        number = 0
        for at, size in zip(place, meta.grid, strict=True):
            number = number * size + at
        encoded.append((number, meta.codec.encode(part)))
    return encoded, block
