"""Vaults of encoder-decoders: three stacks over two sequences of tokens, of unequal length."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import qkvault
from qkvault import InputError, Lengths, Mask, Precision, Recipe, Stack
from qkvault.chunks import is_implied
from qkvault.metrics import METRICS, WITHIN_ONE_SEQUENCE, head_metrics, token_roles
from vaults import (
    TWO_SEQUENCES,
    forward,
    known,
    make_encoder_decoder_vault,
    make_record,
    make_target,
    make_vault,
)

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = ((7, 5), (12, 3), (9, 20), (5, 8), (16, 70), (70, 9), (8, 130))
SIDES = {"encoder": (0, 0), "decoder": (1, 1), "cross": (1, 0)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vaults")
    return make_encoder_decoder_vault(folder / "v", lengths=LENGTHS)


@pytest.fixture(scope="module")
def vault(path: Path) -> qkvault.Vault:
    return qkvault.open(path)


def made(example: int, stack: Stack, precision: Precision = "uint16") -> dict[str, Any]:
    queries, keys = (LENGTHS[example][side] for side in SIDES[stack.name])
    return forward(example, (queries, keys), stack, precision)


@pytest.mark.parametrize("precision", qkvault.PRECISIONS)
def test_every_stack_is_read_as_it_was_written(tmp_path: Path, precision: Precision) -> None:
    path = make_encoder_decoder_vault(tmp_path / "v", lengths=LENGTHS, precision=precision)
    with qkvault.open(path) as vault:
        for e in vault:
            for stack in TWO_SEQUENCES:
                view = e.stack(stack.name)
                expected = made(e.index, stack, precision)
                weights = view.attention[:, :]
                assert weights.shape == expected["attention"].shape == view.attention.shape
                assert np.abs(weights - expected["attention"]).max() <= view.attention.max_error
                for name in ("query", "key", "value"):
                    np.testing.assert_array_equal(getattr(view, name)[:, :], expected[name])
                padded = vault.store.plan.bucket(e.bucket).lengths
                implied = is_implied(vault.spec, f"{stack.name}/thumbnail", padded)
                thumbnail = qkvault.make_thumbnail(weights if implied else expected["attention"])
                np.testing.assert_array_equal(view.thumbnail.codes(), thumbnail)
    assert qkvault.verify(path, full=True, derive=True).ok


def test_tokens_of_each_axis(vault: qkvault.Vault) -> None:
    e = vault[2]
    assert e.lengths == Lengths(9, 20)
    assert len(e) == e.length == 9
    assert e.target == make_target(20, 2)
    target = known(e.target).tokens
    assert [(e.stack(n).query_tokens, e.stack(n).key_tokens) for n in e.stacks] == [
        (e.tokens, e.tokens),
        (target, target),
        (target, e.tokens),
    ]
    assert vault.lengths.tolist() == [source for source, _ in LENGTHS]
    assert vault.target_lengths is not None
    assert vault.target_lengths.tolist() == [target for _, target in LENGTHS]
    assert [r.target for r in vault.iter_records()] == [e.target for e in vault]


def test_a_vault_of_one_sequence_has_no_target(tmp_path: Path) -> None:
    with qkvault.open(make_vault(tmp_path / "v", examples=2)) as vault:
        e = vault[0]
        assert e.target is None
        assert vault.target_lengths is None
        assert e.stack("encoder").query_tokens == e.stack("encoder").key_tokens == e.tokens
        assert e.lengths == Lengths(e.length)


def test_buckets_are_of_sources_and_as_wide_as_their_longest_target(vault: qkvault.Vault) -> None:
    buckets = vault.info()["buckets"]
    found = {b["length"]: b["target_length"] for b in buckets}  # type: ignore[index, union-attr]
    assert found == {8: 144, 16: 72, 72: 16}


def test_thumbnails_are_pooled_along_long_axes_only(vault: qkvault.Vault) -> None:
    assert vault[4].stack("cross").thumbnail.shape[2:] == (64, 16)
    assert vault[5].stack("cross").thumbnail.shape[2:] == (9, 64)
    wide = made(5, TWO_SEQUENCES[2])["attention"]
    pooled = np.stack(
        [wide[..., i * 70 // 64 : (i + 1) * 70 // 64].sum(-1) for i in range(64)], axis=-1
    )
    np.testing.assert_allclose(
        vault[5].stack("cross").thumbnail[:, :], pooled, atol=qkvault_u8_error()
    )


def qkvault_u8_error() -> float:
    from qkvault.precision import MAX_ERROR

    return MAX_ERROR["uint8"]


def test_the_cross_map_is_cut_by_query_and_key(vault: qkvault.Vault) -> None:
    cross = vault[2].stack("cross").attention
    whole = cross[:, :]
    np.testing.assert_array_equal(cross[1, 0, 19], whole[1, 0, 19])
    np.testing.assert_array_equal(cross[1, 0, -3:, 8], whole[1, 0, -3:, 8])
    with pytest.raises(qkvault.OutOfRange, match="this example has 20 tokens"):
        cross[1, 0, 20]
    with pytest.raises(qkvault.OutOfRange, match="has no part"):
        cross[1, 0, 3, 9]


@pytest.mark.parametrize("stack", TWO_SEQUENCES, ids=lambda stack: stack.name)
def test_scanning_a_stack(vault: qkvault.Vault, stack: Stack) -> None:
    names: Any = ("attention", "query", "key", "value", "thumbnail")
    seen = set()
    for batch in vault.scan(1, None, names, stack=stack.name).batches():
        for item in batch:
            seen.add(item.index)
            view = vault[item.index].stack(stack.name)
            assert (item.length, item.key_length) == view.attention.shape[2:]
            np.testing.assert_array_equal(item.attention, view.attention[1])
            np.testing.assert_array_equal(item.thumbnail, view.thumbnail[1])
            np.testing.assert_array_equal(item.query, view.query[1])
            shared = stack.heads // stack.key_heads
            for name in ("key", "value"):
                expected = np.repeat(getattr(view, name)[1], shared, axis=0)
                np.testing.assert_array_equal(item[name], expected)
        maps = batch["attention"]
        for row, (queries, keys) in enumerate(zip(batch.lengths, batch.key_lengths, strict=True)):
            assert np.isnan(maps[row, :, queries:]).all()
            assert np.isnan(maps[row, :, :, keys:]).all()
            assert not np.isnan(maps[row, :, :queries, :keys]).any()
    assert seen == set(range(len(LENGTHS)))


def test_batches_for_torch_mask_both_axes(vault: qkvault.Vault) -> None:
    samples = vault.to_torch(0, 0, ("attention", "key"), stack="cross")
    batch = samples.collate([samples[1], samples[3]])
    assert batch["attention"].shape == (2, 8, 12)
    assert batch["mask"].sum(1).tolist() == batch["length"].tolist() == [3, 8]
    assert batch["key_mask"].sum(1).tolist() == batch["key_length"].tolist() == [12, 5]
    alone = vault.to_torch(0, 0, ("query",), stack="decoder")
    assert "key_mask" not in alone.collate([alone[0]])
    assert alone[0]["length"] == 5


def test_xarray_names_the_tokens_of_both_axes(vault: qkvault.Vault) -> None:
    pytest.importorskip("xarray")
    e = vault[2]
    data = e.to_xarray(stack="cross")
    assert data.sizes["query_token"] == 20
    assert data.sizes["key_token"] == 9
    assert tuple(data["query_text"].values) == e.stack("cross").query_tokens
    assert tuple(data["key_text"].values) == e.tokens
    assert data["key_segment"].values.tolist() == e.segments.tolist()
    assert "query_segment" not in data.coords
    assert data.attrs["target"] == known(e.target).text
    assert data["metrics"].shape == (2, 2, len(METRICS))


def test_metrics_that_compare_places_are_none_in_cross_attention(vault: qkvault.Vault) -> None:
    for e in vault:
        found = e.stack("cross").metrics
        for name in METRICS:
            assert np.isnan(found[name]).all() == (name in WITHIN_ONE_SEQUENCE), name
    e = vault[2]
    weights = made(2, TWO_SEQUENCES[2])["attention"].astype(np.float64)
    queries = ~np.array(known(e.target).special, bool)
    own = weights[:, :, queries]
    entropy = -(own * np.log(own)).sum(-1)
    expected = {
        "entropy": entropy.mean(-1),
        "normalized_entropy": (entropy / np.log(9)).mean(-1),
        "max": own.max(-1).mean(-1),
        "first": own[..., 0].mean(-1),
        "special": own[..., e.special].sum(-1).mean(-1),
        "content": own[..., ~e.special].sum(-1).mean(-1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(e.stack("cross").metrics[name], values, rtol=1e-5)
        np.testing.assert_array_equal(
            vault.metrics(name, "cross")[2], e.stack("cross").metrics[name]
        )
    np.testing.assert_array_equal(
        e.stack("decoder").metrics.array,
        head_metrics(
            made(2, TWO_SEQUENCES[1])["attention"], token_roles(known(e.target)), Mask(causal=True)
        ),
    )


def test_a_copy_of_a_stack_keeps_the_target(tmp_path: Path, vault: qkvault.Vault) -> None:
    part = qkvault.copy(vault, tmp_path / "c", examples=[5, 0], stack="cross", precision="uint8")
    assert [stack.name for stack in part.spec.stacks] == ["cross"]
    for place, index in enumerate((5, 0)):
        e, whole = part[place], vault[index]
        assert e.target == whole.target
        stored = whole.stack("cross").attention[:, :]
        assert np.abs(e.attention[:, :] - stored).max() <= qkvault_u8_error()
        np.testing.assert_array_equal(e.key[:, :], whole.stack("cross").key[:, :])
    assert qkvault.verify(part.path, full=True).ok
    whole_copy = qkvault.copy(vault, tmp_path / "w", layers=[2, 1])
    layers = {stack.name: stack.layers for stack in whole_copy.spec.stacks}
    assert layers == {"encoder": (1, 2), "decoder": (1,), "cross": (1,)}
    with pytest.raises(InputError, match="'middle'"):
        qkvault.copy(vault, tmp_path / "m", stack="middle")


def test_appending_keeps_both_sequences(tmp_path: Path, path: Path) -> None:
    one = qkvault.copy(path, tmp_path / "one", examples=[0, 4])
    two = qkvault.copy(path, tmp_path / "two", examples=[6, 1])
    joined = qkvault.append(one, two, tmp_path / "joined")
    with qkvault.open(path) as vault:
        for e, index in zip(joined, (0, 4, 6, 1), strict=True):
            assert e.lengths == LENGTHS[index]
            for name in e.stacks:
                np.testing.assert_array_equal(
                    e.stack(name).attention.codes(), vault[index].stack(name).attention.codes()
                )
    assert qkvault.verify(joined.path, full=True, derive=True).ok


def test_exports(tmp_path: Path, vault: qkvault.Vault) -> None:
    file = qkvault.export(vault, tmp_path / "v.h5")
    with qkvault.open(file) as found:
        for e, whole in zip(found, vault, strict=True):
            assert e.target == whole.target
            for name in e.stacks:
                for array in ("attention", "query", "key", "value", "thumbnail"):
                    np.testing.assert_array_equal(
                        getattr(e.stack(name), array)[:, :],
                        getattr(whole.stack(name), array)[:, :],
                    )
    assert qkvault.verify(file, full=True).ok
    npz = np.load(qkvault.export(vault, tmp_path / "v.npz", examples=[2], stack="cross"))
    cross = vault[2].stack("cross")
    np.testing.assert_array_equal(npz["2/attention"], cross.attention[:, :])
    assert tuple(npz["2/target_tokens"]) == cross.query_tokens
    table = qkvault.export(vault, tmp_path / "v.csv", examples=[1], layers=[0], stack="cross")
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 2 * 3 * 12
    cross = vault[1].stack("cross")
    for row in rows:
        query, key = int(row["query"]), int(row["key"])
        assert row["query_text"] == cross.query_tokens[query]
        assert row["key_text"] == cross.key_tokens[key]
        weight = cross.attention[0, int(row["head"]), query, key]
        assert float(row["weight"]) == pytest.approx(float(weight), rel=1e-6)


def test_attention_is_derived_in_all_three(tmp_path: Path) -> None:
    spec_stacks = [
        replace(s, recipe=(Recipe(Mask(causal=s.causal)),) * len(s.layers)) for s in TWO_SEQUENCES
    ]
    path = make_encoder_decoder_vault(tmp_path / "v", lengths=LENGTHS, stacks=spec_stacks)
    with qkvault.open(path) as vault:
        for e in vault:
            for name in e.stacks:
                view = e.stack(name)
                whole = view.derive()
                assert np.abs(whole - view.attention[:, :]).max() < 1e-5
                np.testing.assert_allclose(view.derive(1, 0)[2:], whole[1, 0, 2:], atol=1e-6)
    report = qkvault.verify(path, derive=True)
    assert report.ok
    assert report.derived is not None
    assert report.derived < 1e-5


def test_words_of_the_target_are_searched(vault: qkvault.Vault) -> None:
    found = vault.select("wort22")
    assert found.indices.tolist() == [
        index
        for index, record in enumerate(vault.iter_records())
        if "Wort22" in known(record.target).text.split()
    ]
    assert len(found)
    for row in vault.table.rows(limit=3).rows:
        assert row["target"] == known(vault[row["index"]].target).text


def test_specs_that_cannot_be(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    alone = [make_record(0, 5, random=random)]
    with_target = [replace(alone[0], target=make_target(3))]
    with qkvault.open(make_encoder_decoder_vault(tmp_path / "v")) as vault:
        spec = vault.spec
    for records, wrong, message in (
        (alone, spec, "has no target"),
        (with_target, replace(spec, target=False), "without a target sequence"),
        (with_target, replace(spec, stacks=TWO_SEQUENCES[:1], target=False), "has a target"),
        (
            with_target,
            replace(spec, stacks=(replace(TWO_SEQUENCES[2], causal=True, recipe=()),)),
            "with a mask",
        ),
        (
            [replace(alone[0], target=replace(make_target(3), special=(1,)))],
            spec,
            "of its target, it has 3 tokens but 1 special",
        ),
    ):
        with pytest.raises(InputError, match=message):
            qkvault.create(tmp_path / "bad", wrong, records)
    assert not (tmp_path / "bad").exists()
