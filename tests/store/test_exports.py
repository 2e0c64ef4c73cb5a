"""Exports: HDF5 that opens like a vault, numpy archives, tables of comma-separated values."""

from __future__ import annotations

import csv
import json
import os
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

import qkvault
from qkvault.errors import InputError, MissingArray, OutOfRange, ResourceError, VaultError
from vaults import make_vault

LENGTHS = [3, 30, 17, 17, 9, 9, 9, 70, 24, 5, 130, 8]
NAMES = ("attention", "query", "key", "value", "thumbnail")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = tmp_path_factory.mktemp("export") / "v.vault"
    return qkvault.open(make_vault(path, lengths=LENGTHS, layers=(1, 4, 9)))


@pytest.fixture(scope="module")
def exported(vault: qkvault.Vault, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qkvault.export(vault, tmp_path_factory.mktemp("h5") / "all.h5")


@pytest.mark.parametrize("precision", qkvault.PRECISIONS)
def test_hdf5_opens_like_a_vault(tmp_path: Path, precision: qkvault.Precision) -> None:
    path = make_vault(tmp_path / "v", lengths=[3, 17, 130, 17, 8], precision=precision)
    with qkvault.open(path) as vault:
        qkvault.export(path, tmp_path / "all.h5")
        with qkvault.open(tmp_path / "all.h5") as found:
            assert found.digest == vault.digest
            assert found.spec == vault.spec
            assert len(found) == len(vault)
            assert np.array_equal(found.lengths, vault.lengths)
            for mine, theirs in zip(found, vault, strict=True):
                assert mine.record == theirs.record
                assert mine.prediction == theirs.prediction
                for name in NAMES:
                    ours, other = getattr(mine, name), getattr(theirs, name)
                    assert np.array_equal(ours[:, :], other[:, :])
                    assert np.array_equal(ours.codes(), other.codes())
                    assert (ours.precision, ours.max_error) == (other.precision, other.max_error)


def test_all_else_works_over_hdf5(vault: qkvault.Vault, exported: Path, tmp_path: Path) -> None:
    with qkvault.open(exported) as found:
        assert found.by_id("r00007").index == 7
        assert found[-1].attention[4, 3, 2, 1] == vault[-1].attention[4, 3, 2, 1]
        assert found.select(label=1, min_length=10).indices.tolist() == [1, 3, 7]
        assert (
            found.table.rows(where={"correct": True}).total == vault.select(correct=True).__len__()
        )
        for mine, theirs in zip(found.scan(4, 3), vault.scan(4, 3), strict=True):
            assert mine.index == theirs.index
            assert np.array_equal(mine.key, theirs.key)
        again = qkvault.copy(found, tmp_path / "again", layers=[4])
        assert np.array_equal(again[7].attention[4], vault[7].attention[4])
        assert found.info()["examples"] == len(vault)
        with pytest.raises(OutOfRange, match="layer 2"):
            _ = found[0].attention[2]


def test_hdf5_of_a_part(vault: qkvault.Vault, tmp_path: Path) -> None:
    path = qkvault.export(
        vault, tmp_path / "part.hdf5", examples=["r00007", "r00001"], layers=[9], heads=[3, 1]
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.hdf5"]
    with qkvault.open(path) as found:
        assert [example.id for example in found] == ["r00007", "r00001"]
        for name, heads in (("attention", [3, 1]), ("query", [3, 1]), ("value", [1, 0])):
            expected = getattr(vault[7], name)[[9], heads]
            assert np.array_equal(getattr(found[0], name)[:, :], expected)
        qkvault.export(found, tmp_path / "again.h5", arrays=["key"])
    with qkvault.open(tmp_path / "again.h5") as again:
        assert again.spec.arrays == ("key",)


def test_hdf5_explains_itself(vault: qkvault.Vault, exported: Path) -> None:
    example = vault[7]
    with h5py.File(exported) as file:
        place = file["examples/place"][7]
        group = file[f"b{place[0]:04d}"]
        attention = group["encoder/attention"]
        assert [dim.label for dim in attention.dims] == [
            "example",
            "layer",
            "head",
            "query_token",
            "key_token",
        ]
        assert attention.attrs["rule"] == "value = code * scale"
        row, tokens = place[1], place[2]
        codes = attention[row, 1, 3, :tokens, :tokens]
        weights = codes * np.float32(attention.attrs["scale"])
        assert np.array_equal(weights, example.attention[4, 3])
        assert attention.attrs["layers"].tolist() == [1, 4, 9]
        assert file["examples/id"].asstr()[7] == example.id
        start, stop = file["examples/offset"][7:9]
        record = json.loads(file["examples/records"][start:stop].tobytes())
        assert record["tokens"] == list(example.tokens)
        assert list(group["logits"].attrs["label_names"]) == ["different", "same"]
        assert file.attrs["format"] == f"qkvault {qkvault.FORMAT_VERSION}"
        assert json.loads(file.attrs["provenance"])["model"] == "random"
        checked: list[bool] = []
        file.visititems(lambda _, node: checked.append(getattr(node, "fletcher32", True)))
        assert sum(not check for check in checked) == 1  # the ids, which only people read


def test_a_flipped_byte_is_never_shown(exported: Path, tmp_path: Path) -> None:
    data = exported.read_bytes()
    random = np.random.default_rng(0)
    with qkvault.open(exported) as vault:
        expected = [[getattr(e, name)[:, :] for name in NAMES] for e in vault]
        records = [e.record for e in vault]
    refused = 0
    for attempt in range(60):
        damaged = bytearray(data)
        damaged[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        path = tmp_path / f"{attempt}.h5"
        path.write_bytes(damaged)
        try:
            with qkvault.open(path) as vault:
                for index, example in enumerate(vault):
                    assert example.record == records[index]
                    for name, values in zip(NAMES, expected[index], strict=True):
                        assert np.array_equal(getattr(example, name)[:, :], values)
        except VaultError:
            refused += 1
        path.unlink()
    assert refused > 30


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, -1])
def test_a_file_cut_short_is_refused(exported: Path, tmp_path: Path, keep: int) -> None:
    (tmp_path / "cut.h5").write_bytes(exported.read_bytes()[:keep])
    with pytest.raises(VaultError, match=r"cut\.h5"), qkvault.open(tmp_path / "cut.h5") as vault:
        _ = [example.attention[:, :] for example in vault]


def _chunk_missing(file: h5py.File) -> None:
    old = file["b0016/encoder/query"]
    shape, kind, chunks, values = old.shape, old.dtype, old.chunks, old[:]
    del file["b0016/encoder/query"]
    new = file.create_dataset("b0016/encoder/query", shape, kind, chunks=chunks, fletcher32=True)
    new[:, :, 1:] = values[:, :, 1:]


def _soft_link(file: h5py.File) -> None:
    file.move("b0016/encoder/key", "elsewhere")
    file["b0016/encoder/key"] = h5py.SoftLink("/elsewhere")


def _external_link(file: h5py.File) -> None:
    del file["b0016/encoder"]
    file["b0016/encoder"] = h5py.ExternalLink("/etc/passwd", "/")


def _external_data(file: h5py.File) -> None:
    old = file["b0016/encoder/key"]
    shape, kind = old.shape, old.dtype
    size = old.size * old.dtype.itemsize
    del file["b0016/encoder/key"]
    outside = [("/etc/passwd", 0, size)]
    file.create_dataset("b0016/encoder/key", shape, kind, external=outside)


def _virtual_data(file: h5py.File) -> None:
    shape, kind = file["b0016/encoder/key"].shape, file["b0016/encoder/key"].dtype
    layout = h5py.VirtualLayout(shape, kind)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape)
    del file["b0016/encoder/key"]
    file.create_virtual_dataset("b0016/encoder/key", layout)


