"""How one inner chunk becomes bytes and comes back: the allow-list of codecs, each with a checksum.

Loaded only when bytes are read or written, since it loads numcodecs. Decoding writes into an array
of the exact size that the metadata promises, so that a small chunk cannot unpack into a large one.
"""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

import google_crc32c
import numcodecs.blosc
import numpy as np
import zstandard
from numpy.typing import NDArray

from .planes import is_splittable, pack_planes

if TYPE_CHECKING:
    from .chunks import CodecName
    from .spec import Json

# Blosc's own threads write blocks in the order they finish, so that equal data would give unequal
# bytes. zarr-python sets the same switch.
numcodecs.blosc.use_threads = False

_CRC = struct.Struct("<I")
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOSC_HEADER: Final = 16
_BLOSC_SIZES: Final = struct.Struct("<III")  # of the data, of a block, of the frame
_SHUFFLES: Final = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}

Buffer = bytes | memoryview
Unpacked = Buffer | NDArray[np.uint8]


class DamagedChunk(Exception):
    """A chunk's bytes are not what was written; the reader adds which file and examples."""


class ChunkCodec(Protocol):
    """Turns a C-contiguous array into buffers and back; ``document`` is its Zarr v3 spelling."""

    @property
    def document(self) -> list[Json]: ...

    def encode(self, chunk: NDArray[Any]) -> list[Buffer]: ...

    def unpack(self, source: Buffer, size: int) -> Unpacked:
        """The ``size`` bytes of a chunk, read-only."""
        ...

    def decode(self, source: Buffer, out: NDArray[Any]) -> None:
        """Unpack into a contiguous array that the caller owns."""
        ...


def crc32c(data: bytes | NDArray[np.uint8]) -> int:
    """CRC-32C (RFC 3720, appendix B.4) of some bytes."""
    return int(google_crc32c.value(data))


