"""Arrays made to do harm, with all hashes right: refused in a word, soon, and in little memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest
from guard import guarded
from hostile import SECONDS, inner, refuses, shard_of, use

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable

    from forging import Forger


def test_a_forger_that_changes_nothing_passes(forger: Forger) -> None:
    """The workshop itself is sound: what follows is refused for what it changes alone."""
    forger.put_metadata("b0008/encoder/attention", forger.metadata("b0008/encoder/attention"))
    forger.put_records(forger.records())
    forger.put_column("place", forger.column("place"))
    forger.put_index(0, shard_of(forger, 0, "attention"), lambda index: None)
    forger.sign()
    told = guarded(lambda: use(forger.path), SECONDS)
    assert told["refused"] == told["damages"] == 0


def _shape(document: dict[str, Any], shape: list[int], chunk: list[int]) -> None:
    document["shape"] = shape
    document["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape[1:]]
    inner(document)["chunk_shape"] = chunk


def copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


ARRAY_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a shape of 10^100": lambda d: d.update(shape=[10**100, 2, 4, 8, 8]),
    "a product beyond 2^62": lambda d: d.update(shape=[2**40, 2, 2**40, 8, 8]),
    "100 axes": lambda d: _shape(d, [1] * 100, [1] * 100),
    "no axes": lambda d: _shape(d, [], []),
    "a chunk of nothing": lambda d: inner(d).update(chunk_shape=[0, 2, 4, 8, 8]),
    "a chunk below nothing": lambda d: inner(d).update(chunk_shape=[-1, 2, 4, 8, 8]),
    "a chunk of 2^40": lambda d: inner(d).update(chunk_shape=[2**40, 2, 4, 8, 8]),
    "chunks of one cell": lambda d: _shape(d, [1, 2**20, 2**20, 8, 8], [1, 1, 1, 1, 8]),
    "chunks of 64 MiB": lambda d: _shape(d, [9, 2, 4, 2048, 2048], [1, 2, 4, 2048, 2048]),
    "sizes that are not whole": lambda d: d.update(shape=[1.5, 2, 4, 8, 8]),
    "sizes that are true": lambda d: d.update(shape=[True, 2, 4, 8, 8]),
    "an unknown codec": lambda d: inner(d).update(
        codecs=[{"name": "bytes"}, {"name": "numcodecs.pickle", "configuration": {}}]
    ),
    "a codec within a codec": lambda d: inner(d).update(codecs=json.loads(json.dumps(d["codecs"]))),
    "a codec without checksum": lambda d: inner(d)["codecs"][1]["configuration"].update(
        checksum=False
    ),
    "a type of Python": lambda d: d.update(data_type="object"),
    "a type of unending text": lambda d: d.update(data_type="fixed_length_utf32" * 10_000),
    "keys that climb": lambda d: d["chunk_key_encoding"]["configuration"].update(
        separator="/../../"
    ),
    "names without end": lambda d: d.update(dimension_names=["x" * 900_000] * 5),
}


@pytest.mark.parametrize("change", ARRAY_CHANGES.values(), ids=ARRAY_CHANGES)
def test_hostile_metadata(forger: Forger, change: Callable[[dict[str, Any]], None]) -> None:
    array = "b0008/encoder/attention"
    document = forger.metadata(array)
    before = json.dumps(document)
    change(document)
    assert json.dumps(document) != before
    forger.put_metadata(array, document)
    forger.sign()
    told = refuses(forger.path)
    assert told["read"] > 0  # other buckets are as they were


def _zstd_bomb(size: int) -> bytes:
    return bytes(numcodecs.zstd.compress(bytes(size), 19, True))


def _lying_zstd(told: int, size: int) -> bytes:
    """A Zstandard frame (RFC 8878) that says it holds ``told`` bytes and unpacks to ``size``."""
    frame = bytearray(_zstd_bomb(size))
    descriptor = frame[4]
    start = 5 if descriptor >> 5 & 1 else 6  # after the window's size, unless in one segment
    width = (1, 2, 4, 8)[descriptor >> 6]
    frame[start : start + width] = told.to_bytes(width, "little")
    return bytes(frame)


def _blosc_bomb(size: int) -> bytes:
    packed = bytes(numcodecs.blosc.compress(bytes(size), b"lz4", 9, 1, 0))
    return packed + int(google_crc32c.value(packed)).to_bytes(4, "little")


def _lying_blosc(told: int, size: int) -> bytes:
    packed = bytearray(_blosc_bomb(size)[:-4])
    packed[4:8] = struct.pack("<I", told)
    return bytes(packed) + int(google_crc32c.value(bytes(packed))).to_bytes(4, "little")


@pytest.mark.parametrize("size", [1 << 20, 1 << 28])
def test_bombs(forger: Forger, size: int) -> None:
    """Chunks that unpack to more than is declared, and say so, or lie about it."""
    for array, bombs in (
        ("attention", [_zstd_bomb(size), _lying_zstd(1024, size)]),
        ("query", [_blosc_bomb(size), _lying_blosc(1024, size)]),
    ):
        shard = shard_of(forger, 0, array)
        meta = forger.meta(str(Path(shard).parent))
        declared = int(np.prod(meta.chunk)) * meta.dtype.itemsize
        lying = _lying_zstd if array == "attention" else _lying_blosc
        for bomb in (*bombs, lying(declared, size)):
            forger.put_chunk(0, shard, 0, bomb)
            forger.sign()
            refuses(forger.path)


INDEX_CHANGES: dict[str, Callable[[Any], None]] = {
    "beyond the file": lambda index: index.__setitem__(0, (2**40, 100)),
    "offset and size wrap around": lambda index: index.__setitem__(0, (2**64 - 8, 16)),
    "half absent": lambda index: index.__setitem__(0, (2**64 - 1, 16)),
    "absent": lambda index: index.__setitem__(0, (2**64 - 1, 2**64 - 1)),
    "all in one place": lambda index: index.__setitem__(slice(1, None), index[0]),
    "backwards": lambda index: index.__setitem__(slice(None), index[::-1].copy()),
    "empty chunks": lambda index: index.__setitem__((slice(None), 1), 0),
}


@pytest.mark.parametrize("change", INDEX_CHANGES.values(), ids=INDEX_CHANGES)
def test_hostile_indexes(forger: Forger, change: Callable[[Any], None]) -> None:
    unit = max(forger.commits)  # of the longest bucket: several chunks in a shard
    shard = shard_of(forger, unit, "attention")
    assert forger.meta(str(Path(shard).parent)).chunks_per_shard > 1
    forger.put_index(unit, shard, change)
    forger.sign()
    refuses(forger.path)


def test_answers_larger_than_memory(forger: Forger) -> None:
    """An array of 2^22 heads, of which no chunk was written; and as many heads of one that is."""
    array, heads = "b0008/encoder/attention", 2**22
    unit = next(n for n, c in forger.commits.items() if any(array in path for path in c["files"]))
    document = forger.metadata(array)
    rows = document["shape"][0]
    for stack in forger.plan["spec"]["stacks"]:
        stack.update(heads=heads, key_heads=1)
    per_unit = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    document["shape"] = [rows, 2, heads, 8, 8]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [per_unit, 2, heads, 8, 8]
    inner(document)["chunk_shape"] = [per_unit, 1, 2**12, 8, 8]
    shard = shard_of(forger, unit, "attention")
    forger.put_metadata(array, document)
    absent = np.full((2 * heads // 2**12, 2), 2**64 - 1, np.uint64)
    forger.put_shard(unit, shard, b"", absent)
    forger.sign()

    def read() -> str:
        try:
            qkvault.open(forger.path)[0].attention[:, :]
        except qkvault.QKVaultError as error:
            return type(error).__name__
        return "read"

    assert guarded(read, SECONDS) == "ResourceError"
    assert guarded(lambda: len(qkvault.verify(forger.path, full=True).damages), SECONDS) > 0
