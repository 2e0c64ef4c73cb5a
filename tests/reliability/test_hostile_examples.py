"""Records, places and ids made to do harm, with all hashes right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from guard import guarded
from hostile import SECONDS, refuses, use

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forging import Forger

PLACES = {
    "a row below nothing": (8, -1, 5),
    "a row beyond the bucket": (8, 10**6, 5),
    "a bucket that is not there": (24, 0, 5),
    "no tokens": (8, 0, 0),
    "more tokens than the bucket has": (8, 0, 9),
    "a length below nothing": (8, 0, -5),
    "the row of another": (16, 0, 5),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_hostile_places(forger: Forger, place: tuple[int, int, int], tmp_path: Path) -> None:
    places = forger.column("place")
    places[0] = place
    forger.put_column("place", places)
    forger.sign()
    told = guarded(lambda: use(forger.path), SECONDS)
    assert told["damages"] > 0
    if place != PLACES["the row of another"]:  # which is there
        with pytest.raises(qkvault.VaultError):
            qkvault.copy(forger.path, tmp_path / "copy", examples=[0])


OFFSETS: dict[str, Callable[[Any], None]] = {
    "backwards": lambda offset: offset.__setitem__(1, 0),
    "beyond the records": lambda offset: offset.__setitem__(slice(1, None), 2**63),
    "the largest number": lambda offset: offset.__setitem__(slice(None), 2**64 - 1),
}


@pytest.mark.parametrize("change", OFFSETS.values(), ids=OFFSETS)
def test_hostile_offsets(forger: Forger, change: Callable[[Any], None]) -> None:
    offset = forger.column("offset")
    change(offset)
    forger.put_column("offset", offset)
    forger.sign()
    refuses(forger.path)


def test_hostile_ids(forger: Forger) -> None:
    for name, value in (("id_row", -1), ("id_row", 10**6), ("id_hash", 0)):
        values = forger.column(name)
        kept = values.copy()
        values[:] = value
        forger.put_column(name, values)
        forger.sign()
        error = qkvault.VaultError if name == "id_row" else qkvault.UnknownExample
        with pytest.raises(error):
            qkvault.open(forger.path).by_id("r00001")
        assert not qkvault.verify(forger.path, full=True).ok
        forger.put_column(name, kept)
        forger.sign()


RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an id of one": lambda r: {**r, "id": 1},
    "no tokens": lambda r: {**r, "tokens": []},
    "three texts": lambda r: {**r, "text": ["a", "b", "c"]},
    "a token of none": lambda r: {**r, "tokens": [None] * len(r["tokens"])},
    "a token id beyond number": lambda r: {**r, "token_ids": [10**100] * len(r["tokens"])},
    "half a token id": lambda r: {**r, "token_ids": [0.5] * len(r["tokens"])},
    "half a character in an id": lambda r: {**r, "id": "\ud800"},
    "half a character in a token": lambda r: {**r, "tokens": ["\udfff"] * len(r["tokens"])},
    "half a character in a column": lambda r: {**r, "columns": {"a": [{"\ud800": 1}]}},
    "offsets of three": lambda r: {**r, "offsets": [[0, 1, 2]] * len(r["tokens"])},
    "offsets of text": lambda r: {**r, "offsets": ["ab"] * len(r["tokens"])},
    "columns of nothing": lambda r: {**r, "columns": None},
    "a label of a list": lambda r: {**r, "label": []},
    "a label without end": lambda r: {**r, "label": float("inf")},
    "a list": lambda r: [r],
    "a number": lambda r: 7,
    "nothing": lambda r: {},
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_hostile_records(forger: Forger, change: Callable[[dict[str, Any]], Any]) -> None:
    lines = forger.records()
    lines[0] = json.dumps(change(json.loads(lines[0]))).encode() + b"\n"
    forger.put_records(lines)
    forger.sign()
    refuses(forger.path)


SWELLING = {
    "lists": b"[]," * (1 << 20),
    "numbers": b"1.5," * ((4 << 20) - 500),
    "one text": b'"' + b"x" * (60 << 20) + b'",',
}


@pytest.mark.parametrize("columns", SWELLING.values(), ids=SWELLING)
def test_records_that_swell(forger: Forger, columns: bytes) -> None:
    """Text that packs small and swells when read: as a document, and then as Python's objects."""
    lines = forger.records()
    lines[0] = lines[0].replace(b'"columns":{', b'"columns":{"a":[' + columns + b"[]],")
    forger.put_records(lines)
    forger.sign()

    def read() -> str:
        with qkvault.open(forger.path) as vault:
            assert vault[1].id == "r00001"
            try:
                return vault[0].id
            except qkvault.VaultError:
                return "refused"

    assert guarded(read, SECONDS, 640 << 20) in ("r00000", "refused")
