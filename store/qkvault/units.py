"""A unit of work: some examples of one length bucket, and the arrays that a run fills for them."""

from __future__ import annotations

import fcntl
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import disk
from .errors import InputError, UnitTaken

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from .metadata import ArrayMeta

PARTIAL: Final = ".partial"


@dataclass(frozen=True, eq=False)
class Unit:
    """Examples that are written together: one shard file per array.

    Attributes:
        id: number of the unit.
        bucket: name of the bucket's group, such as ``b0064``.
        length: padded length in tokens.
        examples: the examples, int64, in the order of the unit's rows.
        lengths: tokens of each, int32.
    """

    id: int
    bucket: str
    length: int
    examples: NDArray[np.int64]
    lengths: NDArray[np.int32]


@dataclass(frozen=True)
class Receipt:
    """What committing a unit cost.

    Attributes:
        bytes_written: size of its shard files.
        raw_bytes: size of its arrays in memory.
    """

    bytes_written: int
    raw_bytes: int


class Claim:
    """The right to write a unit, held while the process lives: a lock on a folder for its files."""

    def __init__(self, vault: Path, unit: int) -> None:
        """Take the claim.

        Raises:
            UnitTaken: another process holds it.
            ResourceError: the disk refuses.
        """
        self.folder = vault / PARTIAL / f"{unit:08d}"
        with disk.writing(self.folder):
            self._fd = self._lock(unit)
        for leftover in self.folder.iterdir():  # of a run that died here
            leftover.unlink()

    def release(self) -> None:
        """Give the claim back, with all that is in its folder; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(fd)

    def _lock(self, unit: int) -> int:
        while True:
            self.folder.parent.mkdir(exist_ok=True)
            try:
                self.folder.mkdir(exist_ok=True)
                fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:  # the holder has just finished and removed it
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), self.folder.stat()):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise UnitTaken(f"unit {unit} is being written by another process") from None
            except FileNotFoundError:
                pass
            os.close(fd)


class UnitBuffer:
    """The arrays of one unit, filled with what stands for nothing until a run writes them.

    Row ``i`` belongs to ``unit.examples[i]``; of its tokens the first ``unit.lengths[i]`` are to
    be written: ``arrays["encoder/attention"][i, :, :, :n, :n]``, ``arrays["encoder/query"][i, :,
    :, :n]``...

    Attributes:
        unit: which.
        arrays: by path within the bucket, in the stored type.
    """

    def __init__(self, unit: Unit, metas: dict[str, ArrayMeta], claim: Claim) -> None:
        self.unit = unit
        self.claim = claim
        rows = len(unit.examples)
        self.arrays: dict[str, NDArray[Any]] = {}
        for path, meta in metas.items():
            shape = (rows, *meta.shape[1:])
            if meta.dtype.kind == "f":
                self.arrays[path] = np.full(shape, np.nan, meta.dtype)
            else:
                self.arrays[path] = np.zeros(shape, meta.dtype)

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
            holes = _holes(path, values)
            if holes.size:
                raise InputError(
                    f"{path} of unit {self.unit.id} was not filled for example"
                    f" {self.unit.examples[holes[0]]}"
                )


def _holes(path: str, values: NDArray[Any]) -> NDArray[np.intp]:
    """Rows whose first token holds nothing in some layer and head."""
    name = path.rpartition("/")[2]
    first = values if name == "logits" else values[:, :, :, 0]
    if values.dtype.kind == "f":
        empty = np.isnan(first).all(axis=-1)
    elif name in ("attention", "thumbnail"):
        empty = ~first.any(axis=-1)
    else:
        return np.empty(0, np.intp)
    return np.flatnonzero(empty.reshape(len(values), -1).any(axis=1))
