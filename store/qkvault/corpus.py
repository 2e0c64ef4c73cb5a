"""Chosen layers, heads and arrays of any examples of a vault, many examples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index as as_int
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np

from .axes import own_cells, token_axes
from .chunks import is_kept, stack_of
from .errors import InputError, MissingArray, OutOfRange, VaultError
from .holes import find_holes
from .scores import derive_attention
from .vectors import crop_widths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .blocks import BlockReader
    from .implied import ImpliedBlocks
    from .spec import Stack
    from .vault import Vault

ScanArray = Literal["attention", "query", "key", "value", "thumbnail"]
Which = int | Sequence[int] | None
"""One number (its axis goes), several, or None for all."""

SCAN_ARRAYS: Final = ("attention", "query", "key", "value", "thumbnail")


@dataclass(frozen=True, eq=False)
class ScanItem:
    """One example of a scan.

    Attributes:
        index: its place in the dataset's order.
        length: tokens along the stack's query axis.
        key_length: tokens along its key axis: the same, but in cross-attention.
        arrays: float32, by name, cropped to the example's length; a layer or head asked for by one
            number has no axis.
    """

    index: int
    length: int
    key_length: int
    arrays: Mapping[str, NDArray[np.float32]]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.arrays[name]

    @property
    def attention(self) -> NDArray[np.float32]:
        """``(layer, head, query_token, key_token)``."""
        return self.arrays["attention"]

    @property
    def query(self) -> NDArray[np.float32]:
        """``(layer, head, query_token, head_dim)``."""
        return self.arrays["query"]

    @property
    def key(self) -> NDArray[np.float32]:
        """``(layer, head, key_token, head_dim)``: of the key head that each query head uses."""
        return self.arrays["key"]

    @property
    def value(self) -> NDArray[np.float32]:
        """``(layer, head, key_token, value_dim)``: of the value head that each query head uses."""
        return self.arrays["value"]

    @property
    def thumbnail(self) -> NDArray[np.float32]:
        """``(layer, head, query_bin, key_bin)``."""
        return self.arrays["thumbnail"]


@dataclass(frozen=True, eq=False)
class ScanBatch:
    """Examples of one length bucket.

    Attributes:
        examples: int64 ``(example,)``, places in the dataset's order, ascending.
        lengths: int32 ``(example,)``, tokens along the stack's query axis.
        key_lengths: int32 ``(example,)``, tokens along its key axis.
        arrays: float32, by name, ``(example, layer, head, token, ...)``, padded to the bucket's
            length with NaN; a layer or head asked for by one number has no axis.
    """

    examples: NDArray[np.int64]
    lengths: NDArray[np.int32]
    key_lengths: NDArray[np.int32]
    arrays: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.arrays[name]

    def __iter__(self) -> Iterator[ScanItem]:
        """The examples one by one, cropped to their own lengths; views, not copies."""
        columns = (self.examples, self.lengths, self.key_lengths)
        lines = zip(*(column.tolist() for column in columns), strict=True)
        for row, (index, queries, keys) in enumerate(lines):
            cropped = {
                name: values[(row, ..., *own_cells(name, queries, keys))]
                for name, values in self.arrays.items()
            }
            yield ScanItem(index, queries, keys, cropped)


class CorpusReader:
    """Reads the chosen arrays; threads may share it.

    Attributes:
        vault: where from.
        stack: the stack that is read.
        names: the arrays.
        places: int32 ``(example, 3)``: bucket length, row and tokens of every example; a fourth
            column where there are targets.
    """

    def __init__(
        self,
        vault: Vault,
        layer: Which,
        head: Which,
        arrays: Sequence[ScanArray],
        stack: str | None,
    ) -> None:
        """Check what is asked for.

        Raises:
            InputError, OutOfRange: the vault has no such stack, layer, head or array.
            MissingArray: the vault does not keep an array.
        """
        self.vault = vault
        self.stack = chosen_stack(vault, stack)
        self.names = _checked_names(vault, arrays)
        self._derived = vault.spec.attention == "derived"
        self._layers, self._one_layer = layer_places(self.stack, layer)
        self._heads, self._one_head = head_places(self.stack, head)
        self.places = vault.places

    def rows_at_once(self, length: int, size: int) -> int:
        """Rows of a bucket, in whole chunks, whose arrays take about ``size`` bytes."""
        names = [name for name in self.names if name != "attention" or not self._derived]
        if len(names) < len(self.names):
            names += ["query", "key"]
        readers = [self._reader(length, name) for name in names]
        cells = len(self._layers) * len(self._heads)
        row_bytes = sum(4 * cells * r.meta.shape[3] * r.width for r in readers)
        group = max(reader.meta.chunk[0] for reader in readers)
        return group * max(1, size // (row_bytes * group))

    def read(self, examples: NDArray[np.int64], *, padded: bool) -> ScanBatch:
        """Read examples of one bucket, ascending.

        Args:
            padded: fill what lies beyond each example's tokens with NaN; otherwise it is undefined.

        Raises:
            VaultError: a touched file or chunk is missing or damaged.
        """
        places = self.places[examples]
        rows = places[:, 1].astype(np.int64)
        sides = self._sides(places)
        arrays: dict[str, NDArray[np.float32]] = {}
        for name in self.names:
            if name == "attention" and self._derived:
                values = self._derive(int(places[0, 0]), rows, sides)
            else:
                values = self._stored(int(places[0, 0]), name, rows)
            if padded:
                _blank(name, values, sides)
            if widths := self._widths(name):
                values = crop_widths(values, widths, layers=1)
            arrays[name] = self._without_single_axes(values)
        return ScanBatch(examples, sides[:, 0], sides[:, 1], arrays)

    def read_items(self, examples: NDArray[np.int64]) -> list[ScanItem]:
        """Read any examples, in the order given; each chunk is unpacked once."""
        found: dict[int, ScanItem] = {}
        wanted = np.unique(examples)
        lengths = self.places[wanted, 0]
        for length in np.unique(lengths):
            group = wanted[lengths == length]
            check_places(self.vault, self.places[group])
            found.update((item.index, item) for item in self.read(group, padded=False))
        return [found[index] for index in examples.tolist()]

    def _sides(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Query and key tokens of examples, int32 ``(example, 2)``."""
        column = {"source": 2, "target": 3}
        axes = token_axes(self.vault.spec, self.stack.name)
        return places[:, [column[axis] for axis in axes]].astype(np.int32)

    def _stored(self, length: int, name: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        reader = self._reader(length, name)
        heads = self._key_heads() if name in ("key", "value") else self._heads
        values: NDArray[np.float32] = reader.read(rows, self._layers, heads)
        _refuse_holes(values, reader)
        return values

    def _derive(
        self, length: int, rows: NDArray[np.int64], sides: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Attention of a vault that keeps queries and keys in its place."""
        query, key = (self._stored(length, name, rows) for name in ("query", "key"))
        shape = (*query.shape[:4], key.shape[3])  # (example, layer, head, query_token, key_token)
        out = np.empty(shape, np.float32)
        widths = self._widths("query") or query.shape[4:] * len(self._layers)
        one_each = range(len(self._heads))  # keys were read once per query head
        for row, (queries, keys) in enumerate(sides.tolist()):
            for at, layer in enumerate(self._layers):
                out[row, at, :, :queries, :keys] = derive_attention(
                    query[row, at, :, :queries, : widths[at]],
                    key[row, at, :, :keys, : widths[at]],
                    self.stack.scaling[layer],
                    self.stack.recipe[layer],
                    key_head=one_each,
                    heads=self._heads,
                )
        return out

    def _reader(self, length: int, name: str) -> BlockReader | ImpliedBlocks:
        return self.vault.store.rows(length, f"{self.stack.name}/{name}").blocks()

    def _widths(self, name: str) -> list[int]:
        """Widths of the chosen layers; empty where all have the stack's."""
        widths = self.stack.widths_of(name)
        return [widths[layer] for layer in self._layers] if widths else []

    def _key_heads(self) -> list[int]:
        per_key_head = self.stack.heads // self.stack.key_heads
        return [head // per_key_head for head in self._heads]

    def _without_single_axes(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._one_layer:
            return values[:, 0, 0] if self._one_head else values[:, 0]
        return values[:, :, 0] if self._one_head else values


def check_places(vault: Vault, places: NDArray[np.int32]) -> None:
    """Refuse places of one bucket, as :attr:`qkvault.Vault.places`, that cannot be.

    Raises:
        VaultError: the vault is damaged.
    """
    length, rows, *tokens = places.T
    try:
        bucket = vault.store.plan.bucket(int(length[0]))
        fits = zip(tokens, bucket.lengths, strict=False)
        sound = rows.min() >= 0 and rows.max() < bucket.rows
        sound = sound and all(n.min() >= 1 and n.max() <= most for n, most in fits)
    except KeyError:
        sound = False
    if not sound:
        raise VaultError(f"{vault.path} is damaged: examples without a place in a bucket")


def _refuse_holes(values: NDArray[np.float32], reader: BlockReader | ImpliedBlocks) -> None:
    name = reader.meta.path.rpartition("/")[2]
    if find_holes(name, values[:, :, :, 0], reader.meta.may_be_empty).any():
        raise VaultError(f"{reader.meta.path} is damaged: it holds nothing for some example")


def _blank(name: str, values: NDArray[np.float32], sides: NDArray[np.int32]) -> None:
    # What lies beyond an example's own tokens must not pass for attention.
    for row, (queries, keys) in enumerate(sides.tolist()):
        tokens, width = own_cells(name, queries, keys)
        values[row, :, :, tokens.stop :] = np.nan
        if width.stop is not None:
            values[row, :, :, :, width.stop :] = np.nan


def chosen_stack(vault: Vault, name: str | None) -> Stack:
    """The stack of that name; the first one if none is given."""
    try:
        return vault.spec.stacks[0] if name is None else stack_of(vault.spec, name)
    except KeyError:
        kept = ", ".join(stack.name for stack in vault.spec.stacks)
        raise InputError(f"stack {name!r} was asked for; this vault keeps {kept}") from None


def _checked_names(vault: Vault, arrays: Sequence[ScanArray]) -> tuple[ScanArray, ...]:
    names = (arrays,) if isinstance(arrays, str) else tuple(arrays)
    if not names or any(name not in SCAN_ARRAYS for name in names):
        raise InputError(f"arrays are some of {', '.join(SCAN_ARRAYS)}; found {names!r:.100}")
    for name in names:
        derived = name == "attention" and vault.spec.attention == "derived"
        if not derived and not is_kept(vault.spec, name):
            kept = ", ".join(vault.spec.arrays)
            raise MissingArray(f"{name} was not kept in {vault.path} (kept: {kept})")
    return cast("tuple[ScanArray, ...]", names)


def layer_places(stack: Stack, layer: Which) -> tuple[Sequence[int], bool]:
    """Positions of layers given by the model's own numbers, and whether it was a single one."""
    if layer is None:
        return range(len(stack.layers)), False
    if isinstance(layer, Sequence | np.ndarray):
        return [_layer_place(stack, item) for item in layer], False
    return [_layer_place(stack, layer)], True


def _layer_place(stack: Stack, layer: Any) -> int:
    number = _integer(layer, "layer")
    if number in stack.layers:
        return stack.layers.index(number)
    if -len(stack.layers) <= number < 0:
        return number + len(stack.layers)
    raise OutOfRange(
        f"layer {number} was asked for; this vault keeps {', '.join(map(str, stack.layers))}"
    )


def head_places(stack: Stack, head: Which) -> tuple[Sequence[int], bool]:
    """Positions of query heads, and whether it was a single one."""
    if head is None:
        return range(stack.heads), False
    if isinstance(head, Sequence | np.ndarray):
        return [_head_place(stack, item) for item in head], False
    return [_head_place(stack, head)], True


def _head_place(stack: Stack, head: Any) -> int:
    number = _integer(head, "head")
    if not -stack.heads <= number < stack.heads:
        raise OutOfRange(f"head {number} was asked for; there are {stack.heads} heads")
    return number % stack.heads


def _integer(number: Any, what: str) -> int:
    try:
        return as_int(number)
    except TypeError:
        raise InputError(
            f"a {what} is asked for by its number, or by several; found {number!r:.100}"
        ) from None
