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
    of who takes them.

    Args:
        arrays: by path.
        metas: of each, in the order that is wanted.
        watch: told of "compress", in the threads that do it.
    """

    def encode(path: str, group: list[tuple[int, ...]]) -> Encoded:
        with watch("compress"):
            return encode_group(arrays[path], metas[path], group)

    ahead = 4 * cores()
    running: deque[Future[Encoded]] = deque()
    try:
        for path, meta in metas.items():
            for group in chunk_groups(meta, len(arrays[path])):
                running.append(pool().submit(encode, path, group))
                if len(running) > ahead:
                    yield running.popleft().result()
        while running:
            yield running.popleft().result()
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


def encode_group(values: NDArray[Any], meta: ArrayMeta, group: list[tuple[int, ...]]) -> Encoded:
    """Chunks of an array as bytes, each with its number in the shard."""
    encoded = []
    for place in group:
        window = tuple(
            slice(at * size, (at + 1) * size) for at, size in zip(place, meta.chunk, strict=True)
        )
        part = values[window]
        if part.shape != meta.chunk:  # rows beyond the last example
            padded = np.full(meta.chunk, meta.fill, meta.dtype)
            padded[: len(part)] = part
            part = padded
        number = 0
        for at, size in zip(place, meta.grid, strict=True):
            number = number * size + at
        encoded.append((number, meta.codec.encode(np.ascontiguousarray(part))))
    return encoded
