"""``examples/records``: the lines of all records, cut into chunks as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .chunks import EXAMPLE_CHUNKS_PER_SHARD, RECORD_BYTES_PER_CHUNK, ArrayPlan
from .codecs import make_codec
from .shards import ShardReceipt, ShardWriter

if TYPE_CHECKING:
    from pathlib import Path


class LineWriter:
    """Writes the bytes of all records as chunks of an array whose size is known only at the end."""

    def __init__(self, folder: Path, binding: str) -> None:
        self._folder = folder
        self._binding = binding
        self._codec = make_codec("zstd", 1)
        self._pending = bytearray()
        self._chunks = 0
        self._bytes = 0
        self._receipts: dict[str, ShardReceipt] = {}
        self._writer: ShardWriter | None = None
        self._name = "examples/records"

    def add(self, line: bytes) -> None:
        """Append one line."""
        self._bytes += len(line)
        self._pending += line
        while len(self._pending) >= RECORD_BYTES_PER_CHUNK:
            self._put(bytes(self._pending[:RECORD_BYTES_PER_CHUNK]))
            del self._pending[:RECORD_BYTES_PER_CHUNK]

    def close(self) -> tuple[ArrayPlan, dict[str, ShardReceipt]]:
        """Write what is left; returns the array's plan and its shards."""
        if self._pending:
            self._put(bytes(self._pending).ljust(RECORD_BYTES_PER_CHUNK, b"\0"))
        per_shard = min(self._chunks, EXAMPLE_CHUNKS_PER_SHARD)
        self._close_shard(per_shard)
        plan = ArrayPlan(
            path=self._name,
            shape=(self._bytes,),
            shard=(per_shard * RECORD_BYTES_PER_CHUNK,),
            chunk=(RECORD_BYTES_PER_CHUNK,),
            dtype="uint8",
            codec="zstd",
            dims=("byte",),
            attributes={"encoding": {"name": "json-lines", "charset": "utf-8"}},
        )
        return plan, self._receipts

    def abandon(self) -> None:
        """Close what is open; safe to call twice."""
        if self._writer is not None:
            self._writer.abandon()

    def _put(self, chunk: bytes) -> None:
        place = self._chunks % EXAMPLE_CHUNKS_PER_SHARD
        if place == 0:
            self._close_shard(EXAMPLE_CHUNKS_PER_SHARD)
            path = f"{self._name}/c.{self._chunks // EXAMPLE_CHUNKS_PER_SHARD}"
            self._writer = ShardWriter(
                self._folder / path, EXAMPLE_CHUNKS_PER_SHARD, self._binding, path
            )
        assert self._writer is not None
        self._writer.add([(place, self._codec.encode(np.frombuffer(chunk, np.uint8)))])
        self._chunks += 1

    def _close_shard(self, chunks: int) -> None:
        if self._writer is not None:
            number = len(self._receipts)
            self._receipts[f"{self._name}/c.{number}"] = self._writer.close(chunks)
            self._writer = None
