"""Blosc frames with a stream per plane: what they hold, who reads them, and that damage is told."""

from __future__ import annotations

import struct

import numcodecs.blosc
import numpy as np
import pytest

from qkvault.codecs import BloscCodec, DamagedChunk
from qkvault.planes import is_splittable


def make_chunk(dtype: str, count: int) -> np.ndarray:
    values = np.random.default_rng(5).normal(size=count)
    return (values * 1000).astype(dtype) if dtype == "uint16" else values.astype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float32"])
@pytest.mark.parametrize("count", [1, 64, 127, 128, 129, 5000, 200_001])
def test_any_blosc_reader_reads_them(dtype: str, count: int) -> None:
    chunk = make_chunk(dtype, count)
    codec = BloscCodec("zstd", 1, "shuffle", chunk.itemsize)
    packed = b"".join(bytes(part) for part in codec.encode(chunk))
    assert numcodecs.blosc.decompress(packed[:-4]) == chunk.tobytes()
    out = np.empty_like(chunk)
    codec.decode(packed, out)
    assert out.tobytes() == chunk.tobytes()


def test_planes_are_smaller_than_one_stream_of_them() -> None:
    chunk = make_chunk("float16", 40_000)
    (packed, _) = BloscCodec("zstd", 1, "shuffle", 2).encode(chunk)
    whole = numcodecs.blosc.compress(chunk, b"zstd", 1, numcodecs.blosc.SHUFFLE, 0)
    assert len(packed) < 0.97 * len(whole) < chunk.nbytes


def test_a_plane_that_nothing_is_gained_by_is_kept_as_it_is() -> None:
    chunk = np.random.default_rng(1).integers(0, 1 << 16, 10_000).astype(np.uint16)
    (packed, _) = BloscCodec("zstd", 1, "shuffle", 2).encode(chunk)
    assert len(packed) == 16 + 4 + 2 * 4 + chunk.nbytes


def test_small_chunks_are_left_to_blosc() -> None:
    assert not is_splittable(np.zeros(127, np.uint16))
    assert not is_splittable(np.zeros(1000, np.uint8))
    assert is_splittable(np.zeros(128, np.uint16))


def test_every_flipped_bit_is_told() -> None:
    chunk = make_chunk("float16", 300)
    codec = BloscCodec("zstd", 1, "shuffle", 2)
    packed = b"".join(bytes(part) for part in codec.encode(chunk))
    for at in range(len(packed)):
        damaged = bytearray(packed)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(DamagedChunk):
            codec.decode(bytes(damaged), np.empty_like(chunk))


@pytest.mark.parametrize("claim", [0, 1 << 30, 0xFFFFFFFF])
def test_a_plane_that_claims_another_size_is_refused(claim: int) -> None:
    """The checksum holds: a forger's frame, whose first plane is longer than the frame."""
    from qkvault.codecs import crc32c

    chunk = make_chunk("float16", 300)
    codec = BloscCodec("zstd", 1, "shuffle", 2)
    forged = bytearray(codec.encode(chunk)[0])
    struct.pack_into("<I", forged, 20, claim)
    with pytest.raises(DamagedChunk):
        codec.decode(bytes(forged) + struct.pack("<I", crc32c(bytes(forged))), np.empty_like(chunk))
