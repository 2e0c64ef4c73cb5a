"""Attention that is not stored but follows from queries and keys; recipes and metrics in vaults."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from derived_vaults import DIM, HEADS, attention_of, make_derived_vault, scores_of, vectors

import qkvault
from qkvault import (
    METRICS,
    InputError,
    Mask,
    MissingArray,
    OutOfRange,
    Recipe,
    RelativeBias,
    Sinks,
    VaultError,
    head_metrics,
    token_roles,
)
from vaults import make_vault

if TYPE_CHECKING:
    from pathlib import Path

RECIPES = (
    Recipe(),
    Recipe(Mask(causal=True)),
    Recipe(Mask(causal=True, window=4), softcap=3.0),
    Recipe(slopes=(0.5, 0.25, 0.125, 0.0625)),
    Recipe(
        bias=RelativeBias((-30, -2, 0, 1, 4), tuple((h, 1.0, 0.0, -1.0, 0.5) for h in range(4)))
    ),
    Recipe(Mask(causal=True), sinks=Sinks((1.0, -1.0, 0.0, 3.0), "softmax")),
)


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = make_derived_vault(tmp_path_factory.mktemp("derived") / "v", RECIPES)
    return qkvault.open(path)


def test_attention_is_computed_from_what_is_stored(derived: qkvault.Vault) -> None:
    stack = derived.spec.stacks[0]
    for index, example in enumerate(derived):
        query, key = vectors(index, example.length, stack, "uint16")
        expected = attention_of(query, key, stack)
        assert example.attention.shape == expected.shape
        np.testing.assert_allclose(example.attention[:, :], expected, atol=1e-6)
        np.testing.assert_allclose(np.asarray(example.attention), expected, atol=1e-6)


def test_every_way_of_indexing_gives_parts_of_the_whole(derived: qkvault.Vault) -> None:
    attention = derived[3].attention
    whole = attention[:, :]
    parts = {
        "layer": (attention[4], whole[2]),
        "last layer": (attention[-1, -1], whole[-1, -1]),
        "lists": (attention[[10, 0], [3, 1]], whole[[5, 0]][:, [3, 1]]),
        "layer slice": (attention[2:7], whole[1:4]),
        "token": (attention[4, 2, 33], whole[2, 2, 33]),
        "token slice": (attention[2, :, 10:20:3], whole[1, :, 10:20:3]),
        "cell": (attention[6, 1, 40, 7], whole[3, 1, 40, 7]),
        "ellipsis": (attention[..., 0], whole[..., 0]),
    }
    for name, (part, expected) in parts.items():
        np.testing.assert_allclose(part, expected, atol=1e-6, err_msg=name)
        assert part.dtype == np.float32


def test_it_says_that_it_is_derived(derived: qkvault.Vault) -> None:
    attention = derived[0].attention
    assert attention.derived
    assert not derived[0].query.derived
    assert attention.precision == "float32"
    assert attention.max_error == 2.5e-4
    assert "queries and keys" in repr(attention)
    np.testing.assert_array_equal(attention.codes(0, 1), attention[0, 1])
    info = json.loads(json.dumps(derived.info()))
    assert info["attention"] == "derived"
    arrays = {array["path"]: array for array in info["arrays"]}
    assert arrays["encoder/attention"]["encoding"] == "derived"
    assert arrays["encoder/attention"]["max_error"] == 2.5e-4
    assert arrays["encoder/attention"]["bytes"] == 0
    assert arrays["encoder/query"]["bytes"] > 0


def test_attention_takes_no_place_but_thumbnails_are_kept(derived: qkvault.Vault) -> None:
    assert not list(derived.path.glob("b*/encoder/attention"))
    example = derived[3]
    expected = qkvault.make_thumbnail(example.attention[:, :])
    codes = example.thumbnail.codes()
    assert np.abs(codes.astype(int) - expected).max() <= 1
    assert codes.shape[-1] == 64


def test_indices_are_checked_as_ever(derived: qkvault.Vault) -> None:
    with pytest.raises(OutOfRange, match="layer 3"):
        derived[0].attention[3, 0]
    with pytest.raises(OutOfRange, match="head 9"):
        derived[0].scores(0, 9)
    with pytest.raises(OutOfRange):
        derived[0].attention[0, 0, 99]


def test_scores_are_those_before_softmax(derived: qkvault.Vault) -> None:
    stack = derived.spec.stacks[0]
    example = derived[1]
    expected = scores_of(*vectors(1, example.length, stack, "uint16"), stack)
    np.testing.assert_allclose(example.scores(), expected, atol=1e-5)
    np.testing.assert_allclose(example.scores(4, 2), expected[2, 2], atol=1e-5)
    np.testing.assert_allclose(example.stack("encoder").scores(2), expected[1], atol=1e-5)


def test_stored_attention_can_be_derived_too(tmp_path: Path) -> None:
    path = make_vault(
        tmp_path / "v", examples=4, key_heads=2, heads=4, precision="float32", causal=True
    )
    with qkvault.open(path) as vault:
        assert vault.spec.stacks[0].recipe == (Recipe(Mask(causal=True)),) * 2
        for example in vault:
            assert not example.attention.derived
            np.testing.assert_allclose(example.derive(), example.attention[:, :], atol=1e-6)
            np.testing.assert_allclose(example.derive(1, 3), example.attention[1, 3], atol=1e-6)


def test_nothing_is_derived_without_queries_and_keys(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", examples=2, arrays=("attention", "key"))
    with qkvault.open(path) as vault, pytest.raises(MissingArray, match="no query"):
        vault[0].derive(0, 0)


def test_unknown_recipes_are_refused_with_their_reason(tmp_path: Path) -> None:
    recipes = (Recipe(), Recipe(unknown="scores depend on memory"))
    path = make_derived_vault(
        tmp_path / "v", recipes, attention="stored", arrays=("query", "key"), lengths=[6]
    )
    with qkvault.open(path) as vault:
        assert vault[0].derive(0).shape == (HEADS, 6, 6)
        with pytest.raises(MissingArray, match="depend on memory"):
            vault[0].derive(2)
        with pytest.raises(MissingArray, match="attention was not kept"):
            _ = vault[0].attention


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arrays": ("query",)}, "needs queries and keys"),
        ({"arrays": ("attention", "query", "key")}, "needs queries and keys"),
        ({"recipes": (Recipe(), Recipe(unknown="no formula"))}, "no formula"),
        ({"recipes": (Recipe(slopes=(1.0,)),)}, "slopes"),
        ({"attention": "guessed"}, "neither stored nor derived"),
        ({"metrics": ("entropy", "entropy")}, "metrics"),
        ({"metrics": ("",)}, "metric"),
    ],
    ids=str,
)
def test_specs_that_contradict_themselves(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        make_derived_vault(tmp_path / "v", **changes)  # type: ignore[arg-type]
    assert not (tmp_path / "v").exists()


def test_the_plan_keeps_the_recipes(derived: qkvault.Vault) -> None:
    assert derived.spec.stacks[0].recipe == RECIPES
    plan = json.loads((derived.path / "plan.json").read_text(encoding="utf-8"))
    assert len(plan["spec"]["stacks"][0]["recipe"]["forms"]) == len(RECIPES)


def test_missing_vectors_are_never_attention(tmp_path: Path) -> None:
    path = make_derived_vault(tmp_path / "v", lengths=[9, 30])
    (shard,) = (path / "b0032" / "encoder" / "key").glob("c.*")
    shard.unlink()
    with qkvault.open(path) as vault:
        assert vault[0].attention[0, 0].shape == (9, 9)
        with pytest.raises(VaultError):
            vault[1].attention[0, 0]


def test_size_grows_linearly_with_length(tmp_path: Path) -> None:
    sizes = []
    for tokens in (128, 256, 512):
        path = make_derived_vault(tmp_path / str(tokens), lengths=[tokens], metrics=())
        with qkvault.open(path) as vault:
            found = vault.info()["arrays"]
            assert isinstance(found, list)
            sizes.append(sum(a["bytes"] for a in found if a["name"] in ("query", "key")))
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.05)
    assert sizes[2] < 2 * (HEADS + 2) * DIM * 512 * 3  # two layers, two bytes, and the indexes


def test_metrics_of_an_example(derived: qkvault.Vault) -> None:
    stack = derived.spec.stacks[0]
    for index, example in enumerate(derived):
        metrics = example.metrics
        assert metrics.names == METRICS
        assert metrics.layers == stack.layers
        assert metrics["entropy"].shape == (len(RECIPES), HEADS)
        weights = attention_of(*vectors(index, example.length, stack, "uint16"), stack)
        roles = token_roles(example.record)
        for place, recipe in enumerate(RECIPES):
            expected = head_metrics(weights[place], roles, recipe.mask)
            np.testing.assert_array_equal(metrics.array[place], expected)
        assert "entropy" in metrics
        assert len(list(metrics)) == len(metrics) == len(METRICS)
    with pytest.raises(InputError, match="confidence"):
        derived[0].metrics["confidence"]


def test_metrics_of_the_corpus(derived: qkvault.Vault) -> None:
    for name in ("distance", "a_to_b"):
        values = derived.metrics(name)
        assert values.shape == (len(derived), len(RECIPES), HEADS)
        assert values.dtype == np.float32
        for example, found in zip(derived, values, strict=True):
            np.testing.assert_array_equal(found, example.metrics[name])
        np.testing.assert_array_equal(derived.metrics(name, layer=4, head=1), values[:, 2, 1])
        np.testing.assert_array_equal(
            derived.metrics(name, "encoder", layer=[4, 0], head=[3, 0]),
            values[:, [2, 0]][:, :, [3, 0]],
        )
    with pytest.raises(InputError, match="surprise"):
        derived.metrics("surprise")
    with pytest.raises(OutOfRange):
        derived.metrics("entropy", layer=1)


def test_metrics_of_an_unfinished_vault_are_told_apart(tmp_path: Path) -> None:
    path = make_derived_vault(tmp_path / "v", lengths=[5, 30], finish=False)
    with qkvault.open(path, partial=True) as vault:
        values = vault.metrics("entropy")
        assert np.isfinite(values[0]).all()
        assert np.isnan(values[1]).all()


def test_a_vault_without_metrics_says_so(tmp_path: Path) -> None:
    with qkvault.open(make_vault(tmp_path / "v", examples=2)) as vault:
        with pytest.raises(MissingArray, match="head metrics"):
            _ = vault[0].metrics
        with pytest.raises(MissingArray, match="head metrics"):
            vault.metrics("entropy")


def test_metrics_that_were_not_filled_are_not_committed(tmp_path: Path) -> None:
    from derived_vaults import fill_row

    path = make_derived_vault(tmp_path / "v", lengths=[5, 30], finish=False)
    with qkvault.resume(path) as writer:
        (unit,) = writer.pending()
        buffer = writer.begin(unit)
        (record,) = writer.records(unit)
        fill_row(buffer, 0, writer.spec, record, 1)
        buffer.arrays["encoder/metrics"][:] = math.nan
        with pytest.raises(InputError, match="metrics of unit 1 was not filled"):
            writer.commit(buffer)


def test_verify_knows_the_arrays(derived: qkvault.Vault) -> None:
    report = qkvault.verify(derived.path, full=True)
    assert report.ok, report.damages


def test_stored_attention_with_sinks_is_sound(tmp_path: Path) -> None:
    arrays = ("attention", "query", "key")
    path = make_derived_vault(tmp_path / "v", RECIPES, attention="stored", arrays=arrays)
    report = qkvault.verify(path, full=True)
    assert report.ok, report.damages


BESIDE: Any = {
    "recipes": (Recipe(unknown="part of it goes to summaries"),),
    "attention": "stored",
    "arrays": ("attention", "query", "key"),
}


@pytest.mark.parametrize("beside", [None, "summaries"])
def test_rows_may_sum_to_less_where_the_vault_says_what_else_there_is(
    beside: str | None, tmp_path: Path
) -> None:
    path = make_derived_vault(tmp_path / "v", **BESIDE, beside=beside, share=(0.75,) * 4)
    with qkvault.open(path) as vault:
        assert vault.spec.stacks[0].beside == beside
        assert vault.spec.stacks[0].sums_to_one is (beside is None)
        assert np.abs(vault[0].attention[0].sum(-1) - 0.75).max() < 1e-3
    report = qkvault.verify(path, full=True)
    assert report.ok is (beside is not None)
    if beside is None:
        assert "sums to 1 only" in str(report.damages)


def test_maps_may_then_be_empty_but_not_all_of_an_example(tmp_path: Path) -> None:
    shares = (1.0, 0.0, 0.5, 0.25)
    path = make_derived_vault(tmp_path / "v", **BESIDE, beside="summaries", share=shares)
    with qkvault.open(path) as vault:
        sums = vault[0].attention[0].sum(-1).mean(-1)
        np.testing.assert_allclose(sums, shares, atol=1e-3)
        assert not vault[0].thumbnail[0, 1].any()
        item = next(iter(vault.scan(0, 1, arrays=("attention",))))
        np.testing.assert_array_equal(item.attention, vault[item.index].attention[0, 1])
        assert qkvault.verify(path, full=True).ok
        qkvault.export(vault, tmp_path / "v.h5", examples=[0])
        copied = qkvault.copy(vault, tmp_path / "c", heads=[1, 2], examples=[2, 0])
        assert copied.spec.stacks[0].beside == "summaries"
        assert not copied[1].attention[0, 0].any()
        np.testing.assert_array_equal(copied[1].attention[0, 1], vault[0].attention[0, 2])
        assert qkvault.verify(tmp_path / "c", full=True).ok
    with qkvault.open(tmp_path / "v.h5") as exported:
        assert not exported[0].attention[0, 1].any()
    with pytest.raises(InputError, match="was not filled"):
        make_derived_vault(tmp_path / "w", **BESIDE, share=shares)
    with pytest.raises(InputError, match="was not filled"):
        make_derived_vault(tmp_path / "x", **BESIDE, beside="summaries", share=(0.0,) * 4)


def test_plain_zarr_opens_metrics(derived: qkvault.Vault) -> None:
    zarr = pytest.importorskip("zarr")
    array = zarr.open_array(derived.path / "b0072" / "encoder" / "metrics", mode="r")
    assert array.attrs["metrics"] == list(METRICS)
    assert array.metadata.dimension_names == ("example", "layer", "head", "metric")
    np.testing.assert_array_equal(array[0], derived[3].metrics.array)


def test_copies_keep_deriving(derived: qkvault.Vault, tmp_path: Path) -> None:
    with qkvault.copy(
        derived, tmp_path / "c", layers=[4, 6], heads=[3, 1], examples=[3, 1]
    ) as part:
        assert part.spec.attention == "derived"
        assert part.spec.stacks[0].recipe[1].slopes == (0.0625, 0.25)
        for copied, index in zip(part, (3, 1), strict=True):
            own = derived[index]
            np.testing.assert_array_equal(copied.attention[:, :], own.attention[[4, 6], [3, 1]])
            np.testing.assert_array_equal(
                copied.metrics.array, own.metrics.array[[2, 3]][:, [3, 1]]
            )
    report = qkvault.verify(tmp_path / "c", full=True, derive=True)
    assert report.ok, report.damages


def test_copies_without_queries_derive_no_more(derived: qkvault.Vault, tmp_path: Path) -> None:
    with qkvault.copy(derived, tmp_path / "c", arrays=["key"]) as part:
        assert part.spec.attention == "stored"
        with pytest.raises(MissingArray):
            _ = part[0].attention


def test_exports_keep_deriving(derived: qkvault.Vault, tmp_path: Path) -> None:
    qkvault.export(derived, tmp_path / "x.h5")
    with qkvault.open(tmp_path / "x.h5") as exported:
        assert exported[3].attention.derived
        np.testing.assert_array_equal(exported[3].attention[4], derived[3].attention[4])
        np.testing.assert_array_equal(exported.metrics("a_to_b"), derived.metrics("a_to_b"))