def _no_checksum(file: h5py.File) -> None:
    values = file["b0016/encoder/key"][:]
    del file["b0016/encoder/key"]
    file.create_dataset("b0016/encoder/key", data=values, chunks=values.shape)


def _other_shape(file: h5py.File) -> None:
    values = file["b0016/encoder/key"][:, :, :, :-1]
    del file["b0016/encoder/key"]
    file.create_dataset("b0016/encoder/key", data=values, chunks=values.shape, fletcher32=True)


def _group_instead(file: h5py.File) -> None:
    del file["b0016/encoder/key"]
    file.create_group("b0016/encoder/key")


def _huge(file: h5py.File) -> None:
    del file["b0016/encoder/key"]
    file.create_dataset(
        "b0016/encoder/key", (1 << 40,) * 5, "f2", chunks=(1, 1, 1, 1, 1 << 10), fletcher32=True
    )


def _plan_gone(file: h5py.File) -> None:
    del file["plan"]


def _huge_plan(file: h5py.File) -> None:
    del file["plan"]
    file.create_dataset("plan", (1 << 40,), "u1", chunks=(1 << 20,), fletcher32=True)


HOSTILE = [_chunk_missing, _soft_link, _external_link, _external_data, _virtual_data, _no_checksum]
HOSTILE += [_other_shape, _group_instead, _huge, _plan_gone, _huge_plan]


