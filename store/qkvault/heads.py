"""``e.attention``, ``e.query``...: arrays like numpy's that read only the chunks they touch."""

from __future__ import annotations

from operator import index as as_int
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np

from .axes import own_cells
from .chunks import row_dims
from .errors import InputError, OutOfRange, VaultError
from .holes import find_holes
from .vectors import crop_widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .metadata import ArrayMeta

_ALL: Final = slice(None)
_FLOAT32: Final = np.dtype(np.float32)


class RowSource(Protocol):
    """What gives one row's values: :class:`qkvault.arrays.RowReader`, or one that computes them."""

    @property
    def meta(self) -> ArrayMeta: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def places(self) -> dict[int, int]: ...
    @property
    def precision(self) -> str: ...
    @property
    def max_error(self) -> float | None: ...
    @property
    def derived(self) -> bool: ...
    def read(
        self,
        row: int,
        layers: Sequence[int],
        heads: Sequence[int],
        tokens: range,
        width: int,
        raw: bool = False,
    ) -> NDArray[Any]: ...


class HeadArray:
    """One example's part of one array, read when indexed.

    ``a[layer, head, ...]`` takes an integer, a slice or a list of integers for layer and head, and
    for the rest whatever numpy takes. Lists select each on their own axis: ``a[[0, 2], [1, 3]]``
    has two layers of two heads. Layers are the model's own numbers (``a.layers``), whichever the
    vault keeps; a negative number counts the kept ones from the end; a slice takes the kept layers
    whose numbers lie in it.

    Vectors of layers of several widths are as wide as the widest that is asked for, and NaN where
    a layer has no such dimension; :meth:`width_of` gives a layer's own.

    Every read is float32, and raises :class:`VaultError` rather than show what was not stored.

    Attributes:
        name: ``attention``, ``query``, ``key``, ``value``, ``thumbnail`` or ``scores``.
        dims: names of the axes.
        shape: cropped to the example's own length, in the order of ``dims``; of layers of several
            widths, that of the widest.
        layers: numbers of the layers along the first axis.
        precision: how the values are stored.
        max_error: largest absolute error of a weight; of a vector's value relative to it
            (``2**-11``, float16) or to the vector's largest value (1.55e-5, int16). Of derived
            attention it is the largest that was met when the vault was planned, or None.
    """

    __slots__ = (
        "_reader",
        "_row",
        "_width",
        "_widths",
        "dims",
        "layers",
        "max_error",
        "name",
        "shape",
    )

    def __init__(
        self,
        name: str,
        reader: RowSource,
        row: int,
        sides: tuple[int, int],
        widths: tuple[int, ...] = (),
    ) -> None:
        meta = reader.meta
        tokens, width = own_cells(name, *sides)
        self.name = name
        self.dims = row_dims(name)
        self.layers = reader.layers
        cropped = tokens.indices(meta.shape[3])[1], width.indices(reader.width)[1]
        self.shape = (len(reader.layers), meta.shape[2], *cropped)
        self.max_error = reader.max_error
        self._reader = reader
        self._row = row
        self._width = self.shape[3]
        self._widths = widths

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of what is read: float32."""
        return _FLOAT32

    @property
    def ndim(self) -> int:
        """Number of axes: four."""
        return 4

    @property
    def precision(self) -> str:
        """Stored type: ``float32``, ``float16``, ``uint16`` or ``uint8`` of weights, ``float32``,
        ``float16`` or ``int16`` of vectors; what is computed has ``float32``."""
        return self._reader.precision

    @property
    def derived(self) -> bool:
        """Whether the values are computed from stored queries and keys, not stored themselves."""
        return self._reader.derived

    def __repr__(self) -> str:
        axes = ", ".join(f"{d}: {n}" for d, n in zip(self.dims, self.shape, strict=True))
        source = "queries and keys" if self.derived else self.precision
        return f"<HeadArray {self.name} ({axes}) from {source}>"

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(
        self, dtype: np.dtype[Any] | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        values = self[:, :]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        layer, head, rest = _split_key(key)
        tokens, rest = self._narrow(rest)
        values = self._read(layer, head, tokens)
        if not rest:
            return values
        kept = values.ndim - 2
        try:
            return cast("NDArray[np.float32]", values[(_ALL,) * kept + rest])
        except IndexError as error:
            raise OutOfRange(f"{self.name}{self.shape} has no part {key!r:.100}: {error}") from None

    def codes(
        self, layer: Any = _ALL, head: Any = _ALL, tokens: tuple[int, int] | None = None
    ) -> NDArray[Any]:
        """The numbers as stored, or as computed, cropped to the example's length.

        Args:
            layer, head: as in indexing.
            tokens: half-open range of token rows, ``0 <= start <= stop <= shape[2]``; None for all.

        Returns:
            An array in the stored dtype; a layer or head given as an integer has no axis. int16
            vectors have one cell more, which holds their scale (:mod:`qkvault.vectors`).
        """
        return self._read(layer, head, range(*(tokens or (0, self.shape[2]))), raw=True)

    def width_of(self, layer: int) -> int:
        """Cells along the last axis of a layer.

        Raises:
            OutOfRange: the vault does not keep it.
        """
        place = self._layer_place(layer)
        return self._widths[place] if self._widths else self._width

    def _read(self, layer: Any, head: Any, tokens: range, raw: bool = False) -> NDArray[Any]:
        layers, one_layer = self._layer_places(layer)
        heads, one_head = self._head_places(head)
        out = self._reader.read(self._row, layers, heads, tokens, self._width, raw)
        if tokens and not tokens.start and out.size:
            self._refuse_holes(out)
        if self._widths:
            out = crop_widths(out, [self._widths[place] for place in layers])
        if one_layer:
            out = out[0, 0] if one_head else out[0]
        elif one_head:
            out = out[:, 0]
        return out

    def _refuse_holes(self, out: NDArray[Any]) -> None:
        if out.shape[:2] == (1, 1) and out.dtype.kind != "i":
            first = out.item(0)
            if first and first == first:  # one head that starts with a number: the common case
                return
        may_be_empty = self._reader.meta.may_be_empty or self.derived
        if find_holes(self.name, out[:, :, 0], may_be_empty).any():
            raise VaultError(
                f"{self._reader.meta.path} is damaged: it holds nothing at row {self._row}"
            )

    def _narrow(self, rest: tuple[Any, ...]) -> tuple[range, tuple[Any, ...]]:
        """Token rows that an index needs, and the index within those."""
        count = self.shape[2]
        if not rest:
            return range(count), rest
        first = rest[0]
        if isinstance(first, slice):
            start, stop, step = first.indices(count)
            if step > 0:
                return range(start, max(start, stop)), (slice(None, None, step), *rest[1:])
            return range(count), rest
        if isinstance(first, int | np.integer):
            token = int(first) + (count if first < 0 else 0)
            if not 0 <= token < count:
                raise OutOfRange(f"token {first} was asked for; this example has {count} tokens")
            return range(token, token + 1), (0, *rest[1:])
        return range(count), rest

    def _layer_places(self, key: Any) -> tuple[Sequence[int], bool]:
        if type(key) is int:
            place = self._layer_place(key)
            return range(place, place + 1), True
        if isinstance(key, slice):
            if key == _ALL:
                return range(len(self.layers)), False
            return self._layer_slice(key), False
        if isinstance(key, list | tuple | np.ndarray | range):
            return [self._layer_place(item) for item in key], False
        place = self._layer_place(key)
        return range(place, place + 1), True

    def _layer_slice(self, key: slice) -> list[int]:
        layers = self.layers
        low, high = (
            layers[max(len(layers) + bound, 0)] if bound is not None and bound < 0 else bound
            for bound in (key.start, key.stop)
        )
        places = [
            place
            for place, number in enumerate(layers)
            if (low is None or number >= low) and (high is None or number < high)
        ]
        return places[:: key.step]

    def _layer_place(self, key: Any) -> int:
        number = _integer(key, "layer")
        place = self._reader.places.get(number)
        if place is None and -len(self.layers) <= number < 0:
            place = len(self.layers) + number
        if place is None:
            raise OutOfRange(
                f"layer {number} was asked for; this vault keeps {_listed(self.layers)}"
            )
        return place

    def _head_places(self, key: Any) -> tuple[Sequence[int], bool]:
        count = self.shape[1]
        if type(key) is int:
            place = _head_place(key, count, self.dims[1])
            return range(place, place + 1), True
        if isinstance(key, slice):
            chosen = range(*key.indices(count))
            return chosen, False
        if isinstance(key, list | tuple | np.ndarray | range):
            return [_head_place(item, count, self.dims[1]) for item in key], False
        place = _head_place(key, count, self.dims[1])
        return range(place, place + 1), True


def _head_place(key: Any, count: int, kind: str) -> int:
    number = _integer(key, "head")
    if not -count <= number < count:
        word = "key/value heads" if kind == "key_head" else "heads"
        raise OutOfRange(f"head {number} was asked for; there are {count} {word}, 0 to {count - 1}")
    return number % count


def _integer(key: Any, what: str) -> int:
    if type(key) is int:
        return key
    if isinstance(key, bool | np.bool_):
        raise InputError(f"a {what} is asked for by number, a slice or a list; found {key!r}")
    try:
        return as_int(key)
    except TypeError:
        raise InputError(
            f"a {what} is asked for by number, a slice or a list; found {key!r:.100}"
        ) from None


def _split_key(key: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    """Layer, head and the rest of an index; an ellipsis stands for the axes not named."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) == 2 and type(parts[0]) is type(parts[1]) is int:
        return parts[0], parts[1], ()
    dots = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise InputError("an index has at most one ellipsis")
    if dots:
        missing = max(4 - (len(parts) - 1), 0)
        parts = (*parts[: dots[0]], *(_ALL,) * missing, *parts[dots[0] + 1 :])
    if any(part is None for part in parts):
        raise InputError("a new axis cannot be asked for; index what is read instead")
    if len(parts) > 4:
        raise OutOfRange(f"{len(parts)} indices were given; there are 4 axes")
    padded = (*parts, *(_ALL,) * (2 - len(parts)))
    return padded[0], padded[1], tuple(padded[2:])


def _listed(layers: tuple[int, ...]) -> str:
    if layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return "layers " + ", ".join(map(str, layers))
