"""Examples as xarray datasets, and vaults as datasets for torch's loader."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault.errors import InputError, MissingArray, OutOfRange, ResourceError, VaultError
from vaults import make_vault

LENGTHS = [5, 30, 17, 17, 9, 70, 8]


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = tmp_path_factory.mktemp("interop") / "v.vault"
    return qkvault.open(make_vault(path, lengths=LENGTHS, layers=(1, 4, 9)))


def test_an_example_has_named_axes(vault: qkvault.Vault) -> None:
    pytest.importorskip("xarray")
    example = vault[1]
    data = example.to_xarray()
    assert set(data) == {"attention", "query", "key", "value", "logits"}
    assert data.attention.dims == ("layer", "head", "query_token", "key_token")
    assert data.key.dims == ("layer", "key_head", "key_token", "head_dim")
    assert data.value.dims == ("layer", "key_head", "key_token", "value_dim")
    assert np.array_equal(data.attention.sel(layer=4, head=3), example.attention[4, 3])
    assert np.array_equal(data.key.sel(layer=9, key_head=1), example.key[9, 1])
    assert data.query_text.values.tolist() == list(example.tokens)
    assert data.key_segment.values.tolist() == example.segments.tolist()
    assert data.key_head_used.values.tolist() == [0, 0, 1, 1]
    assert data["class"].values.tolist() == ["different", "same"]
    assert np.array_equal(data.logits, example.logits)
    assert data.attention.dtype == np.float32
    assert data.attention.attrs["max_error"] == 7.7e-6
    assert data.attrs["id"] == "r00001"
    assert data.attrs["label"] == 1


def test_some_layers_heads_and_arrays(vault: qkvault.Vault) -> None:
    pytest.importorskip("xarray")
    data = vault[2].to_xarray(layers=[9], heads=[3], arrays=["key", "thumbnail"])
    assert set(data) == {"key", "thumbnail", "logits"}
    assert data.layer.values.tolist() == [9]
    assert data.key_head.values.tolist() == [1]
    assert np.array_equal(data.key[0, 0], vault[2].key[9, 1])
    assert "query_token" not in data.coords
    with pytest.raises(OutOfRange, match="layer 2"):
        vault[2].to_xarray(layers=[2])
    with pytest.raises(InputError, match="keeps encoder"):
        vault[2].to_xarray(stack="decoder")


def test_xarray_that_is_not_installed(
    vault: qkvault.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ResourceError, match="interop"):
        vault[0].to_xarray()


def test_samples_are_the_examples(vault: qkvault.Vault) -> None:
    samples = vault.to_torch(4, 3, arrays=("attention", "query", "key"), select=[5, 0, -1])
    assert len(samples) == 3
    for place, index in enumerate([5, 0, 6]):
        sample, example = samples[place], vault[index]
        assert (sample["index"], sample["length"]) == (index, example.length)
        assert sample["label"] == example.label
        assert np.array_equal(sample["attention"], example.attention[4, 3])
        assert np.array_equal(sample["key"], example.key[4, 1])
        assert sample["query"].base is None
    assert samples[-1]["index"] == 6
    assert [sample["index"] for sample in samples.__getitems__([2, 0, 2])] == [6, 5, 6]
    with pytest.raises(OutOfRange, match="sample 3 was asked for; there are 3"):
        samples[3]


def test_collating_pads_and_masks(vault: qkvault.Vault) -> None:
    samples = vault.to_torch(None, [0, 3], arrays=("attention", "value"))
    batch = samples.collate([samples[0], samples[2]])
    attention = np.asarray(batch["attention"])
    assert attention.shape == (2, 3, 2, 17, 17)
    assert np.asarray(batch["value"]).shape == (2, 3, 2, 17, 8)
    assert np.array_equal(attention[0, :, :, :5, :5], vault[0].attention[:, [0, 3]])
    assert np.isnan(attention[0, :, :, 5:]).all()
    assert np.isnan(attention[0, :, :, :, 5:]).all()
    assert np.asarray(batch["mask"]).sum(axis=1).tolist() == [5, 17]
    assert np.asarray(batch["label"]).tolist() == [0, 0]
    zeros = vault.to_torch(1, 0, padding=0.0)
    assert not np.isnan(np.asarray(zeros.collate([zeros[0], zeros[1]])["query"])).any()
    with pytest.raises(InputError, match="no samples"):
        samples.collate([])


def test_labels_that_are_no_numbers_stay_a_list(vault: qkvault.Vault) -> None:
    samples = vault.to_torch(1, 0)
    mixed = [{**samples[0], "label": "yes"}, {**samples[1], "label": None}]
    assert samples.collate(mixed)["label"] == ["yes", None]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loading_with_workers(vault: qkvault.Vault, method: str) -> None:
    data = pytest.importorskip("torch.utils.data")
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    samples = vault.to_torch(layer=4, head=0, arrays=("query",))
    loader = data.DataLoader(
        samples,
        batch_size=3,
        num_workers=1,
        collate_fn=samples.collate,
        multiprocessing_context=method,
    )
    seen = []
    for batch in loader:
        for row, index in enumerate(batch["index"].tolist()):
            length = int(batch["length"][row])
            found = batch["query"][row, :length].numpy()
            assert np.array_equal(found, vault[index].query[4, 0])
            seen.append(index)
    assert seen == list(range(len(LENGTHS)))


def test_the_loaders_own_collation_takes_equal_lengths(vault: qkvault.Vault) -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = data.DataLoader(vault.to_torch(1, 0, select=[2, 3]), batch_size=2)
    (batch,) = loader
    assert tuple(batch["query"].shape) == (2, 17, 8)


def test_samples_travel_as_a_path(vault: qkvault.Vault, tmp_path: Path) -> None:
    samples = vault.to_torch(4, 0)
    packed = pickle.dumps(samples)
    assert len(packed) < 2000
    again = pickle.loads(packed)
    assert np.array_equal(again[1]["query"], samples[1]["query"])
    path = make_vault(tmp_path / "v", seed=1)
    with qkvault.open(path) as other:
        packed = pickle.dumps(other.to_torch(0, 0))
    path.rename(tmp_path / "old")
    make_vault(path, seed=2)
    with pytest.raises(VaultError, match="another vault than it did"):
        pickle.loads(packed)[0]


def test_torch_is_not_loaded_by_the_store(vault: qkvault.Vault) -> None:
    code = (
        "import sys, qkvault\n"
        f"samples = qkvault.open({str(vault.path)!r}).to_torch(4, 0)\n"
        "batch = samples.collate([samples[0], samples[1]])\n"
        "assert type(batch['query']).__module__ == 'numpy'\n"
        "assert not {'torch', 'zarr', 'xarray'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": _store()})


def _store() -> str:
    return str(Path(qkvault.__file__).parents[1])


def test_what_was_not_kept_is_told_at_once(tmp_path: Path) -> None:
    vault = qkvault.open(make_vault(tmp_path / "v", arrays=("attention",)))
    with pytest.raises(MissingArray, match="query was not kept"):
        vault.to_torch()
    assert math.isfinite(vault.to_torch(arrays=["attention"])[0]["attention"].sum())
