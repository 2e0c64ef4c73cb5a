"""A unit of work: some examples of one length bucket, and the arrays that a run fills for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .chunks import is_column
from .errors import InputError
from .holes import find_holes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from .claims import UnitClaim
    from .metadata import ArrayMeta
    from .spec import Json


_ALIGNMENT: Final = 64
"""Arrays begin at cache lines."""


@dataclass(frozen=True, eq=False)
class Unit:
    """Examples that are written together: one shard file per array.

    Attributes:
        id: number of the unit.
        bucket: name of the bucket's group, such as ``b0064``.
        length: padded length in tokens.
        examples: the examples, int64, in the order of the unit's rows.
        lengths: tokens of each, int32.
        target_lengths: tokens of each one's target, int32; zeros where there are no targets.
    """

    id: int
    bucket: str
    length: int
    examples: NDArray[np.int64]
    lengths: NDArray[np.int32]
    target_lengths: NDArray[np.int32]


@dataclass(frozen=True)
class Receipt:
    """What committing a unit cost.

    Attributes:
        bytes_written: size of its shard files.
        raw_bytes: size of its arrays in memory.
    """

    bytes_written: int
    raw_bytes: int


class UnitBuffer:
    """The arrays of one unit, filled with what stands for nothing until a run writes them.

    Row ``i`` belongs to ``unit.examples[i]``; of its tokens the first ``unit.lengths[i]`` are to
    be written: ``arrays["encoder/attention"][i, :, :, :n, :n]``, ``arrays["encoder/query"][i, :,
    :, :n]``... (for int16 vectors, what :func:`qkvault.encode_vectors` gives). Along axes of the
    target it is the first ``unit.target_lengths[i]``.

    Attributes:
        unit: which.
        arrays: by path within the bucket, in the stored type.
        memory: the bytes that they lie in.
        notes: what the unit's commit is to say besides; see FORMAT.md, section 6.
    """

    def __init__(
        self,
        unit: Unit,
        metas: dict[str, ArrayMeta],
        claim: UnitClaim,
        take_memory: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        self.unit = unit
        self.claim = claim
        self.notes: dict[str, Json] = {}
        rows = len(unit.examples)
        shapes = {path: (rows, *meta.shape[1:]) for path, meta in metas.items()}
        sizes = {
            path: math.prod(shapes[path]) * meta.dtype.itemsize for path, meta in metas.items()
        }
        self.memory = take_memory(sum(_aligned(size) for size in sizes.values()))
        self.arrays: dict[str, NDArray[Any]] = {}
        start = 0
        for path, meta in metas.items():
            flat = self.memory[start : start + sizes[path]].view(meta.dtype)
            flat.fill(meta.fill)
            self.arrays[path] = flat.reshape(shapes[path])
            start += _aligned(sizes[path])

    def check(self, metas: dict[str, ArrayMeta]) -> None:
        """Refuse arrays of another shape or type, and examples that were not filled.

        Raises:
            InputError: naming the array and the example.
        """
        rows = len(self.unit.examples)
        for path, meta in metas.items():
            values = self.arrays.get(path)
            shape = (rows, *meta.shape[1:])
            if values is None or values.shape != shape or values.dtype != meta.dtype:
                found = "nothing" if values is None else f"{values.dtype}{list(values.shape)}"
                raise InputError(
                    f"{path} of unit {self.unit.id} must be {meta.dtype}{list(shape)}, not {found}"
                )
            holes = _holes(path, values, meta.may_be_empty)
            if holes.size:
                raise InputError(
                    f"{path} of unit {self.unit.id} was not filled for example"
                    f" {self.unit.examples[holes[0]]}"
                )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _holes(path: str, values: NDArray[Any], may_be_empty: bool) -> NDArray[np.intp]:
    """Rows whose first token holds nothing in some layer and head; or, where a row of a map may be
    empty and no NaN tells it from a hole, those that hold nothing at all."""
    name = path.rpartition("/")[2]
    if may_be_empty and values.dtype.kind == "u":
        return np.flatnonzero(~values.reshape(len(values), -1).any(axis=1))
    first = values if is_column(path) else values[:, :, :, 0]
    empty = find_holes(name, first, may_be_empty)
    return np.flatnonzero(empty.reshape(len(values), -1).any(axis=1))
