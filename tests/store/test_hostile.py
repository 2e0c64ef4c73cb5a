"""A vault from anybody: nothing in it makes the reader allocate, hang or fail without a word."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest

import qkvault
from qkvault import VaultError
from qkvault.codecs import BloscCodec, DamagedChunk, PlainCodec, ZstdCodec
from qkvault.documents import seal
from vaults import make_vault

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = [5, 6, 20]
ARRAY = "b0008/encoder/attention/zarr.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vaults") / "sound.vault"
    return make_vault(path, lengths=LENGTHS)


@pytest.fixture
def vault(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "v"))


def forge(vault: Path, relative: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a ``zarr.json``, and the plan so that its digest matches; commits then do not."""
    document = json.loads((vault / relative).read_bytes())
    change(document)
    data = json.dumps(document).encode()
    (vault / relative).write_bytes(data)
    forge_plan(
        vault, lambda plan: plan["metadata"].update({relative: hashlib.sha256(data).hexdigest()})
    )


def forge_plan(vault: Path, change: Callable[[dict[str, Any]], None]) -> None:
    plan = json.loads((vault / "plan.json").read_bytes())
    del plan["hash"]
    change(plan)
    (vault / "plan.json").write_bytes(seal(plan))
    (vault / "manifest.json").unlink(missing_ok=True)


def inner(document: dict[str, Any]) -> dict[str, Any]:
    configuration: dict[str, Any] = document["codecs"][0]["configuration"]
    return configuration


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(shape=[1] * 9),
        lambda d: d.update(shape=[10**100, 2, 4, 8, 8]),
        lambda d: d.update(shape=[2**62, 2**62, 4, 8, 8]),
        lambda d: d.update(shape=[-1, 2, 4, 8, 8]),
        lambda d: d.update(shape=[2, 2, 4, 8]),
        lambda d: d.update(shape="many"),
        lambda d: d.update(data_type="object"),
        lambda d: d.update(data_type={"name": "numpy.datetime64"}),
        lambda d: d.update(data_type="float32"),
        lambda d: d.update(node_type="group"),
        lambda d: d.update(dimension_names=None),
        lambda d: d.update(fill_value=7),
        lambda d: d.update(codecs=[]),
        lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[2**40, 2, 4, 8, 8]),
        lambda d: d["chunk_key_encoding"]["configuration"].update(separator="/../../"),
        lambda d: inner(d).update(chunk_shape=[0, 2, 4, 8, 8]),
        lambda d: inner(d).update(chunk_shape=[1, 2, 3, 8, 8]),
        lambda d: inner(d).update(index_location="start"),
        lambda d: inner(d).update(index_codecs=[]),
        lambda d: inner(d).update(codecs=[{"name": "bytes"}, {"name": "pickle"}]),
        lambda d: inner(d).update(codecs=[{"name": "bytes", "configuration": {"endian": "big"}}]),
        lambda d: inner(d)["codecs"][1]["configuration"].update(checksum=False),
        lambda d: inner(d)["codecs"][1]["configuration"].update(level=10**9),
    ],
)
def test_odd_metadata_is_refused(vault: Path, change: Callable[[dict[str, Any]], None]) -> None:
    forge(vault, ARRAY, change)
    opened = qkvault.open(vault, partial=True)
    with pytest.raises(VaultError, match=r"not an array this release reads|than the plan says"):
        opened[0].attention[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.update(examples=10**9),
        lambda p: p.update(buckets=[]),
        lambda p: p.update(buckets=[{"length": 8, "rows": -3, "rows_per_unit": 2}]),
        lambda p: p.update(buckets=[{"length": 2**70, "rows": 3, "rows_per_unit": 2}]),
        lambda p: p.update(buckets="none"),
        lambda p: p.update(spec=[]),
        lambda p: p.update(metadata=[1]),
        lambda p: p["spec"].update(precision="pickle"),
        lambda p: p["spec"].update(stacks=[]),
        lambda p: p["spec"].update(logits=2**60),
        lambda p: p["spec"]["stacks"][0].update(heads=10**30),
        lambda p: p["spec"]["stacks"][0].update(layers=["x"]),
        lambda p: p["spec"]["stacks"][0].update(name="../../etc"),
        lambda p: p.update(shards={"a": {}}),
        lambda p: p.pop("rejects"),
    ],
)
def test_odd_plans_are_refused(vault: Path, change: Callable[[dict[str, Any]], None]) -> None:
    forge_plan(vault, change)
    with pytest.raises(VaultError, match="not a plan"):
        qkvault.open(vault, partial=True)


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"null", b"[" * 100_000, b'{"hash": ' + b"9" * 10_000 + b"}", b"\xff\xfe", b"{}"],
)
def test_odd_json_is_refused(vault: Path, data: bytes) -> None:
    (vault / "plan.json").write_bytes(data)
    with pytest.raises(VaultError, match=r"plan\.json is damaged"):
        qkvault.open(vault)


