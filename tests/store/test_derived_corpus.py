"""Scans, copies and exports of vaults that derive attention and keep head metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from derived_vaults import make_derived_vault

import qkvault
from qkvault import Mask, Recipe, RelativeBias, Sinks

RECIPES = (
    Recipe(Mask(causal=True), slopes=(0.5, 0.25, 0.125, 0.0625)),
    Recipe(Mask(window=3), softcap=5.0),
    Recipe(
        bias=RelativeBias((-2, 0, 1), ((0.1, 0.2, 0.3),) * 3 + ((1.0, 2.0, 3.0),)),
        sinks=Sinks((0.0, 1.0, 2.0, -1.0), "softmax"),
    ),
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = tmp_path_factory.mktemp("derived") / "v.vault"
    return qkvault.open(make_derived_vault(path, RECIPES, arrays=("query", "key", "value")))


@pytest.mark.parametrize(
    ("layer", "head"), [(4, 3), (None, None), (0, [2, 0]), ([4, 2], 1), (2, None)]
)
def test_scanning_derived_attention(vault: qkvault.Vault, layer, head) -> None:
    every = slice(None)
    index = (every if layer is None else layer, every if head is None else head)
    for item in vault.scan(layer, head, arrays=("attention", "thumbnail", "query")):
        example = vault[item.index]
        assert np.allclose(item.attention, example.attention[index], atol=1e-6)
        assert np.array_equal(item.thumbnail, example.thumbnail[index])
        assert np.array_equal(item.query, example.query[index])
    for batch in vault.scan(4, 3, arrays=["attention"]).batches():
        for row, length in enumerate(batch.lengths.tolist()):
            assert np.isnan(batch["attention"][row, length:]).all()


def test_samples_and_xarray_of_derived_attention(vault: qkvault.Vault) -> None:
    sample = vault.to_torch(2, 1, arrays=["attention"])[3]
    assert np.allclose(sample["attention"], vault[3].attention[2, 1], atol=1e-6)
    pytest.importorskip("xarray")
    data = vault[3].to_xarray(heads=[1])
    assert np.allclose(data.attention.sel(layer=2, head=1), vault[3].attention[2, 1], atol=1e-6)
    assert data.metrics.dims == ("layer", "head", "metric")
    entropy = data.metrics.sel(layer=2, head=1, metric="entropy")
    assert float(entropy) == vault[3].metrics["entropy"][1, 1]


@pytest.mark.parametrize("heads", [None, [3], [2, 3], [3, 0]])
def test_copies_derive_as_their_source(
    vault: qkvault.Vault, tmp_path: Path, heads: list[int] | None
) -> None:
    made = qkvault.copy(vault, tmp_path / "c", layers=[4, 0], heads=heads, examples=[3, 1, 0])
    picked = slice(None) if heads is None else heads
    for found, index in zip(made, [3, 1, 0], strict=True):
        example = vault[index]
        assert np.allclose(found.attention[:, :], example.attention[[0, 4], picked], atol=1e-6)
        assert np.array_equal(found.thumbnail[:, :], example.thumbnail[[0, 4], picked])
        metrics = example.metrics.array[[0, 2]][:, picked]
        assert np.array_equal(found.metrics.array, metrics, equal_nan=True)
    assert made.spec.attention == "derived"
    assert made.spec.derived_error == vault.spec.derived_error


def test_hdf5_derives_too(vault: qkvault.Vault, tmp_path: Path) -> None:
    path = qkvault.export(vault, tmp_path / "all.h5")
    with qkvault.open(path) as found:
        for mine, theirs in zip(found, vault, strict=True):
            assert np.array_equal(mine.attention[:, :], theirs.attention[:, :])
            assert np.array_equal(mine.metrics.array, theirs.metrics.array, equal_nan=True)
        assert np.array_equal(
            found.metrics("max", layer=2, head=0), vault.metrics("max", layer=2, head=0)
        )


def test_flat_exports_of_derived_attention(vault: qkvault.Vault, tmp_path: Path) -> None:
    path = qkvault.export(vault, tmp_path / "a.npz", arrays=["attention"], examples=[2])
    with np.load(path) as archive:
        assert np.allclose(archive["2/attention"], vault[2].attention[:, :], atol=1e-6)
    path = qkvault.export(vault, tmp_path / "a.csv", examples=[0], layers=[2], heads=[1])
    tokens = vault[0].length
    weights = np.genfromtxt(path, np.float32, delimiter=",", skip_header=1, usecols=8)
    expected = vault[0].attention[2, 1]
    assert np.allclose(weights.reshape(tokens, tokens), expected, atol=1e-6)


def test_the_table_sorts_by_metrics_of_the_vault(vault: qkvault.Vault) -> None:
    values = vault.metrics("entropy", layer=4, head=2)
    order = sorted(range(len(vault)), key=lambda n: values[n])
    assert vault.table.ids(sort="entropy[4,2]").tolist() == order
    high = vault.select(**{"entropy[4,2]": (float(values[order[3]]), None)})
    assert sorted(high.indices.tolist()) == sorted(order[3:])
    row = vault.table.rows(sort="entropy[4,2]", limit=1).rows[0]
    assert row["metrics"]["entropy[4,2]"] == values[order[0]]
    with pytest.raises(qkvault.OutOfRange, match="layer 3"):
        vault.table.rows(sort="entropy[3,2]")
