"""Vaults made to do harm, with all hashes right: refused in a word, soon, and in little memory.

Everything here opens, reads and verifies a forged vault in a child of limited memory and time.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest
from forging import Forger
from guard import guarded
from stand_in import World, make_units_small, reads, small_units

import qkvault

__all__ = ["small_units"]

WORLD = World(lengths=(5, 9, 8, 12, 3, 70))
COUNT = len(WORLD.lengths)
SECONDS = 30.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vaults")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_units_small(monkeypatch, folder)
        return WORLD.write(folder / "v")


@pytest.fixture
def forger(sound: Path, tmp_path: Path) -> Forger:
    return Forger(Path(shutil.copytree(sound, tmp_path / "v")))


def use(path: Path) -> dict[str, Any]:
    """Open, read and verify: how many pieces were refused, what verify told, what else was raised.

    Anything raised but a VaultError of one line leaves this function and fails the test.
    """
    told = {"refused": 0, "read": 0, "damages": 0}
    try:
        vault = qkvault.open(path)
    except qkvault.VaultError as error:
        _check(error)
        told["refused"] += 1
    else:
        with vault:
            for _, read in reads(vault, min(len(vault), COUNT)):
                try:
                    read()
                    told["read"] += 1
                except qkvault.VaultError as error:
                    _check(error)
                    told["refused"] += 1
    for full in (False, True):
        try:
            told["damages"] = len(qkvault.verify(path, full=full).damages)
        except qkvault.VaultError as error:
            _check(error)
            told["damages"] = 1
    return told


def _check(error: qkvault.VaultError) -> None:
    text = str(error)
    if "\n" in text or len(text) > 2000:
        raise AssertionError(f"told at length: {text:.3000}")


def refuses(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = guarded(lambda: use(path), SECONDS)
    assert told["refused"] > 0
    assert told["damages"] > 0
    return told


def test_a_forger_that_changes_nothing_passes(forger: Forger) -> None:
    """The workshop itself is sound: what follows is refused for what it changes alone."""
    forger.put_metadata("b0008/encoder/attention", forger.metadata("b0008/encoder/attention"))
    forger.put_records(forger.records())
    forger.put_column("place", forger.column("place"))
    forger.put_index(0, _shard(forger, 0, "attention"), lambda index: None)
    forger.sign()
    told = guarded(lambda: use(forger.path), SECONDS)
    assert told["refused"] == told["damages"] == 0


def _shard(forger: Forger, unit: int, array: str) -> str:
    return next(path for path in forger.commits[unit]["files"] if f"/{array}/" in path)


def _inner(document: dict[str, Any]) -> dict[str, Any]:
    configuration: dict[str, Any] = document["codecs"][0]["configuration"]
    return configuration


def _shape(document: dict[str, Any], shape: list[int], chunk: list[int]) -> None:
    document["shape"] = shape
    document["chunk_grid"]["configuration"]["chunk_shape"] = [1, *shape[1:]]
    _inner(document)["chunk_shape"] = chunk


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


ARRAY_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "a shape of 10^100": lambda d: d.update(shape=[10**100, 2, 4, 8, 8]),
    "a product beyond 2^62": lambda d: d.update(shape=[2**40, 2, 2**40, 8, 8]),
    "100 axes": lambda d: _shape(d, [1] * 100, [1] * 100),
    "no axes": lambda d: _shape(d, [], []),
    "a chunk of nothing": lambda d: _inner(d).update(chunk_shape=[0, 2, 4, 8, 8]),
    "a chunk below nothing": lambda d: _inner(d).update(chunk_shape=[-1, 2, 4, 8, 8]),
    "a chunk of 2^40": lambda d: _inner(d).update(chunk_shape=[2**40, 2, 4, 8, 8]),
    "chunks of one cell": lambda d: _shape(d, [1, 2**20, 2**20, 8, 8], [1, 1, 1, 1, 8]),
    "chunks of 64 MiB": lambda d: _shape(d, [9, 2, 4, 2048, 2048], [1, 2, 4, 2048, 2048]),
    "sizes that are not whole": lambda d: d.update(shape=[1.5, 2, 4, 8, 8]),
    "sizes that are true": lambda d: d.update(shape=[True, 2, 4, 8, 8]),
    "an unknown codec": lambda d: _inner(d).update(
        codecs=[{"name": "bytes"}, {"name": "numcodecs.pickle", "configuration": {}}]
    ),
    "a codec within a codec": lambda d: _inner(d).update(
        codecs=json.loads(json.dumps(d["codecs"]))
    ),
    "a codec without checksum": lambda d: _inner(d)["codecs"][1]["configuration"].update(
        checksum=False
    ),
    "a type of Python": lambda d: d.update(data_type="object"),
    "a type of unending text": lambda d: d.update(data_type="fixed_length_utf32" * 10_000),
    "keys that climb": lambda d: d["chunk_key_encoding"]["configuration"].update(
        separator="/../../"
    ),
    "names without end": lambda d: d.update(dimension_names=["x" * 900_000] * 5),
}


@pytest.mark.parametrize("change", ARRAY_CHANGES.values(), ids=ARRAY_CHANGES)
def test_hostile_metadata(forger: Forger, change: Callable[[dict[str, Any]], None]) -> None:
    array = "b0008/encoder/attention"
    document = forger.metadata(array)
    before = json.dumps(document)
    change(document)
    assert json.dumps(document) != before
    forger.put_metadata(array, document)
    forger.sign()
    told = refuses(forger.path)
    assert told["read"] > 0  # other buckets are as they were


RAW = {
    "deep lists": b"[" * 500_000,
    "deep objects": b'{"a":' * 150_000,
    "an unending number": b'{"shape": ' + b"9" * 900_000 + b"}",
    "an unending fraction": b'{"shape": 0.' + b"9" * 900_000 + b"e999999999}",
    "two of every key": b"{" + b'"shape":[1],' * 80_000 + b'"x":1}',
    "empty lists": b"[" + b"[]," * 60_000 + b"[]]",
    "lone surrogates": b'{"shape": "\\ud800"}',
    "not UTF-8": b'{"shape": "\xff\xfe"}',
    "UTF-32": '{"shape": []}'.encode("utf-32"),
    "NaN": b'{"shape": [NaN, Infinity]}',
    "more than is read": b" " * (2 << 20),
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_hostile_json(forger: Forger, data: bytes) -> None:
    forger.put_metadata("b0008/encoder/attention", data)
    forger.sign()
    refuses(forger.path)


@pytest.mark.parametrize("name", ["plan.json", "manifest.json", "commits/00000000.json"])
@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_hostile_documents(forger: Forger, name: str, data: bytes) -> None:
    (forger.path / name).write_bytes(data)
    refuses(forger.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan.json", "manifest.json", "b0008/encoder/query/zarr.json"])
@pytest.mark.parametrize("size", [1, 2, 8, 15])
def test_documents_that_swell(forger: Forger, name: str, size: int) -> None:
    """Megabytes of the shortest lists, of which each takes thirty times its text when read."""
    data = b'{"a":[' + b"[]," * ((size << 20) // 3 - 10) + b"[]]}"
    if name.endswith("zarr.json"):
        forger.put_metadata("b0008/encoder/query", data)
        forger.sign()
    else:
        (forger.path / name).write_bytes(data)
    refuses(forger.path)


def _one_bucket(rows: int, per_unit: int) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        plan["buckets"] = [{"length": 8, "rows": rows, "rows_per_unit": per_unit}]
        plan["examples"] = rows

    return change


def _stack(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plan: plan["spec"]["stacks"][0].update(changes)


PLAN_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "2^31 units": _one_bucket(2**31 - 1, 1),
    "2^31 rows": _one_bucket(2**31 - 1, 2**31 - 1),
    "rows without number": _one_bucket(10**100, 1),
    "a bucket for every length": lambda p: p.update(
        buckets=[{"length": n, "rows": 1, "rows_per_unit": 1} for n in range(1, 60_001)],
        examples=60_000,
    ),
    "2^24 heads": _stack(heads=2**24, key_heads=2**24),
    "2^24 wide vectors": _stack(head_dim=2**24, value_dim=2**24),
    "a million layers": _stack(layers=list(range(10**6)), scaling=[1] * 10**6),
    "a scaling beyond number": _stack(scaling=[10**400, 1]),
    "a stack named like a path": _stack(name="../../../etc"),
    "a stack of no name": _stack(name=None),
    "2^24 logits": lambda p: p["spec"].update(logits=2**24, label_names=[]),
    "arrays that are text": lambda p: p["spec"].update(arrays="attention"),
    "precision that is a list": lambda p: p["spec"].update(precision=["uint16"]),
    "no examples": lambda p: p.update(buckets=[], examples=0),
    "sizes that are true": lambda p: p.update(
        buckets=[{"length": True, "rows": True, "rows_per_unit": True}], examples=True
    ),
    "rejects without number": lambda p: p.update(rejects={"count": 10**4000, "sha256": ""}),
    "rejects that are none": lambda p: p.update(rejects={"count": float("1e300"), "sha256": ""}),
    "another format": lambda p: p.update(format="2.0"),
    "a format of pages": lambda p: p.update(format="9" * 100_000),
}


@pytest.mark.parametrize("change", PLAN_CHANGES.values(), ids=PLAN_CHANGES)
def test_hostile_plans(forger: Forger, change: Callable[[dict[str, Any]], None]) -> None:
    change(forger.plan)
    forger.sign()
    refuses(forger.path)


def test_a_vault_does_not_speak_to_the_terminal(forger: Forger) -> None:
    forger.plan["format"] = "\x1b[31m\n\u202e2"
    forger.sign()
    with pytest.raises(qkvault.VaultError) as caught:
        qkvault.open(forger.path)
    assert str(caught.value).isprintable()
    made = qkvault.InputError("a\nb\x1b]0;\u202e\ud800é漢")
    assert str(made) == "a\\nb\\x1b]0;\\u202e\\ud800é漢"


def test_paths_that_leave_the_vault(forger: Forger, tmp_path: Path) -> None:
    """A plan that names files elsewhere has none of them read, nor told whether they exist."""
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    for name in ("../secret", str(secret), "examples/../../secret", "/etc/passwd", "\0", ".", ""):
        forger.plan["metadata"][name] = "0" * 64
        forger.plan["shards"][name] = {"size": 8, "xxh3_128": "0", "tail_sha256": "0"}
    forger.sign()
    report = qkvault.verify(forger.path, full=True)
    there = {d.reason for d in report.damages if "secret" in d.path}
    secret.unlink()
    report = qkvault.verify(forger.path, full=True)
    assert {d.reason for d in report.damages if "secret" in d.path} == there
    assert not report.ok


def test_links_to_other_places_are_held_to_their_hashes(forger: Forger, tmp_path: Path) -> None:
    """Files may be links, as in the caches of hubs; what they lead to must be what is named."""
    shard = forger.path / _shard(forger, 0, "attention")
    other = tmp_path / "elsewhere"
    shard.rename(other)
    shard.symlink_to(other)
    assert qkvault.verify(forger.path, full=True).ok
    for target in ("/etc/passwd", "/dev/zero", "/proc/self/mem", str(shard), str(tmp_path)):
        shard.unlink()
        shard.symlink_to(target)
        refuses(forger.path)


def _zstd_bomb(size: int) -> bytes:
    return bytes(numcodecs.zstd.compress(bytes(size), 19, True))


def _lying_zstd(told: int, size: int) -> bytes:
    """A Zstandard frame (RFC 8878) that says it holds ``told`` bytes and unpacks to ``size``."""
    frame = bytearray(_zstd_bomb(size))
    descriptor = frame[4]
    start = 5 if descriptor >> 5 & 1 else 6  # after the window's size, unless in one segment
    width = (1, 2, 4, 8)[descriptor >> 6]
    frame[start : start + width] = told.to_bytes(width, "little")
    return bytes(frame)


def _blosc_bomb(size: int) -> bytes:
    packed = bytes(numcodecs.blosc.compress(bytes(size), b"lz4", 9, 1, 0))
    return packed + int(google_crc32c.value(packed)).to_bytes(4, "little")


def _lying_blosc(told: int, size: int) -> bytes:
    packed = bytearray(_blosc_bomb(size)[:-4])
    packed[4:8] = struct.pack("<I", told)
    return bytes(packed) + int(google_crc32c.value(bytes(packed))).to_bytes(4, "little")


@pytest.mark.parametrize("size", [1 << 20, 1 << 28])
def test_bombs(forger: Forger, size: int) -> None:
    """Chunks that unpack to more than is declared, and say so, or lie about it."""
    for array, bombs in (
        ("attention", [_zstd_bomb(size), _lying_zstd(1024, size)]),
        ("query", [_blosc_bomb(size), _lying_blosc(1024, size)]),
    ):
        shard = _shard(forger, 0, array)
        meta = forger.meta(str(Path(shard).parent))
        declared = int(np.prod(meta.chunk)) * meta.dtype.itemsize
        lying = _lying_zstd if array == "attention" else _lying_blosc
        for bomb in (*bombs, lying(declared, size)):
            forger.put_chunk(0, shard, 0, bomb)
            forger.sign()
            refuses(forger.path)


INDEX_CHANGES: dict[str, Callable[[Any], None]] = {
    "beyond the file": lambda index: index.__setitem__(0, (2**40, 100)),
    "offset and size wrap around": lambda index: index.__setitem__(0, (2**64 - 8, 16)),
    "half absent": lambda index: index.__setitem__(0, (2**64 - 1, 16)),
    "absent": lambda index: index.__setitem__(0, (2**64 - 1, 2**64 - 1)),
    "all in one place": lambda index: index.__setitem__(slice(1, None), index[0]),
    "backwards": lambda index: index.__setitem__(slice(None), index[::-1].copy()),
    "empty chunks": lambda index: index.__setitem__((slice(None), 1), 0),
}


@pytest.mark.parametrize("change", INDEX_CHANGES.values(), ids=INDEX_CHANGES)
def test_hostile_indexes(forger: Forger, change: Callable[[Any], None]) -> None:
    unit = max(forger.commits)  # of the longest bucket: several chunks in a shard
    shard = _shard(forger, unit, "attention")
    assert forger.meta(str(Path(shard).parent)).chunks_per_shard > 1
    forger.put_index(unit, shard, change)
    forger.sign()
    refuses(forger.path)


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
def test_hostile_places(forger: Forger, place: tuple[int, int, int]) -> None:
    places = forger.column("place")
    places[0] = place
    forger.put_column("place", places)
    forger.sign()
    told = guarded(lambda: use(forger.path), SECONDS)
    assert told["damages"] > 0


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
        with pytest.raises(qkvault.QKVaultError):
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


def test_answers_larger_than_memory(forger: Forger) -> None:
    """An array of 2^22 heads, of which no chunk was written; and as many heads of one that is."""
    array, heads = "b0008/encoder/attention", 2**22
    unit = next(n for n, c in forger.commits.items() if any(array in path for path in c["files"]))
    document = forger.metadata(array)
    rows = document["shape"][0]
    for stack in forger.plan["spec"]["stacks"]:
        stack.update(heads=heads, key_heads=1)
    per_unit = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    document["shape"] = [rows, 2, heads, 8, 8]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [per_unit, 2, heads, 8, 8]
    _inner(document)["chunk_shape"] = [per_unit, 1, 2**12, 8, 8]
    shard = _shard(forger, unit, "attention")
    forger.put_metadata(array, document)
    absent = np.full((2 * heads // 2**12, 2), 2**64 - 1, np.uint64)
    forger.put_shard(unit, shard, b"", absent)
    forger.sign()

    def read() -> str:
        try:
            qkvault.open(forger.path)[0].attention[:, :]
        except qkvault.QKVaultError as error:
            return type(error).__name__
        return "read"

    assert guarded(read, SECONDS) == "ResourceError"
    assert guarded(lambda: len(qkvault.verify(forger.path, full=True).damages), SECONDS) > 0
