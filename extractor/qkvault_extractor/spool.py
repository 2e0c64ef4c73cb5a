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
_BLOCK: Final = 128
"""Records that are packed together: they are alike, and many small pieces of memory scatter it."""


class RecordSpool(Sequence[Record]):
    """Records in order, each unpacked when it is asked for; in order is fastest.

    Args:
        records: the first ones.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._blocks: list[bytes] = []  # each of _BLOCK lines
        self._last: list[bytes] = []  # lines that do not make a block yet
        self._unpacked: tuple[int, list[bytes]] = (-1, [])  # the block that was asked for last
        self._lengths: list[tuple[int, ...]] = []
        self._removed: list[int] = []  # places, each as it was when its record was taken out
        for record in records:
            self.append(record)

    def append(self, record: Record) -> None:
        """Add a record at the end."""
        self._last.append(_to_line(record))
        self._lengths.append(record.lengths)
        if len(self._last) == _BLOCK:
            self._blocks.append(zlib.compress(b"\n".join(self._last), _LEVEL))
            self._last = []

    def longest(self) -> list[int]:
        """Places of the longest record and, if it is another, of that with the longest target."""
        return longest(self._lengths)

    def remove(self, place: int) -> None:
        """Take a record out; those behind it move up."""
        del self._lengths[place]
        self._removed.append(place)

    def __len__(self) -> int:
        return len(self._lengths)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return _from_line(self._line(place % len(self)))

    def _line(self, place: int) -> bytes:
        for removed in reversed(self._removed):
            place += place >= removed
        number, inside = divmod(place, _BLOCK)
        if number == len(self._blocks):
            return self._last[inside]
        if self._unpacked[0] != number:
            self._unpacked = (number, zlib.decompress(self._blocks[number]).split(b"\n"))
        return self._unpacked[1][inside]


def longest(lengths: ArrayLike) -> list[int]:
    """Places of the first longest along each side, each once; ``lengths`` is (example, side)."""
    found: list[int] = np.asarray(lengths).argmax(axis=0).tolist()
    return list(dict.fromkeys(found))


def _to_line(record: Record) -> bytes:
    """A record as JSON, without a line end."""
    values = {field.name: getattr(record, field.name) for field in fields(Record)}
    values["columns"] = dict(record.columns)
    if record.target is not None:
        target = record.target
        values["target"] = {field.name: getattr(target, field.name) for field in fields(Target)}
    return json.dumps(values, separators=(",", ":")).encode()


def _from_line(line: bytes) -> Record:
    values: dict[str, Any] = json.loads(line)
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
