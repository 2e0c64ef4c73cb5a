"""Records between tokenizing and planning, packed: a corpus of them takes a tenth of the memory."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from qkvault import Record, Target

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_LEVEL: Final = 1


class RecordSpool(Sequence[Record]):
    """Records in order, each unpacked when it is asked for.

    Args:
        records: the first ones.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._packed: list[bytes] = []
        self._lengths: list[tuple[int, ...]] = []
        for record in records:
            self.append(record)

    def append(self, record: Record) -> None:
        """Add a record at the end."""
        self._packed.append(_pack(record))
        self._lengths.append(record.lengths)

    def longest(self) -> list[int]:
        """Places of the longest record and, if it is another, of that with the longest target."""
        return longest(self._lengths)

    def remove(self, place: int) -> None:
        """Take a record out; those behind it move up."""
        del self._packed[place], self._lengths[place]

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        if isinstance(place, slice):
            return [_unpack(packed) for packed in self._packed[place]]
        return _unpack(self._packed[place])


def longest(lengths: ArrayLike) -> list[int]:
    """Places of the first longest along each side, each once; ``lengths`` is (example, side)."""
    found: list[int] = np.asarray(lengths).argmax(axis=0).tolist()
    return list(dict.fromkeys(found))


def _pack(record: Record) -> bytes:
    values = {field.name: getattr(record, field.name) for field in fields(Record)}
    values["columns"] = dict(record.columns)
    if record.target is not None:
        target = record.target
        values["target"] = {field.name: getattr(target, field.name) for field in fields(Target)}
    return zlib.compress(json.dumps(values, separators=(",", ":")).encode(), _LEVEL)


def _unpack(packed: bytes) -> Record:
    values: dict[str, Any] = json.loads(zlib.decompress(packed))
    target = values.pop("target")
    columns = values.pop("columns")
    record = {name: _freeze(value) for name, value in values.items()}
    return Record(
        **record,
        columns=columns,
        target=None if target is None else Target(**{n: _freeze(v) for n, v in target.items()}),
    )


def _freeze(value: Any) -> Any:
    return tuple(_freeze(item) for item in value) if isinstance(value, list) else value
