"""Vaults written by earlier releases are read for ever, and the format does not drift unnoticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stranger import Stranger

import make_golden
import qkvault
from qkvault.copying import fill
from qkvault.parts import choose_part

GOLDEN = Path(__file__).parent.parent / "golden"
VAULTS = sorted(GOLDEN.glob("v*/*.vault"))


def test_every_feature_has_its_vault() -> None:
    for version in qkvault.READ_VERSIONS:
        found = {path.stem for path in VAULTS if path.parent.name == f"v{version}"}
        known = {name for name in make_golden.VAULTS if make_golden.SINCE.get(name, "") <= version}
        assert found == known, version


@pytest.mark.parametrize("path", VAULTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_vault_is_read_as_it_was_written(path: Path) -> None:
    expected = np.load(path.with_suffix(".npz"))
    found = make_golden.read(path)
    assert sorted(found) == sorted(expected)
    with qkvault.open(path) as vault:
        computed = {"attention"} if vault.spec.attention == "derived" else set()
    for name, values in found.items():
        if name in computed:
            np.testing.assert_allclose(values, expected[name], atol=2e-6)
        else:
            np.testing.assert_array_equal(values, expected[name], err_msg=name)
            assert values.dtype == expected[name].dtype
    assert qkvault.verify(path, full=True).ok


@pytest.mark.parametrize("path", VAULTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_stranger_reads_it_by_the_letter_of_the_format(path: Path) -> None:
    expected = np.load(path.with_suffix(".npz"))
    stranger = Stranger(path)
    examples = list(stranger.examples())
    for name in examples[0]:
        found = np.concatenate([example[name].ravel() for example in examples])
        computed = name == "attention" and stranger.spec["attention"] == "derived"
        atol = 2e-6 if computed else 0
        np.testing.assert_allclose(found, expected[name], rtol=2e-7, atol=atol, err_msg=name)
    for name in ("token_ids", "segments", "special", "words"):
        listed = [number for record in stranger.records for number in record[name]]
        np.testing.assert_array_equal(listed, expected[name])
    texts = json.loads(str(expected["documents"]))
    for record, document in zip(stranger.records, texts, strict=True):
        for name in ("id", "text", "tokens", "columns", "label"):
            assert record[name] == document[name]
        assert ("target" in record) == ("target" in document)


OLD = [path for path in VAULTS if path.parent.name == "v1.0"]


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_an_unfinished_vault_of_format_1_is_finished_in_it(path: Path, tmp_path: Path) -> None:
    begun = Path(shutil.copytree(path, tmp_path / "begun"))
    (begun / "manifest.json").unlink()
    max((begun / "commits").iterdir()).unlink()
    with qkvault.open(path) as source, qkvault.resume(begun) as writer:
        everything = choose_part(source, None, None, None, None)
        (unit,) = writer.pending()
        buffer = writer.begin(unit)
        assert any("thumbnail" in name for name in buffer.arrays)
        fill(buffer, everything, first=0)
        writer.commit(buffer)
        writer.finish()
    assert (begun / "plan.json").read_bytes() == (path / "plan.json").read_bytes()
    for name, values in make_golden.read(begun).items():
        np.testing.assert_array_equal(values, make_golden.read(path)[name], err_msg=name)
    assert qkvault.verify(begun, full=True).ok
    Stranger(begun)


def test_vaults_of_both_formats_are_joined(tmp_path: Path) -> None:
    parts = {"v1.0": [0, 1], "v2.0": [2, 3]}
    for version, examples in parts.items():
        source = GOLDEN / version / "encoder-decoder.vault"
        qkvault.copy(source, tmp_path / version, examples=examples)
    old = GOLDEN / "v1.0" / "encoder-decoder.vault"
    with qkvault.open(old) as vault, pytest.raises(qkvault.InputError, match="4 ids"):
        qkvault.append(vault, GOLDEN / "v2.0" / "encoder-decoder.vault", tmp_path / "twice")
    joined = qkvault.append(tmp_path / "v1.0", tmp_path / "v2.0", tmp_path / "joined")
    assert joined.spec.format == qkvault.FORMAT_VERSION
    assert qkvault.verify(tmp_path / "joined", full=True).ok
    expected = make_golden.read(old)
    for name, values in make_golden.read(tmp_path / "joined").items():
        if name.endswith("thumbnail"):  # coded anew from weights that were coded: one step at most
            steps = 255 * (np.sqrt(values) - np.sqrt(expected[name]))
            assert np.abs(steps).max() < 1.01
        else:
            np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("name", make_golden.VAULTS)
def test_writing_it_today_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    """But for digests of packed bytes, which may change with the compressor's release."""
    golden = GOLDEN / f"v{qkvault.FORMAT_VERSION}" / f"{name}.vault"
    today = make_golden.write(name, tmp_path / f"{name}.vault")
    files = {str(f.relative_to(golden)) for f in golden.rglob("*") if f.is_file()}
    assert {str(f.relative_to(today)) for f in today.rglob("*") if f.is_file()} == files
    for file in files:
        if file.endswith("zarr.json"):
            assert (today / file).read_bytes() == (golden / file).read_bytes(), file
    plans = [json.loads((path / "plan.json").read_bytes()) for path in (today, golden)]
    for plan in plans:
        del plan["hash"], plan["shards"]
    assert plans[0] == plans[1]
