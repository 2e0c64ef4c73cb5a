"""Copies of vaults: parts, at the same or a lower precision, equal number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault.copying import copy
from qkvault.errors import (
    InputError,
    MissingArray,
    OutOfRange,
    PlanMismatch,
    UnknownExample,
    VaultError,
)
from qkvault.precision import MAX_ERROR
from vaults import make_vault

LENGTHS = [3, 30, 17, 17, 9, 9, 9, 70, 24, 5, 130, 8]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = tmp_path_factory.mktemp("copy") / "v.vault"
    return qkvault.open(make_vault(path, lengths=LENGTHS, layers=(1, 4, 9)))


def _same(found: qkvault.Example, example: qkvault.Example, layers, heads, key_heads) -> None:
    assert found.record == example.record
    assert np.array_equal(found.logits, example.logits)
    for name in ("attention", "query", "thumbnail"):
        view = getattr(example, name)[layers, heads]
        assert np.array_equal(getattr(found, name)[:, :], view)
    for name in ("key", "value"):
        view = getattr(example, name)[layers, key_heads]
        assert np.array_equal(getattr(found, name)[:, :], view)


@pytest.mark.parametrize("compress", [True, False])
def test_a_whole_copy_is_equal(vault: qkvault.Vault, tmp_path: Path, compress: bool) -> None:
    shares = []
    made = copy(
        vault, tmp_path / "c", compress=compress, progress=lambda *share: shares.append(share)
    )
    assert len(made) == len(vault)
    assert made.spec.stacks == vault.spec.stacks
    every = slice(None)
    for found, example in zip(made, vault, strict=True):
        _same(found, example, every, every, every)
        assert np.array_equal(found.attention.codes(), example.attention.codes())
    assert shares[0] == (0, len(shares) - 1)
    assert shares[-1] == (len(shares) - 1,) * 2
    assert made.digest != vault.digest


def test_some_examples_in_an_order_of_their_own(vault: qkvault.Vault, tmp_path: Path) -> None:
    made = copy(vault.path, tmp_path / "c", examples=[10, 6, 4, -1, 0])
    assert [example.id for example in made] == ["r00010", "r00006", "r00004", "r00011", "r00000"]
    every = slice(None)
    for found, index in zip(made, [10, 6, 4, 11, 0], strict=True):
        _same(found, vault[index], every, every, every)
    assert made.by_id("r00004").index == 2


def test_a_selection(vault: qkvault.Vault, tmp_path: Path) -> None:
    made = copy(vault, tmp_path / "c", examples=vault.select(label=1))
    assert {example.label for example in made} == {1}
    assert made.table.rows(where={"label": 0}).total == 0


@pytest.mark.parametrize(
    ("heads", "key_heads"),
    [
        ([3], [1]),
        ([0, 1], [0]),
        ([0, 2], [0, 1]),
        ([2, 3, 0, 1], [1, 0]),
        ([0, 1, 2], [0, 0, 1]),
        ([0, 2, 1], [0, 1, 0]),
        ([-1, 1], [1, 0]),
    ],
)
def test_some_layers_and_heads(
    vault: qkvault.Vault, tmp_path: Path, heads: list[int], key_heads: list[int]
) -> None:
    made = copy(vault, tmp_path / "c", layers=[9, 1], heads=heads)
    assert made.spec.stacks[0].layers == (1, 9)
    assert made.spec.stacks[0].heads == len(heads)
    assert made.spec.stacks[0].key_heads == len(key_heads)
    for found, example in zip(made, vault, strict=True):
        _same(found, example, [1, 9], heads, key_heads)
        for place, head in enumerate(heads):
            ours = found.key[9, found.key_head(place)]
            assert np.array_equal(ours, example.key[9, example.key_head(head)])
    assert made.spec.provenance["copy"]["heads"] == {"encoder": [head % 4 for head in heads]}


def test_some_arrays(vault: qkvault.Vault, tmp_path: Path) -> None:
    made = copy(vault, tmp_path / "c", arrays=["key", "query"])
    assert made.spec.arrays == ("query", "key")
    assert np.array_equal(made[1].query[4], vault[1].query[4])
    with pytest.raises(MissingArray, match="attention was not kept"):
        _ = made[0].attention
    with pytest.raises(MissingArray, match="value was not kept"):
        copy(made, tmp_path / "d", arrays=["value"])


@pytest.mark.parametrize("source", qkvault.PRECISIONS)
@pytest.mark.parametrize("target", qkvault.PRECISIONS)
def test_precision_may_only_fall(
    tmp_path: Path, source: qkvault.Precision, target: qkvault.Precision
) -> None:
    vault = qkvault.open(make_vault(tmp_path / "v", lengths=[5, 7, 20, 70], precision=source))
    if MAX_ERROR[target] < MAX_ERROR[source]:
        with pytest.raises(InputError, match="cannot be regained"):
            copy(vault, tmp_path / "c", precision=target)
        assert not (tmp_path / "c").exists()
        return
    made = copy(vault, tmp_path / "c", precision=target)
    bound = made.spec.provenance["copy"]["max_error"]
    for found, example in zip(made, vault, strict=True):
        error = np.abs(found.attention[:, :] - example.attention[:, :]).max()
        assert error <= MAX_ERROR[target]
        assert error <= bound <= MAX_ERROR[source] + MAX_ERROR[target]
        half = example.value[:, :].astype(found.value.precision)
        assert np.array_equal(found.value[:, :], half)
        thumbnails = found.thumbnail, example.thumbnail
        if example.length > 64:
            assert np.array_equal(*(thumbnail[:, :] for thumbnail in thumbnails))
        both = sum(thumbnail.max_error for thumbnail in thumbnails)
        assert np.abs(found.thumbnail[:, :] - example.thumbnail[:, :]).max() <= both
        assert found.attention.precision == target


def test_a_copy_goes_on_where_it_stopped(
    vault: qkvault.Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(vault, tmp_path / "c", layers=[4], progress=stop)
    assert qkvault.vault_state(tmp_path / "c") == "unfinished"
    with pytest.raises(PlanMismatch, match="copy"):
        copy(vault, tmp_path / "c", layers=[1])
    shares = []
    made = copy(vault, tmp_path / "c", layers=[4], progress=lambda *share: shares.append(share))
    assert shares[0][0] == 2
    assert np.array_equal(made[10].attention[4], vault[10].attention[4])
    whole = copy(vault, tmp_path / "d", layers=[4])
    assert whole.digest == made.digest


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"examples": []}, InputError, "nothing to keep"),
        ({"examples": [1, 1]}, InputError, "chosen twice"),
        ({"examples": [12]}, OutOfRange, "example 12"),
        ({"examples": ["x"]}, UnknownExample, "'x'"),
        ({"layers": [2]}, OutOfRange, "layer 2"),
        ({"layers": [1, 2]}, OutOfRange, "layer 2"),
        ({"layers": [1, 1]}, InputError, "each layer may be chosen once"),
        ({"layers": []}, InputError, "one at least"),
        ({"heads": [4]}, OutOfRange, "head 4"),
        ({"heads": [0, -4]}, InputError, "each head may be chosen once"),
        ({"arrays": []}, InputError, "arrays are some of"),
        ({"arrays": ["keys"]}, InputError, "arrays are some of"),
        ({"precision": "int4"}, InputError, "precision is one of"),
    ],
)
def test_what_cannot_be_copied(vault: qkvault.Vault, tmp_path: Path, options, error, match) -> None:
    with pytest.raises(error, match=match):
        copy(vault, tmp_path / "c", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_path_is_refused(vault: qkvault.Vault, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="not a vault"):
        copy(vault, tmp_path / "file")
    with pytest.raises(InputError, match="already holds a vault"):
        copy(vault, vault.path)


def test_a_damaged_source_is_not_copied(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v")
    shard = next((path / "b0024" / "encoder" / "attention").glob("c.*"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 4
    shard.write_bytes(data)
    with pytest.raises(VaultError, match="damaged"):
        copy(path, tmp_path / "c")
    assert qkvault.vault_state(tmp_path / "c") == "unfinished"
