"""One shard file: Zarr v3's ``sharding_indexed``, the index at the end and a tag before it.

::

    chunk, chunk, ...   in C order of the chunks' coordinates, without gaps
    tag                 16 bytes that bind the chunks to their plan and their path
    index               per inner chunk: offset and size, little-endian uint64 (2**64-1 twice:
    absent) crc32c              of the index, little-endian uint32
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

from . import disk
from .codecs import Buffer, crc32c
from .errors import VaultError
from .threads import beside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from .remote import Place

TAG_BYTES: Final = 16
_CRC_BYTES: Final = 4
_HASHED_BESIDE: Final = 256 << 10
"""Bytes from which hashing beside writing is worth a thread's waking."""
ABSENT: Final = 2**64 - 1


@dataclass(frozen=True)
class ShardReceipt:
    """What a commit says of one shard file.

    Attributes:
        size: bytes of the file.
        xxh3_128: of all its bytes, hexadecimal.
        tail_sha256: of tag and index, without the index's checksum, hexadecimal.
    """

    size: int
    xxh3_128: str
    tail_sha256: str


def shard_tag(binding: str, path: str, chunks: str) -> bytes:
    """The 16 bytes before a shard's index.

    A receipt holds the digest of tag and index, so that a reader who checks these few bytes knows
    the file from every other: the same file of another run of the same plan, too, whose chunks
    may well have the same sizes.

    Args:
        binding: the hash of the plan (of the spec, for shards of ``examples/``).
        path: of the shard within the vault.
        chunks: XXH3-128 of all bytes before the tag, hexadecimal.
    """
    return hashlib.sha256(f"{binding}\n{path}\n{chunks}".encode()).digest()[:TAG_BYTES]


class ShardWriter:
    """Writes one shard under a temporary name; :meth:`close` makes it whole and durable.

    Chunks are added in C order of their coordinates; those never added are absent.
    """

    def __init__(self, temporary: Path, chunks: int, binding: str, final: str) -> None:
        """Open the temporary file.

        Args:
            chunks: inner chunks of the shard.
            binding: what its tag binds it to; see :func:`shard_tag`.
            final: its path within the vault.
        """
        self.path = temporary
        self._index: NDArray[np.uint64] = np.full((chunks, 2), ABSENT, np.uint64)
        self._binding = binding
        self._final = final
        self._size = 0
        self._hash = xxhash.xxh3_128()
        with disk.writing(temporary):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._fd = os.open(temporary, flags, 0o666)

    def add(self, chunks: Iterable[tuple[int, list[Buffer]]]) -> None:
        """Append encoded chunks, each with its number in the shard."""
        buffers: list[Buffer] = []
        for number, parts in chunks:
            size = sum(len(part) for part in parts)
            self._index[number] = (self._size, size)
            self._size += size
            buffers += parts
        self._append(buffers)

    def close(self, chunks: int | None = None) -> ShardReceipt:
        """Write tag and index, sync, close. ``chunks`` shortens the index to so many chunks."""
        index = self._index[:chunks].astype("<u8").tobytes()
        checksum = crc32c(index).to_bytes(_CRC_BYTES, "little")
        tag = shard_tag(self._binding, self._final, self._hash.hexdigest())
        self._append([tag, index, checksum])
        with disk.writing(self.path):
            os.fsync(self._fd)
        self.abandon()
        size = self._size + TAG_BYTES + len(index) + _CRC_BYTES
        return ShardReceipt(size, self._hash.hexdigest(), hashlib.sha256(tag + index).hexdigest())

    def abandon(self) -> None:
        """Close the file as it is; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _append(self, buffers: list[Buffer]) -> None:
        if sum(len(buffer) for buffer in buffers) < _HASHED_BESIDE:
            self._update(buffers)
            hashing = None
        else:
            hashing = beside().submit(self._update, buffers)
        try:
            with disk.writing(self.path):
                disk.write_buffers(self._fd, buffers)
        finally:
            if hashing is not None:
                hashing.result()  # whoever gave the buffers may use their memory again

    def _update(self, buffers: list[Buffer]) -> None:
        for buffer in buffers:
            self._hash.update(buffer)


class Shard:
    """A shard open for reading, its tail checked. Its file closes when nobody holds it.

    Attributes:
        read: bytes of the file, from an offset and a size; thread-safe, for it keeps no position.
    """

    __slots__ = ("end", "index", "path", "read")

    def __init__(self, path: Place, chunks: int, receipt: ShardReceipt) -> None:
        """Open and check size, index checksum, digest of tag and index, and every index entry.

        Args:
            chunks: inner chunks of a shard, as its array's metadata says.

        Raises:
            VaultError: the file is missing or is not the one that was committed.
        """
        self.path = path
        file = disk.open_file(path, receipt.size)
        size = file.size
        self.read = file.read
        index_bytes = chunks * 16
        self.end = size - TAG_BYTES - index_bytes - _CRC_BYTES
        if size != receipt.size or self.end < 0:
            raise VaultError(f"{path} has {size} bytes; {receipt.size} were committed")
        tail = self.read(self.end, size - self.end)
        index = tail[TAG_BYTES:-_CRC_BYTES]
        if int.from_bytes(tail[-_CRC_BYTES:], "little") != crc32c(index):
            raise VaultError(f"{path} is damaged: its index does not match its checksum")
        if hashlib.sha256(tail[:-_CRC_BYTES]).hexdigest() != receipt.tail_sha256:
            raise VaultError(
                f"{path} is not the file that was committed: its tag and index are others"
            )
        self.index: NDArray[np.uint64] = np.frombuffer(index, "<u8").reshape(chunks, 2)
        self._check_entries()

    def entry(self, number: int) -> tuple[int, int]:
        """Offset and size of an inner chunk.

        Raises:
            VaultError: the chunk is absent.
        """
        offset, size = self.index[number].tolist()
        if offset == ABSENT:
            raise VaultError(f"{self.path} is damaged: chunk {number} is missing from it")
        return offset, size

    def _check_entries(self) -> None:
        """Entries lie in the file, in order, and none on another: no byte is unpacked twice."""
        offsets, sizes = self.index[:, 0], self.index[:, 1]
        present = offsets != np.uint64(ABSENT)
        end = np.uint64(self.end)
        fits = (offsets <= end) & (sizes <= end) & (sizes <= end - np.minimum(offsets, end))
        if not np.all(np.where(present, fits, sizes == np.uint64(ABSENT))):
            raise VaultError(f"{self.path} is damaged: its index points outside the file")
        starts, ends = offsets[present], offsets[present] + sizes[present]
        if (starts[1:] < ends[:-1]).any():
            raise VaultError(f"{self.path} is damaged: its chunks lie on each other")
