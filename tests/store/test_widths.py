"""Layers of several widths in one stack: what is beyond a layer's own is never served or used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import make_golden
import qkvault
from qkvault import InputError, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

WIDTHS = {1: (4, 3), 3: (2, 3), 4: (4, 1)}
"""Of the golden vault's layers: of queries and keys, and of values."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_golden.write("widths", tmp_path_factory.mktemp("widths") / "widths.vault")


@pytest.fixture(scope="module")
def vault(path: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(path) as opened:
        yield opened


@pytest.mark.parametrize("layer", WIDTHS)
def test_a_layer_has_its_own_width(vault: qkvault.Vault, layer: int) -> None:
    example = vault[0]
    own, of_values = WIDTHS[layer]
    for array, width in ((example.query, own), (example.key, own), (example.value, of_values)):
        assert array[layer].shape[-1] == array[layer, 1].shape[-1] == array.width_of(layer) == width
        assert array[layer, 0, 2].shape == (width,)
        assert np.isfinite(array[layer]).all()
        assert array.codes(layer, 0).shape[-1] == width + (array.precision == "int16")
    assert example.attention.width_of(layer) == example.length


def test_layers_of_several_widths_have_no_number_where_they_have_no_dimension(
    vault: qkvault.Vault,
) -> None:
    found = vault[0].query[:, 0]
    assert found.shape == (3, 9, 4)
    assert np.isnan(found[1, :, 2:]).all()
    assert np.isfinite(found[[0, 2]]).all()
    assert np.isfinite(found[1, :, :2]).all()
    assert np.isfinite(vault[0].query[[1, 4]]).all()
    with pytest.raises(InputError, match="of several widths"):
        vault[0].value.codes()
    with pytest.raises(OutOfRange):
        vault[0].query.width_of(2)


def test_scans_and_datasets_have_them_alike(vault: qkvault.Vault) -> None:
    example = vault[1]
    items = list(vault.scan(None, 2, arrays=("query", "value")))
    (item,) = [item for item in items if item.index == 1]
    np.testing.assert_array_equal(item.query, example.query[:, 2])
    np.testing.assert_array_equal(item.value, example.value[:, 1])
    for narrow in vault.scan(3, None, arrays=("query",)):
        assert narrow.query.shape == (4, narrow.length, 2)
        assert np.isfinite(narrow.query).all()


def poisoned(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same vault, with large numbers beyond the widths of layers."""
    made = make_golden.make_arrays

    def spoil(stack: Any, *rest: Any) -> dict[str, NDArray[Any]]:
        arrays = made(stack, *rest)
        for name in ("query", "key"):
            for layer, width in zip(arrays[name], stack.widths_of(name), strict=True):
                layer[..., width:] = 100.0
        return arrays

    monkeypatch.setattr(make_golden, "make_arrays", spoil)
    return make_golden.write("widths", path)


def test_what_lies_beyond_is_found_and_not_used(
    vault: qkvault.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = poisoned(tmp_path / "v", monkeypatch)
    with qkvault.open(path) as other:
        for one, same in zip(vault, other, strict=True):
            assert np.array_equal(one.query[3], same.query[3])
            assert np.array_equal(one.derive(), same.derive())
            assert np.array_equal(one.scores(3, 1), same.scores(3, 1))
    report = qkvault.verify(path, full=True)
    assert {damage.path.split("/")[2] for damage in report.damages} == {"query", "key"}
    for damage in report.damages:
        assert "beyond its layer's width" in damage.reason


def test_derived_attention_is_scanned_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, lengths, compress = make_golden.VAULTS["widths"]
    derived = replace(spec, arrays=("query", "key"), vectors={}, attention="derived")
    monkeypatch.setitem(make_golden.VAULTS, "widths", (derived, lengths, compress))
    with qkvault.open(poisoned(tmp_path / "v", monkeypatch)) as vault:
        for item in vault.scan(None, None, arrays=("attention",)):
            np.testing.assert_allclose(item.attention, vault[item.index].attention[:], atol=2e-6)
            assert item.attention[1, 0, -1].max() < 0.99, "no 100 times 100 had its say"


def test_attention_follows_from_them(path: Path) -> None:
    report = qkvault.verify(path, full=True, derive=True)
    assert report.ok, report.damages
    assert report.derived is not None
    assert report.derived < 1e-2


def test_hdf5_tells_of_them(vault: qkvault.Vault, path: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    qkvault.export(path, tmp_path / "v.h5")
    with h5py.File(tmp_path / "v.h5") as file:
        datasets = {name: file[f"b0008/decoder/{name}"] for name in ("query", "key", "value")}
        found = {name: dataset.attrs["widths"].tolist() for name, dataset in datasets.items()}
        assert found == {"query": [4, 2, 4], "key": [4, 2, 4], "value": [3, 3, 1]}
        assert "widths" not in file["b0008/decoder/attention"].attrs
    with qkvault.open(tmp_path / "v.h5") as exported:
        assert np.array_equal(exported[0].query[3], vault[0].query[3])


@pytest.mark.parametrize("layers", [[1], [3], [4], [1, 3], [3, 4]])
def test_copies_keep_the_widths(
    vault: qkvault.Vault, path: Path, tmp_path: Path, layers: list[int]
) -> None:
    qkvault.copy(path, tmp_path / "copy", layers=layers)
    with qkvault.open(tmp_path / "copy") as copy:
        stack, kept = copy.spec.stacks[0], [WIDTHS[layer] for layer in layers]
        assert stack.widths == (tuple(kept) if len(layers) > 1 else ())
        assert (stack.head_dim, stack.value_dim) == tuple(map(max, zip(*kept, strict=True)))
        for one, same in zip(vault, copy, strict=True):
            for name in ("query", "key", "value"):
                found = getattr(same, name)[layers]
                np.testing.assert_array_equal(found, getattr(one, name)[layers])
                assert getattr(same, name).shape == found.shape
            assert np.array_equal(one.derive(layers), same.derive(layers))
    assert qkvault.verify(tmp_path / "copy", full=True).ok
