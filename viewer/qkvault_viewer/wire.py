"""Arrays as bytes for the browser: frames of a 32-byte header and little-endian C-order data.

One frame, all numbers little-endian::

    0   4s   magic "QKVW"
    4   u8   version of this layout, 1
    5   u8   dtype: 1 uint8, 2 uint16, 3 float16, 4 float32
    6   u8   encoding: 0 the value itself, 1 square-root code, attention = (code / 255) ** 2
    7   u8   ndim, 1 to 5
    8   u32  shape, five entries; those beyond ndim are 0
    28  u16  part: 0 attention, 1 query, 2 key, 3 value, 4 thumbnail, 5 metrics
    30  u16  head the data is of; 65535 where the head is an axis
    32  ...  data, then zeros up to a multiple of 8 bytes

A body is one frame or several, one after another. Padding lets a browser lay a typed array over any
frame of the body. ``docs/viewer-api.md`` tells front-ends the same; the two change together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

MAGIC: Final = b"QKVW"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4s4B5I2H")
ALIGNMENT: Final = 8
MAX_AXES: Final = 5
EVERY_HEAD: Final = 0xFFFF

Encoding = Literal["value", "sqrt"]
Part = Literal["attention", "query", "key", "value", "thumbnail", "metrics"]

ENCODINGS: Final[tuple[Encoding, ...]] = ("value", "sqrt")
PARTS: Final[tuple[Part, ...]] = ("attention", "query", "key", "value", "thumbnail", "metrics")
_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    3: np.dtype("<f2"),
    4: np.dtype("<f4"),
}
_CODES: Final = {dtype: code for code, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Frame:
    """One array on its way to a browser.

    Attributes:
        data: the array, uint8, uint16, float16 or float32, of one to five axes.
        part: what the array holds.
        encoding: how a value is got from an entry.
        head: the head whose data this is (a key/value head for keys and values); None where the
            head is an axis of ``data``.
    """

    data: npt.NDArray[Any]
    part: Part
    encoding: Encoding = "value"
    head: int | None = None


def frame_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of a frame of that shape, header and padding included, before anything is read."""
    size = itemsize
    for length in shape:
        size *= length
    return HEADER.size + size + -size % ALIGNMENT


def encode(*frames: Frame) -> bytes:
    """The body that carries these frames, in order.

    Raises:
        ValueError: an array has a dtype or a number of axes that the header cannot state.
    """
    return b"".join(piece for frame in frames for piece in _pieces(frame))


def decode(body: bytes) -> list[Frame]:
    """The frames of a body: what a front-end does, in numpy.

    Raises:
        ValueError: the body is cut short, or is not made of frames of this version.
    """
    return list(_frames(body))


def _pieces(frame: Frame) -> Iterator[bytes]:
    data = frame.data
    dtype = data.dtype.newbyteorder("<")
    if dtype not in _CODES or not 1 <= data.ndim <= MAX_AXES:
        raise ValueError(f"no frame can carry {data.ndim} axes of {data.dtype}")
    raw = np.ascontiguousarray(data, dtype).tobytes()
    yield HEADER.pack(
        MAGIC,
        VERSION,
        _CODES[dtype],
        ENCODINGS.index(frame.encoding),
        data.ndim,
        *data.shape,
        *(0,) * (MAX_AXES - data.ndim),
        PARTS.index(frame.part),
        EVERY_HEAD if frame.head is None else frame.head,
    )
    yield raw
    yield bytes(-len(raw) % ALIGNMENT)


def _frames(body: bytes) -> Iterator[Frame]:
    start = 0
    while start < len(body):
        if len(body) - start < HEADER.size:
            raise ValueError(f"{len(body) - start} bytes left at {start}: no header")
        magic, version, code, encoding, ndim, *rest = HEADER.unpack_from(body, start)
        if (magic, version) != (MAGIC, VERSION) or code not in _DTYPES:
            raise ValueError(f"no frame of version {VERSION} at byte {start}")
        shape, part, head = tuple(rest[:ndim]), rest[5], rest[6]
        end = start + frame_bytes(shape, _DTYPES[code].itemsize)
        if end > len(body):
            raise ValueError(f"the frame at byte {start} needs {end} bytes, found {len(body)}")
        count = int(np.prod(shape))
        data = np.frombuffer(body, _DTYPES[code], count, start + HEADER.size).reshape(shape)
        kept = None if head == EVERY_HEAD else head
        yield Frame(data, PARTS[part], ENCODINGS[encoding], kept)
        start = end
