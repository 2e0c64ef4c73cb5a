"""Thumbnails that are read off the attention, since it is no larger than they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import qkvault
from qkvault import Lengths, VaultError
from qkvault.chunks import array_paths, is_implied
from qkvault.implied import recode
from vaults import make_vault

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = [5, 64, 65, 9, 130]


@pytest.fixture(params=qkvault.PRECISIONS)
def vault(tmp_path: Path, request: pytest.FixtureRequest) -> qkvault.Vault:
    return qkvault.open(make_vault(tmp_path / "v", lengths=LENGTHS, precision=request.param))


def thumbnails_of(vault: qkvault.Vault) -> list[Any]:
    return [qkvault.make_thumbnail(example.attention[:, :]) for example in vault]


def test_they_stand_in_no_file_up_to_64_tokens(vault: qkvault.Vault) -> None:
    names = {bucket.length: bucket for bucket in vault.store.plan.buckets}
    assert sorted(names) == [8, 16, 64, 72, 144]
    for length in names:
        there = (vault.path / f"b{length:04d}" / "encoder" / "thumbnail").exists()
        assert there == (length > 64)
    assert qkvault.verify(vault.path, full=True).ok


def test_they_are_read_as_if_they_did(vault: qkvault.Vault) -> None:
    exact = vault.spec.precision == "float32"
    for example, expected in zip(vault, thumbnails_of(vault), strict=True):
        found = example.thumbnail
        assert found.shape == expected.shape
        assert (found.precision, found.dtype) == ("uint8", np.dtype(np.float32))
        if exact or example.length <= 64:
            np.testing.assert_array_equal(found.codes(), expected)
        np.testing.assert_allclose(found[1, 2], (found.codes(1, 2) / 255.0) ** 2, rtol=1e-6)
        assert found.codes([1, 0], [3], (1, 4)).shape == (2, 1, 3, expected.shape[-1])


def test_a_scan_gives_them_too(vault: qkvault.Vault) -> None:
    for batch in vault.scan(1, 2, arrays=("thumbnail", "attention")).batches():
        if batch["attention"].shape[-1] <= 64:
            padding = np.isnan(batch["attention"])
            np.testing.assert_array_equal(np.isnan(batch["thumbnail"]), padding)
    for item in vault.scan(1, 2, arrays=("thumbnail",)):
        np.testing.assert_array_equal(item.thumbnail, vault[item.index].thumbnail[1, 2])


def test_copies_and_exports_have_them(vault: qkvault.Vault, tmp_path: Path) -> None:
    made = qkvault.copy(vault, tmp_path / "c", layers=[1], heads=[1, 3], examples=[4, 1, 0])
    qkvault.export(vault, tmp_path / "all.h5")
    exported = qkvault.open(tmp_path / "all.h5")
    for place, index in enumerate([4, 1, 0]):
        expected = vault[index].thumbnail.codes([1], [1, 3])
        np.testing.assert_array_equal(made[place].thumbnail.codes(), expected)
        np.testing.assert_array_equal(exported[index].thumbnail.codes([1], [1, 3]), expected)
    assert qkvault.verify(tmp_path / "all.h5", full=True).ok


def test_a_vault_of_format_1_is_copied_without_them(tmp_path: Path) -> None:
    from test_golden import GOLDEN

    with qkvault.open(GOLDEN / "v1.0" / "pair-uint16.vault") as old:
        assert old.spec.format == "1.0"
        made = qkvault.copy(old, tmp_path / "c")
        assert made.spec.format == qkvault.FORMAT_VERSION
        assert not list((tmp_path / "c").glob("b*/encoder/thumbnail"))
        for one, other in zip(old, made, strict=True):
            distance = one.thumbnail.codes().astype(int) - other.thumbnail.codes()
            assert np.abs(distance).max() <= 1


def test_damage_to_the_attention_is_damage_to_them(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", lengths=[5, 6])
    (path / "b0008" / "encoder" / "attention" / "c.0.0.0.0.0").unlink()
    with pytest.raises(VaultError, match="attention"):
        qkvault.open(path)[0].thumbnail[1]


def test_which_are_stored_goes_by_the_longer_side(tmp_path: Path) -> None:
    spec = qkvault.open(make_vault(tmp_path / "v", lengths=[3])).spec
    for sides, stored in (((64,), False), ((72,), True)):
        assert ("encoder/thumbnail" in array_paths(spec, Lengths(*sides))) == stored
    assert not is_implied(spec, "encoder/attention", Lengths(8))


@pytest.mark.parametrize("precision", qkvault.PRECISIONS)
def test_every_code_is_recoded_as_its_weight_would_be(precision: qkvault.Precision) -> None:
    weights = np.linspace(0.0, 1.0, 1009, dtype=np.float32)
    codes = qkvault.encode_attention(weights, precision)
    expected = qkvault.encode_attention(qkvault.decode_attention(codes, precision), "uint8")
    np.testing.assert_array_equal(recode(codes), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_no_weight_has_the_code_of_none(dtype: str) -> None:
    assert recode(np.array([np.nan, np.inf, -1.0, 0.25], dtype)).tolist() == [0, 0, 0, 128]