class ZstdCodec:
    """``bytes, zstd`` with Zstandard's own frame checksum."""

    def __init__(self, level: int) -> None:
        self._level = level

    @property
    def document(self) -> list[Json]:
        return [_BYTES, _named("zstd", {"level": self._level, "checksum": True})]

    def encode(self, chunk: NDArray[Any]) -> list[Buffer]:
        return [_contexts.compressor(self._level).compress(chunk.data)]

    def unpack(self, source: Buffer, size: int) -> Unpacked:
        told, checked = _zstd_frame(source)
        if told != size or not checked:
            raise DamagedChunk(f"a Zstandard frame of {size} bytes with checksum was expected")
        try:
            return _contexts.unpacker.decompress(source, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise DamagedChunk(_plain(error)) from None

    def decode(self, source: Buffer, out: NDArray[Any]) -> None:
        _copy(self.unpack(source, out.nbytes), out)


class _Contexts(threading.local):
    """One thread's Zstandard contexts: making one costs a sixth of a chunk's unpacking."""

    def __init__(self) -> None:
        self.unpacker = zstandard.ZstdDecompressor()
        self._compressors: dict[tuple[int, bool], zstandard.ZstdCompressor] = {}

    def compressor(self, level: int, *, of_planes: bool = False) -> zstandard.ZstdCompressor:
        """One that adds a checksum, or one of planes: behind those a checksum stands already, and
        since numbers hardly repeat over short stretches, it is faster to look for long ones only,
        and leaves no more."""
        made = self._compressors.get((level, of_planes))
        if made is None:
            if of_planes:
                settings = zstandard.ZstdCompressionParameters.from_level(level, min_match=7)
                made = zstandard.ZstdCompressor(compression_params=settings)
            else:
                made = zstandard.ZstdCompressor(level=level, write_checksum=True)
            self._compressors[level, of_planes] = made
        return made


_contexts = _Contexts()


class BloscCodec:
    """``bytes, blosc, crc32c``."""

    def __init__(self, cname: str, level: int, shuffle: str, typesize: int) -> None:
        self._cname = cname
        self._level = level
        self._shuffle = shuffle
        self._typesize = typesize

    @property
    def document(self) -> list[Json]:
        return [
            _BYTES,
            _named(
                "blosc",
                {
                    "cname": self._cname,
                    "clevel": self._level,
                    "shuffle": self._shuffle,
                    "typesize": self._typesize,
                    "blocksize": 0,
                },
            ),
            _CRC_DOCUMENT,
        ]

    def encode(self, chunk: NDArray[Any]) -> list[Buffer]:
        packed = self._pack(chunk)
        return [packed, _CRC.pack(crc32c(packed))]

    def _pack(self, chunk: NDArray[Any]) -> bytes:
        if (self._cname, self._shuffle) == ("zstd", "shuffle") and is_splittable(chunk):
            return pack_planes(chunk, _contexts.compressor(self._level, of_planes=True).compress)
        packed: bytes = numcodecs.blosc.compress(
            chunk, self._cname.encode(), self._level, _SHUFFLES[self._shuffle], 0
        )
        return packed

    def unpack(self, source: Buffer, size: int) -> Unpacked:
        out = np.empty(size, np.uint8)
        self.decode(source, out)
        return out

    def decode(self, source: Buffer, out: NDArray[Any]) -> None:
        packed = _checked(source)
        if packed.size < _BLOSC_HEADER:
            raise DamagedChunk("it is too short for a Blosc frame")
        size, _, packed_size = _BLOSC_SIZES.unpack_from(source, 4)
        if size != out.nbytes or packed_size != packed.size:
            raise DamagedChunk(f"a Blosc frame of {out.nbytes} bytes was expected")
        try:
            numcodecs.blosc.decompress(packed, out)
        except (RuntimeError, ValueError) as error:
            raise DamagedChunk(_plain(error)) from None


class PlainCodec:
    """``bytes, crc32c``: not compressed."""

    @property
    def document(self) -> list[Json]:
        return [_BYTES, _CRC_DOCUMENT]

    def encode(self, chunk: NDArray[Any]) -> list[Buffer]:
        flat = chunk.reshape(-1).view(np.uint8)
        return [flat.data, _CRC.pack(crc32c(flat))]

    def unpack(self, source: Buffer, size: int) -> Unpacked:
        if len(source) != size + _CRC.size:
            raise DamagedChunk(f"{size} bytes and a checksum were expected")
        return _checked(source)

    def decode(self, source: Buffer, out: NDArray[Any]) -> None:
        _copy(self.unpack(source, out.nbytes), out)


def make_codec(name: CodecName, itemsize: int) -> ChunkCodec:
    """The codec that the writer uses under a name of :mod:`qkvault.chunks`."""
    if name == "zstd":
        return ZstdCodec(1)
    if name == "lz4-shuffle":
        return BloscCodec("lz4", 5, "shuffle", itemsize)
    if name == "zstd-shuffle":
        return BloscCodec("zstd", 1, "shuffle", itemsize)
    if name == "zstd-bitshuffle":
        return BloscCodec("zstd", 1, "bitshuffle", itemsize)
    return PlainCodec()


def parse_codec(document: Any, itemsize: int) -> ChunkCodec:
    """The codec that a ``zarr.json`` names, if it is one of those the format allows.

    Raises:
        ValueError: any other chain of codecs, or one without a checksum.
    """
    if not isinstance(document, list) or not all(isinstance(item, dict) for item in document):
        raise ValueError("codecs are not a list of objects")
    names = [item.get("name") for item in document]
    settings = [item.get("configuration") or {} for item in document]
    codec: ChunkCodec | None = None
    if names == ["bytes", "zstd"]:
        codec = ZstdCodec(_integer(settings[1], "level", -131072, 22))
    elif names == ["bytes", "blosc", "crc32c"]:
        cname, shuffle = settings[1].get("cname"), settings[1].get("shuffle")
        if cname in ("lz4", "zstd") and shuffle in _SHUFFLES:
            level = _integer(settings[1], "clevel", 0, 9)
            codec = BloscCodec(cname, level, shuffle, itemsize)
    elif names == ["bytes", "crc32c"]:
        codec = PlainCodec()
    # The allowed chains are few, so the document must be exactly what this release would write for
    # them.
    if codec is None or _normal(codec.document) != _normal(document):
        raise ValueError(
            f"codecs {names} with these settings are not among those the format allows"
        )
    return codec


def _normal(document: list[Any]) -> list[Any]:
    """Codec documents with an absent configuration spelled as an empty one."""
    return [{"name": d["name"], "configuration": d.get("configuration") or {}} for d in document]


def _integer(settings: dict[str, Any], key: str, low: int, high: int) -> int:
    value = settings.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"codec setting {key!r} is {value!r}")
    return value


def _named(name: str, configuration: dict[str, Json]) -> Json:
    return {"name": name, "configuration": configuration}


_BYTES: Final[Json] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC_DOCUMENT: Final[Json] = {"name": "crc32c"}


def _copy(unpacked: Unpacked, out: NDArray[Any]) -> None:
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(unpacked, np.uint8)


def _checked(source: Buffer) -> NDArray[np.uint8]:
    """The bytes before a trailing CRC-32C, uncopied, once it is known to hold."""
    end = len(source) - _CRC.size
    if end < 0:
        raise DamagedChunk("it is too short")
    body: NDArray[np.uint8] = np.frombuffer(source, np.uint8, end)
    if _CRC.unpack_from(source, end)[0] != google_crc32c.value(body):
        raise DamagedChunk("its checksum does not hold")
    return body


def _zstd_frame(source: Buffer) -> tuple[int, bool]:
    """Content size (-1 if untold) and checksum flag of a frame (RFC 8878, section 3.1.1.1)."""
    if len(source) < 6 or source[:4] != _ZSTD_MAGIC:
        return -1, False
    descriptor = source[4]
    single = descriptor >> 5 & 1
    start = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[descriptor >> 6]
    if not width or len(source) < start + width:
        return -1, False
    size = int.from_bytes(source[start : start + width], "little")
    return (size + 256 if width == 2 else size), bool(descriptor >> 2 & 1)


def _plain(error: Exception) -> str:
    text = str(error.args[0]) if error.args else type(error).__name__
    return f"it does not unpack ({text})"