@pytest.mark.parametrize("harm", HOSTILE)
def test_a_hostile_file_is_refused(exported: Path, tmp_path: Path, harm) -> None:
    path = tmp_path / "hostile.h5"
    path.write_bytes(exported.read_bytes())
    with h5py.File(path, "r+") as file:
        harm(file)
    with pytest.raises(VaultError), qkvault.open(path) as vault:
        _ = [(example.query[:, :], example.key[:, :]) for example in vault]


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no vault")
    with pytest.raises(VaultError, match=r"notes\.txt is not a vault"):
        qkvault.open(tmp_path / "notes.txt")


def test_threads_share_an_export(vault: qkvault.Vault, exported: Path) -> None:
    wrong: list[int] = []
    with qkvault.open(exported) as found:

        def read() -> None:
            for index in range(len(vault)):
                if not np.array_equal(found[index].value[:, :], vault[index].value[:, :]):
                    wrong.append(index)

        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_reads_an_export(exported: Path) -> None:
    with qkvault.open(exported) as vault:
        expected = vault[3].attention[1, 0].sum()
        child = os.fork()
        if child == 0:
            os._exit(0 if vault[3].attention[1, 0].sum() == expected else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert vault[3].attention[1, 0].sum() == expected


def test_npz_holds_each_example(vault: qkvault.Vault, tmp_path: Path) -> None:
    path = qkvault.export(
        vault, tmp_path / "part.npz", examples=[7, 1], layers=[9, 4], heads=[3], arrays=NAMES
    )
    with np.load(path, allow_pickle=False) as archive:
        assert archive["examples"].tolist() == [7, 1]
        assert archive["ids"].tolist() == ["r00007", "r00001"]
        assert archive["layers"].tolist() == [9, 4]
        assert archive["heads"].tolist() == [3]
        for index in (7, 1):
            example = vault[index]
            for name in ("attention", "query", "thumbnail"):
                expected = getattr(example, name)[[9, 4], [3]]
                assert np.array_equal(archive[f"{index}/{name}"], expected)
            assert np.array_equal(archive[f"{index}/key"], example.key[[9, 4], [1]])
            assert archive[f"{index}/tokens"].tolist() == list(example.tokens)
            assert archive[f"{index}/text"].tolist() == list(example.text)
            assert np.array_equal(archive[f"{index}/logits"], example.logits)
        about = json.loads(str(archive["about"]))
    assert about["max_error"]["attention"] == 7.7e-6
    assert about["axes"]["attention"] == ["layer", "head", "query_token", "key_token"]


def test_npz_of_everything(vault: qkvault.Vault, tmp_path: Path) -> None:
    shares = []
    path = qkvault.export(vault, tmp_path / "all.npz", progress=lambda *share: shares.append(share))
    with np.load(path) as archive:
        assert np.array_equal(archive["10/attention"], vault[10].attention[:, :])
        assert "10/thumbnail" not in archive
    assert shares == [(0, 12), (12, 12)]


def test_csv_has_a_weight_per_line(vault: qkvault.Vault, tmp_path: Path) -> None:
    path = qkvault.export(vault, tmp_path / "a.csv", examples=[0, 4], layers=[4], heads=[1, 2])
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (3 * 3 + 9 * 9)
    for line in lines:
        example = vault[int(line["example"])]
        assert line["id"] == example.id
        query, key = int(line["query"]), int(line["key"])
        assert line["query_text"] == example.tokens[query]
        assert line["key_text"] == example.tokens[key]
        weight = example.attention[int(line["layer"]), int(line["head"]), query, key]
        assert np.float32(line["weight"]) == weight


def test_csv_has_a_vector_per_line(vault: qkvault.Vault, tmp_path: Path) -> None:
    path = qkvault.export(
        vault, tmp_path / "k.csv", examples=[4], layers=[4], heads=[3], arrays=["key"]
    )
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == [
        *("example", "id", "layer", "head", "token", "token_text"),
        *(f"key_{place}" for place in range(8)),
    ]
    found = np.array([line[6:] for line in lines[1:]], np.float32)
    assert np.array_equal(found, vault[4].key[4, 1])


@pytest.mark.parametrize(
    ("name", "options", "error", "match"),
    [
        ("a.txt", {}, InputError, "no known format"),
        ("a", {}, InputError, "no known format"),
        ("no/folder.h5", {}, InputError, "is not a folder"),
        ("taken.npz", {}, InputError, "already exists"),
        ("a.csv", {"arrays": ["query", "key"]}, InputError, "holds one of"),
        ("a.csv", {"arrays": ["thumbnail"]}, InputError, "holds one of"),
        ("a.npz", {"arrays": ["keys"]}, InputError, "arrays are some of"),
        ("a.npz", {"layers": [2]}, OutOfRange, "layer 2"),
        ("a.h5", {"heads": [4]}, OutOfRange, "head 4"),
        ("a.h5", {"examples": []}, InputError, "nothing to keep"),
        ("a.h5", {"arrays": ["thumbnail"]}, InputError, "arrays are some of"),
    ],
)
def test_what_cannot_be_exported(
    vault: qkvault.Vault, tmp_path: Path, name: str, options, error, match: str
) -> None:
    (tmp_path / "taken.npz").write_text("mine")
    with pytest.raises(error, match=match):
        qkvault.export(vault, tmp_path / name, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.npz"]


def test_an_array_that_was_not_kept(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", arrays=("query", "key"))
    for name in ("a.csv", "a.npz", "a.h5"):
        with pytest.raises(MissingArray, match="attention was not kept"):
            qkvault.export(path, tmp_path / name, arrays=["attention"])
    with pytest.raises(MissingArray, match="attention was not kept"):
        qkvault.export(path, tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.h5", "a.npz", "a.csv"])
def test_a_disk_that_refuses_leaves_nothing(
    vault: qkvault.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ResourceError, match="No space left"):
        qkvault.export(vault, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_verified(exported: Path) -> None:
    for full in (False, True):
        shares: list[tuple[int, int]] = []
        report = qkvault.verify(
            exported, full=full, progress=lambda *share, seen=shares: seen.append(share)
        )
        assert report.ok
        assert report.full is full
        assert report.bytes == exported.stat().st_size
        assert shares[0][0] == 0
        assert shares[-1][0] == shares[-1][1]
    with pytest.raises(InputError, match="is an export"):
        qkvault.verify(exported, derive=True)


@pytest.mark.parametrize(
    "harm", [harm for harm in HOSTILE if harm not in (_plan_gone, _huge_plan, _external_link)]
)
def test_verify_finds_what_is_wrong_with_an_export(exported: Path, tmp_path: Path, harm) -> None:
    path = tmp_path / "harmed.h5"
    path.write_bytes(exported.read_bytes())
    with h5py.File(path, "r+") as file:
        harm(file)
    report = qkvault.verify(path)
    assert not report.ok
    assert {damage.path for damage in report.damages} <= {
        "b0016/encoder/key",
        "b0016/encoder/query",
    }
    assert report.damages[0].examples == (4, 5, 6)


def test_a_full_verify_reads_every_chunk(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "harmed.h5"
    with h5py.File(exported) as file:
        at = file["b0024/encoder/value"].id.get_chunk_info(0).byte_offset
    data = bytearray(exported.read_bytes())
    data[at + 20] ^= 1
    path.write_bytes(data)
    assert qkvault.verify(path).ok
    report = qkvault.verify(path, full=True)
    assert [damage.path for damage in report.damages] == ["b0024/encoder/value"]
