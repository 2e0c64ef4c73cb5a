"""What each view draws, cut from a vault: sizes known before anything is read, then frames.

Knows vaults and frames, no HTTP. Axes are ``(layer, head, query_token, key_token)``, or those of
them that a view needs. Every number comes from cells inside the example's own length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from qkvault import (
    Example,
    HeadArray,
    OutOfRange,
    Precision,
    StackView,
    decode_attention,
    encode_attention,
)

from .cache import SizedCache
from .wire import Frame, frame_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

Form = Literal["u8", "f32"]
VectorPart = Literal["query", "key", "value"]
Span = tuple[int, int]

KEPT_LAYER: Final = 16 << 20
"""Codes of one layer up to this many bytes are kept while its tokens are hovered."""
LOOKED_UP: Final = 1 << 16
"""Codes translated at a time."""
TILE_ROWS: Final = 256
"""Query tokens read at a time of a map that is too large to be held."""


@dataclass(frozen=True)
class Cut:
    """Frames that a request asks for, not yet read.

    Attributes:
        size: bytes of the body they will make.
        read: gets them.
    """

    size: int
    read: Callable[[], Sequence[Frame]]


class Slicer:
    """Cuts examples into what views need.

    Args:
        capacity: bytes of stored codes kept for hovering.
    """

    def __init__(self, capacity: int = 4 * KEPT_LAYER) -> None:
        self._kept: SizedCache[NDArray[Any]] = SizedCache(capacity, lambda codes: codes.nbytes)

    def thumbnails(self, example: Example, stack: str, layers: Span | None = None) -> Cut:
        """u8 square-root codes ``(layer, head, query_bin, key_bin)`` of a whole stack.

        Args:
            example: whose.
            stack: name of the attention run.
            layers: half-open range of positions among the stack's layers; None for all.
        """
        view = _stack(example, stack)
        array = view.thumbnail
        start, stop = _span(layers, len(view.spec.layers), "layer position")
        shape = (stop - start, *array.shape[1:])
        numbers = list(view.spec.layers[start:stop])

        def read() -> list[Frame]:
            return [Frame(array.codes(numbers), "thumbnail", "sqrt")]

        return Cut(frame_bytes(shape, 1), read)

    def layer_maps(
        self, example: Example, stack: str, layer: int, form: Form, rows: Span | None = None
    ) -> Cut:
        """One layer, ``(head, query_token, key_token)``; ``rows`` is a range of query tokens."""
        array = _attention(example, stack, layer)
        heads, queries, keys = array.shape[1:]
        start, stop = _span(rows, queries, "query token")

        def read() -> list[Frame]:
            if rows is None:
                return [self._frame(self._layer(example, stack, layer), array, form)]
            return [self._frame(array.codes(layer, tokens=rows), array, form)]

        return Cut(frame_bytes((heads, stop - start, keys), _itemsize(form)), read)

    def head_map(
        self,
        example: Example,
        stack: str,
        layer: int,
        head: int,
        form: Form,
        rows: Span | None = None,
    ) -> Cut:
        """One head, ``(query_token, key_token)``; ``rows`` is a range of query tokens."""
        array = _attention(example, stack, layer)
        heads, queries, keys = array.shape[1:]
        _check(head, heads, "head")
        start, stop = _span(rows, queries, "query token")

        def read() -> list[Frame]:
            return [self._frame(array.codes(layer, head, rows), array, form, head)]

        return Cut(frame_bytes((stop - start, keys), _itemsize(form)), read)

    def row(self, example: Example, stack: str, layer: int, query: int) -> Cut:
        """What one token attends to in every head of a layer: float32 ``(head, key_token)``."""
        array = _attention(example, stack, layer)
        heads, queries, keys = array.shape[1:]
        _check(query, queries, "query token")

        def read() -> list[Frame]:
            if self._is_kept(array):
                codes = self._layer(example, stack, layer)[:, query]
            else:
                codes = array.codes(layer, tokens=(query, query + 1))[:, 0]
            return [self._frame(codes, array, "f32")]

        return Cut(frame_bytes((heads, keys), 4), read)

    def column(self, example: Example, stack: str, layer: int, key: int) -> Cut:
        """What attends to one token in every head of a layer: float32 ``(head, query_token)``."""
        array = _attention(example, stack, layer)
        heads, queries, keys = array.shape[1:]
        _check(key, keys, "key token")

        def read() -> list[Frame]:
            if self._is_kept(array):
                codes = self._layer(example, stack, layer)[:, :, key]
            else:
                codes = _long_column(array, layer, key)
            return [self._frame(codes, array, "f32")]

        return Cut(frame_bytes((heads, queries), 4), read)

    def vectors(
        self, example: Example, stack: str, layer: int, head: int, parts: Sequence[VectorPart]
    ) -> Cut:
        """Vectors one query head works with, a frame ``(token, dimension)`` per part: as stored,
        or float32 where they are stored as whole numbers with a scale.

        Keys and values are those of the key head that the query head uses; their frames say which.
        """
        view = _stack(example, stack)
        _check_layer(view, layer)
        _check(head, view.spec.heads, "head")
        key_head = head // (view.spec.heads // view.spec.key_heads)
        wanted = [
            (part, cast("HeadArray", getattr(view, part)), head if part == "query" else key_head)
            for part in parts
        ]

        def read() -> list[Frame]:
            return [
                Frame(_floats(array, layer, stored), part, "value", stored)
                for part, array, stored in wanted
            ]

        size = sum(
            frame_bytes(
                (array.shape[2], array.width_of(layer)), 2 if array.precision == "float16" else 4
            )
            for _, array, _ in wanted
        )
        return Cut(size, read)

    def metrics(self, example: Example, stack: str) -> Cut:
        """Head metrics of a whole stack, float32 ``(layer, head, metric)``; NaN for none."""
        view = _stack(example, stack)
        measured = view.metrics

        def read() -> list[Frame]:
            return [Frame(measured.array, "metrics")]

        return Cut(frame_bytes(measured.array.shape, 4), read)

    def _is_kept(self, array: HeadArray) -> bool:
        return int(np.prod(array.shape[1:])) * np.dtype(array.precision).itemsize <= KEPT_LAYER

    def _layer(self, example: Example, stack: str, layer: int) -> NDArray[Any]:
        """Stored codes of a layer, ``(head, query_token, key_token)``; kept if they are few."""
        array = _attention(example, stack, layer)
        key = (example.vault.digest, example.index, stack, layer)
        return self._kept.get(key, lambda: array.codes(layer))

    def _frame(
        self, codes: NDArray[Any], array: HeadArray, form: Form, head: int | None = None
    ) -> Frame:
        precision = cast("Precision", array.precision)
        if form == "f32":
            return Frame(decode_attention(codes, precision), "attention", "value", head)
        return Frame(_square_root_codes(codes, precision), "attention", "sqrt", head)


def _floats(array: HeadArray, layer: int, head: int) -> NDArray[Any]:
    """Vectors ``(token, dimension)`` in half precision if that is how they are stored."""
    return array.codes(layer, head) if array.precision == "float16" else array[layer, head]


def _long_column(array: HeadArray, layer: int, key: int) -> NDArray[Any]:
    """Codes ``(head, query_token)`` of one key token, never holding more than a tile of a map."""
    heads, queries, _ = array.shape[1:]
    return np.stack(
        [
            np.concatenate(
                [
                    array.codes(layer, head, (top, min(top + TILE_ROWS, queries)))[:, key].copy()
                    for top in range(0, queries, TILE_ROWS)
                ]
            )
            for head in range(heads)
        ]
    )


def _square_root_codes(codes: NDArray[Any], precision: Precision) -> NDArray[np.uint8]:
    """Stored codes as the u8 square-root codes that are drawn."""
    if precision == "uint8":
        return codes
    if precision == "uint16":
        return _looked_up(codes)
    return encode_attention(codes.astype(np.float32), "uint8").astype(np.uint8)


def _looked_up(codes: NDArray[np.uint16]) -> NDArray[np.uint8]:
    # In blocks, since numpy widens whatever indexes an array to eight bytes each.
    flat, table = codes.reshape(-1), _table()
    out = np.empty(flat.size, np.uint8)
    for start in range(0, flat.size, LOOKED_UP):
        block = slice(start, start + LOOKED_UP)
        table.take(flat[block], out=out[block], mode="clip")
    return out.reshape(codes.shape)


@cache
def _table() -> NDArray[np.uint8]:
    """uint16 code -> u8 square-root code, ``[65536]``: one look-up instead of a root per cell."""
    weights = decode_attention(np.arange(65536, dtype=np.uint16), "uint16")
    return encode_attention(weights, "uint8").astype(np.uint8)


def _stack(example: Example, name: str) -> StackView:
    if name not in example.stacks:
        raise OutOfRange(f"this vault has no stack {name!r}; it has {', '.join(example.stacks)}")
    return example.stack(name)


def _attention(example: Example, stack: str, layer: int) -> HeadArray:
    view = _stack(example, stack)
    array = view.attention
    _check_layer(view, layer)
    return array


def _check_layer(view: StackView, layer: int) -> None:
    if layer not in view.spec.layers:
        numbers = ", ".join(str(number) for number in view.spec.layers)
        raise OutOfRange(f"the {view.spec.name} stack has no layer {layer}; it has {numbers}")


def _check(index: int, count: int, name: str) -> None:
    if not 0 <= index < count:
        raise OutOfRange(f"{name} {index} is not there: {count} are counted from 0")


def _span(span: Span | None, count: int, name: str) -> Span:
    if span is None:
        return 0, count
    start, stop = span
    if not 0 <= start < stop <= count:
        raise OutOfRange(f"{name}s {start}:{stop} are not there: {count} are counted from 0")
    return span


def _itemsize(form: Form) -> int:
    return 4 if form == "f32" else 1
