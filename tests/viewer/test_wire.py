"""Frames: what a header says, byte for byte, and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qkvault_viewer.wire import HEADER, Frame, decode, encode, frame_bytes


def test_header_is_as_documented() -> None:
    data = np.array([[0.5, -1.0, 2.0]], np.float16)
    body = encode(Frame(data, "key", "value", head=3))
    assert body == (
        b"QKVW"
        b"\x01\x03\x00\x02"
        b"\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x02\x00\x03\x00"
        b"\x00\x38\x00\xbc\x00\x40\x00\x00"
    )


def test_big_endian_and_strided_arrays_arrive_little_endian_in_c_order() -> None:
    data = np.arange(12, dtype=">u2").reshape(3, 4).T
    (frame,) = decode(encode(Frame(data, "attention")))
    assert frame.data.dtype == np.dtype("<u2")
    assert frame.data.tolist() == data.tolist()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["u1", "<u2", "<f2", "<f4"]).flatmap(
            lambda dtype: arrays(dtype, array_shapes(max_dims=5, max_side=4))
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["value", "sqrt"]),
    st.none() | st.integers(0, 65534),
)
def test_frames_come_back_as_they_went(data: list, encoding: str, head: int | None) -> None:
    body = encode(*(Frame(array, "query", encoding, head) for array in data))
    assert len(body) == sum(frame_bytes(array.shape, array.itemsize) for array in data)
    found = decode(body)
    assert len(found) == len(data)
    for frame, array in zip(found, data, strict=True):
        assert (frame.part, frame.encoding, frame.head) == ("query", encoding, head)
        assert frame.data.dtype == array.dtype
        assert frame.data.tobytes() == array.tobytes()
        assert frame.data.shape == array.shape


def test_every_frame_starts_at_a_multiple_of_eight() -> None:
    frame = Frame(np.zeros(3, np.uint8), "attention", "sqrt")
    assert len(encode(frame)) == HEADER.size + 8
    assert len(encode(frame, frame)) == 2 * (HEADER.size + 8)


@pytest.mark.parametrize(
    "data", [np.zeros(2, np.float64), np.zeros((1,) * 6, np.uint8), np.array(1, np.uint8)]
)
def test_what_a_header_cannot_state_is_refused(data: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no frame can carry"):
        encode(Frame(data, "attention"))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"QKVW", "no header"),
        (b"\0" * 40, "no frame of version 1"),
        (encode(Frame(np.zeros(9, np.float32), "query"))[:-8], "needs 72 bytes"),
    ],
)
def test_a_body_that_is_no_frames_is_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        decode(body)
