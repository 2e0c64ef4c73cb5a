"""Some examples of a vault, as a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import index as as_int
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .errors import InputError, OutOfRange, UnknownExample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .example import Example
    from .vault import Vault


class Selection(Sequence["Example"]):
    """Examples of one vault, in an order of their own; each is read when asked for.

    Attributes:
        vault: where they come from.
        indices: int64 ``(example,)``, their places in the dataset's order, read-only.
    """

    def __init__(self, vault: Vault, indices: NDArray[np.int64]) -> None:
        self.vault = vault
        self.indices = np.array(indices, np.int64)
        self.indices.flags.writeable = False

    def __repr__(self) -> str:
        return f"<Selection of {len(self)} of {len(self.vault)} examples>"

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Example]:
        return (self.vault[index] for index in self.indices.tolist())

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> Selection: ...
    def __getitem__(self, place: int | slice) -> Example | Selection:
        """The example at a place of this sequence; a slice is a selection again.

        Raises:
            OutOfRange: no such place.
        """
        if isinstance(place, slice):
            return Selection(self.vault, self.indices[place])
        number, count = as_int(place), len(self)
        if not -count <= number < count:
            raise OutOfRange(f"example {number} of a selection of {count} was asked for")
        return self.vault[int(self.indices[number])]


Examples = Selection | Sequence[int] | Sequence[str] | np.ndarray[Any, Any] | None
"""Which examples: a selection, numbers, ids, a mask over all of them, or None for all."""


def example_indices(vault: Vault, examples: Examples) -> NDArray[np.int64]:
    """The places of ``examples`` in the dataset's order, int64 ``(example,)``, in the order given.

    Raises:
        InputError: neither numbers nor ids nor a mask of the right length; a foreign selection.
        OutOfRange: a number that no example has.
        UnknownExample: an id that no example has.
    """
    count = len(vault)
    if examples is None:
        return np.arange(count, dtype=np.int64)
    if isinstance(examples, Selection):
        if examples.vault.digest != vault.digest:
            raise InputError("the selection was made on another vault; select again on this one")
        return examples.indices
    if isinstance(examples, str | bytes):
        raise InputError(f"examples are a list of numbers or ids; found {examples!r:.100}")
    wanted = np.asarray(examples)
    if wanted.dtype == bool:
        if wanted.shape != (count,):
            raise InputError(f"a mask has one entry per example, {count}; found {wanted.shape}")
        return np.flatnonzero(wanted).astype(np.int64)
    if wanted.ndim != 1:
        raise InputError(f"examples are a list of numbers or ids; found {wanted.ndim} axes")
    if not len(wanted):
        return np.empty(0, np.int64)
    if wanted.dtype.kind in "iu":
        return _checked_numbers(wanted, count)
    return np.array([_named(vault, item) for item in examples], np.int64)


def _checked_numbers(wanted: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    numbers = wanted.astype(np.int64)
    outside = (numbers < -count) | (numbers >= count)
    if outside.any():
        raise OutOfRange(
            f"example {numbers[outside][0]} was asked for; there are {count}, 0 to {count - 1}"
        )
    return np.where(numbers < 0, numbers + count, numbers)


def _named(vault: Vault, item: object) -> int:
    if isinstance(item, str):
        return vault.by_id(item).index
    try:
        return vault[as_int(item)].index  # type: ignore[arg-type]
    except TypeError:
        raise UnknownExample(
            f"an example is asked for by number or id; found {item!r:.100}"
        ) from None
