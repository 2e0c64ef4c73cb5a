"""Scanning heads across a vault, and selections: the same numbers as example by example."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault.errors import InputError, MissingArray, OutOfRange, UnknownExample, VaultError
from vaults import make_vault

LENGTHS = [3, 30, 17, 17, 9, 9, 9, 70, 24, 5, 1, 8, 30, 12]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = tmp_path_factory.mktemp("scan") / "v.vault"
    return qkvault.open(make_vault(path, lengths=LENGTHS, layers=(1, 4, 9)))


def test_every_array_of_one_head_as_example_by_example(vault: qkvault.Vault) -> None:
    names = ("attention", "query", "key", "value", "thumbnail")
    seen = []
    for item in vault.scan(4, 3, arrays=names):
        example = vault[item.index]
        seen.append(item.index)
        assert item.length == example.length
        for name in ("attention", "query", "thumbnail"):
            assert np.array_equal(item[name], getattr(example, name)[4, 3])
        for name in ("key", "value"):
            assert np.array_equal(item[name], getattr(example, name)[4, example.key_head(3)])
        assert item.attention is item.arrays["attention"]
        assert item.query.dtype == item.key.dtype == item.value.dtype == np.float32
        assert item.thumbnail.shape == (min(64, item.length),) * 2
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_scan_follows_the_files(vault: qkvault.Vault) -> None:
    places = vault.places
    order = [item.index for item in vault.scan(1, 0, arrays=["query"])]
    assert order == sorted(order, key=lambda index: (places[index, 0], places[index, 1]))


@pytest.mark.parametrize("precision", ["float32", "float16", "uint16", "uint8"])
@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_each_precision(tmp_path: Path, precision: qkvault.Precision, prefetch: int) -> None:
    path = make_vault(tmp_path / "v", examples=40, precision=precision)
    with qkvault.open(path) as vault:
        for item in vault.scan(0, 1, arrays=["attention", "value"], prefetch=prefetch):
            example = vault[item.index]
            assert np.array_equal(item.attention, example.attention[0, 1])
            assert np.array_equal(item.value, example.value[0, 0])


@pytest.mark.parametrize(
    ("layer", "head", "axes"),
    [
        (None, None, "lh"),
        (9, None, "h"),
        (None, -1, "l"),
        ([9, 1], [3, 0], "lh"),
        ([-1], 2, "l"),
        (1, (1,), "h"),
        (np.int64(4), np.array([0, 2]), "h"),
    ],
)
def test_several_layers_and_heads(vault: qkvault.Vault, layer, head, axes: str) -> None:
    index = [
        slice(None) if part is None else list(part) if np.ndim(part) else part
        for part in (layer, head)
    ]
    for item in vault.scan(layer, head, arrays=("attention", "query", "key")):
        example = vault[item.index]
        assert np.array_equal(item.attention, example.attention[tuple(index)])
        assert np.array_equal(item.query, example.query[tuple(index)])
        heads = range(4) if head is None else np.atleast_1d(head).tolist()
        keys = example.key[index[0], [example.key_head(h) for h in heads]]
        assert np.array_equal(item.key, keys if "h" in axes else keys[..., 0, :, :])
        assert item.query.ndim == 2 + len(axes)


def test_batches_are_padded_with_nan(vault: qkvault.Vault) -> None:
    seen = 0
    for batch in vault.scan(4, 3, arrays=("attention", "query")).batches():
        assert batch["attention"].shape[0] == len(batch) == len(batch.lengths)
        for row, (index, length) in enumerate(zip(batch.examples, batch.lengths, strict=True)):
            attention, query = batch["attention"][row], batch["query"][row]
            assert np.array_equal(attention[:length, :length], vault[int(index)].attention[4, 3])
            assert np.isnan(attention[length:]).all()
            assert np.isnan(attention[:, length:]).all()
            assert np.isnan(query[length:]).all()
            assert not np.isnan(query[:length]).any()
            seen += 1
    assert seen == len(LENGTHS)


def test_half_precision_is_widened_exactly() -> None:
    from qkvault.decoding import DECODERS

    bits = np.arange(65536, dtype=np.uint16).view(np.float16)
    out = np.empty(65536, np.float32)
    DECODERS["float16"](bits, out)
    assert np.array_equal(out, bits.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ([3, -1, 3, 0], {0, 3, 13}),
        (["r00002", "r00010"], {2, 10}),
        (np.arange(14) % 5 == 0, {0, 5, 10}),
        (np.array([4, 7], np.int32), {4, 7}),
        ([], set()),
        (range(2, 5), {2, 3, 4}),
    ],
)
def test_scanning_some_examples(vault: qkvault.Vault, select, expected: set[int]) -> None:
    scan = vault.scan(1, 0, select=select)
    items = list(scan)
    assert {item.index for item in items} == expected
    assert len(items) == len(scan) == len(expected)
    for item in items:
        assert np.array_equal(item.query, vault[item.index].query[1, 0])


def test_scanning_a_selection(vault: qkvault.Vault) -> None:
    selection = vault.select(label=1, min_length=10)
    assert {item.index for item in vault.scan(1, 0, select=selection)} == set(selection.indices)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"layer": 2}, OutOfRange, "layer 2 was asked for; this vault keeps 1, 4, 9"),
        ({"head": 4}, OutOfRange, "head 4 was asked for; there are 4"),
        ({"head": "5"}, InputError, "found '5'"),
        ({"layer": 1.5}, InputError, "found 1.5"),
        ({"arrays": ()}, InputError, "arrays are some of"),
        ({"arrays": ("keys",)}, InputError, "arrays are some of"),
        ({"stack": "cross"}, InputError, "this vault keeps encoder"),
        ({"select": [14]}, OutOfRange, "example 14"),
        ({"select": ["no"]}, UnknownExample, "'no'"),
        ({"select": "r00001"}, InputError, "list of numbers or ids"),
        ({"select": [True]}, InputError, "one entry per example, 14"),
        ({"select": [1.5]}, UnknownExample, "1.5"),
        ({"prefetch": -1}, InputError, "prefetch"),
    ],
)
def test_what_cannot_be_scanned(vault: qkvault.Vault, options, error, match: str) -> None:
    with pytest.raises(error, match=match):
        vault.scan(**{"layer": 1, "head": 0, **options})


def test_an_array_that_was_not_kept(tmp_path: Path) -> None:
    vault = qkvault.open(make_vault(tmp_path / "v", arrays=("attention",)))
    with pytest.raises(MissingArray, match="query was not kept"):
        vault.scan(0, 0)


def test_a_scan_may_stop_early_and_start_again(vault: qkvault.Vault) -> None:
    scan = vault.scan(1, 0, prefetch=3)
    first = next(iter(scan))
    assert next(iter(scan)).index == first.index
    assert len(list(scan)) == len(LENGTHS)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_damaged_chunk_is_an_error(tmp_path: Path, prefetch: int) -> None:
    path = make_vault(tmp_path / "v", examples=30)
    shard = next((path / "b0016" / "encoder" / "query").glob("c.*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 3] ^= 1
    shard.write_bytes(data)
    with qkvault.open(path) as vault, pytest.raises(VaultError, match="damaged"):
        list(vault.scan(None, None, prefetch=prefetch))


def test_what_was_never_written_is_an_error(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", lengths=[5, 20, 40], finish=False)
    (path / "commits" / "00000001.json").unlink()
    with qkvault.open(path, partial=True) as vault:
        assert [item.index for item in vault.scan(0, 0, select=[0, 2])] == [0, 2]
        with pytest.raises(VaultError, match="never extracted"):
            list(vault.scan(0, 0))


def test_memory_is_bounded_by_batches(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", lengths=[60] * 3000, layers=1, arrays=("query", "key"))
    with qkvault.open(path) as vault:
        list(vault.scan(0, 0, select=[0]))
        tracemalloc.start()
        total = 0
        for batch in vault.scan(None, None, prefetch=2).batches():
            total += sum(values.nbytes for values in batch.arrays.values())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert total > 30 << 20
    assert peak < 28 << 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_scans(vault: qkvault.Vault) -> None:
    expected = [item.query.sum() for item in vault.scan(1, 0)]
    child = os.fork()
    if child == 0:
        found = [item.query.sum() for item in vault.scan(1, 0)]
        os._exit(0 if found == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_selections_are_sequences(vault: qkvault.Vault) -> None:
    chosen = vault.select(label=1)
    assert len(chosen) == 7
    assert [example.index for example in chosen] == [1, 3, 5, 7, 9, 11, 13]
    assert chosen[0].index == 1
    assert chosen[-1].index == 13
    assert chosen[1:3].indices.tolist() == [3, 5]
    assert not chosen.indices.flags.writeable
    assert repr(chosen) == "<Selection of 7 of 14 examples>"
    for place in (7, -8):
        with pytest.raises(OutOfRange, match="selection of 7"):
            chosen[place]


def test_selecting_by_everything_the_table_knows(vault: qkvault.Vault) -> None:
    def chosen(*words: str, **where: object) -> list[int]:
        return vault.select(*words, **where).indices.tolist()

    assert chosen() == list(range(14))
    assert chosen(min_length=20, max_length=40) == [1, 8, 12]
    assert chosen(length=(30, None)) == [1, 7, 12]
    assert chosen(source="found", label=0) == [0, 6, 12]
    assert chosen(quality={"max": 0.25}) == [0, 1, 2]
    assert chosen(prediction="same") == [e.index for e in vault if e.prediction == 1]
    wrong = [e.index for e in vault if e.prediction != e.label]
    assert chosen(correct=False) == wrong
    word = vault[1].text[0].split()[0]
    assert 1 in chosen(word, length=30)
    with pytest.raises(InputError, match="did you mean 'label'"):
        vault.select(labl=1)


def test_a_selection_belongs_to_its_vault(vault: qkvault.Vault, tmp_path: Path) -> None:
    other = qkvault.open(make_vault(tmp_path / "other", seed=3))
    with pytest.raises(InputError, match="another vault"):
        vault.scan(1, 0, select=other.select(label=1))