def test_files_that_are_not_files_are_refused(vault: Path) -> None:
    (vault / "manifest.json").unlink()
    (vault / "manifest.json").mkdir()
    with pytest.raises(VaultError, match="not a regular file"):
        qkvault.open(vault)
    (vault / "manifest.json").rmdir()
    document = vault / "b0008/encoder/query/zarr.json"
    document.unlink()
    os.mkfifo(document)
    with pytest.raises(VaultError, match="not a regular file"):
        qkvault.open(vault, partial=True)[0].query[0]


def test_huge_documents_are_refused_unread(vault: Path) -> None:
    with (vault / "plan.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(VaultError, match="at most"):
        qkvault.open(vault)


BOMB = bytes(1 << 28)


def test_bombs_are_refused_before_they_unpack() -> None:
    out = np.empty(1024, np.uint16)
    packed = {
        "zstd": (ZstdCodec(1), numcodecs.zstd.compress(BOMB, 1, True)),
        "blosc": (BloscCodec("lz4", 5, "shuffle", 2), _with_crc(_blosc(BOMB))),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for codec, data in packed.values():
        assert len(data) < len(BOMB) / 20
        with pytest.raises(DamagedChunk, match="was expected"):
            codec.decode(data, out)  # type: ignore[attr-defined]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_frames_without_size_or_checksum_are_refused() -> None:
    out = np.empty(512, np.uint16)
    zeros = bytes(1024)
    unchecked = numcodecs.zstd.compress(zeros, 1, False)
    two = numcodecs.zstd.compress(zeros, 1, True) * 2
    for data in (unchecked, two, b"", b"\x28\xb5\x2f\xfd", zeros):
        with pytest.raises(DamagedChunk):
            ZstdCodec(1).decode(data, out)
    for data in (b"", b"abc", _with_crc(b""), _with_crc(b"x" * 20), _blosc(zeros)):
        with pytest.raises(DamagedChunk):
            BloscCodec("lz4", 5, "shuffle", 2).decode(data, out)
        with pytest.raises(DamagedChunk):
            PlainCodec().decode(data, out)


def test_any_bytes_are_damage_or_the_very_data() -> None:
    dice = random.Random(3)
    data = np.arange(700, dtype=np.uint16) % 97
    for codec in (ZstdCodec(1), BloscCodec("lz4", 5, "shuffle", 2), PlainCodec()):
        packed = b"".join(bytes(part) for part in codec.encode(data))
        for _ in range(400):
            spoiled = bytearray(packed)
            for _ in range(dice.randint(1, 3)):
                spoiled[dice.randrange(len(spoiled))] = dice.randrange(256)
            if dice.random() < 0.2:
                del spoiled[dice.randrange(len(spoiled)) :]
            out = np.empty_like(data)
            try:
                codec.decode(bytes(spoiled), out)
            except DamagedChunk:
                continue
            np.testing.assert_array_equal(out, data)


def test_fuzzed_metadata_raises_vault_errors_only(vault: Path) -> None:
    from qkvault.metadata import parse_array

    dice = random.Random(5)
    original = (vault / ARRAY).read_bytes()
    odd: list[Any] = [None, True, -1, 0, 2**80, 1e308, "", "x" * 50, [], {}, [[]], {"a": 1}]

    def spoil(value: Any, depth: int = 0) -> Any:
        if dice.random() < 0.08:
            return dice.choice(odd)
        if isinstance(value, dict):
            return {k: spoil(v) for k, v in value.items() if dice.random() > 0.02}
        if isinstance(value, list):
            return [spoil(v) for v in value if dice.random() > 0.02]
        return value

    for _ in range(1500):
        document = spoil(json.loads(original))
        try:
            meta = parse_array(json.dumps(document).encode(), "b0008/encoder/attention", "x")
        except VaultError:
            continue
        assert np.prod(meta.chunk) * meta.dtype.itemsize <= 64 << 20


def _blosc(data: bytes) -> bytes:
    return bytes(numcodecs.blosc.compress(data, b"lz4", 5, 1, 0))


def _with_crc(data: bytes) -> bytes:
    import google_crc32c

    return data + int(google_crc32c.value(data)).to_bytes(4, "little")
