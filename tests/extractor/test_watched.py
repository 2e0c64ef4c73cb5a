"""Derived vaults of models that compute attention in code of their own, which is only watched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import qkvault
from extractor.architecture import ENCODER, gpt
from extractor.models import (
    ENCODER_DECODERS,
    FAMILIES,
    save,
    words,
    write_pairs,
    write_texts,
)
from extractor.test_derive import Watch
from qkvault import InputError, Mask, Recipe, derive_attention
from qkvault_cli.main import main
from qkvault_extractor import ExtractOptions, extract, probe, run, tiles
from qkvault_extractor.capture import AttentionCall
from qkvault_extractor.watched import FOLLOWS_NOT, NOT_FINITE, WatchedAttention

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = [3, 30, 8, 8, 70, 30]
FALCON = gpt("hidden_size", "num_hidden_layers", "num_attention_heads", multi_query=False)
BLOOM = gpt("hidden_size", "n_layer", "n_head")
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bloom": ("Bloom", "operations", BLOOM),
    "mpt": ("Mpt", "operations", {"d_model": 32, "n_layers": 3, "n_heads": 4}),
    "mpnet": ("MPNet", "operations", ENCODER),
    "rembert": ("RemBert", "operations", {**ENCODER, "input_embedding_size": 16}),
    "roformer": ("RoFormer", "operations", ENCODER),
    "falcon": ("Falcon", "fused", {**FALCON, "alibi": False}),
    "falcon_alibi": ("Falcon", "fused", {**FALCON, "alibi": True}),
}


def make(folder: Path, name: str) -> Path:
    prefix, _, settings = MODELS[name]
    return save(folder / name, prefix, "Model", settings)


def extract_to(model: Path, folder: Path, name: str, **options: Any) -> qkvault.Vault:
    data = folder / "texts.jsonl"
    if not data.exists():
        write_texts(data, LENGTHS)
    given: dict[str, Any] = {"precision": "float32", "batch_tokens": 160, **options}
    extract(ExtractOptions(str(model), (str(data),), folder / name, device="cpu", **given))
    return qkvault.open(folder / name)


def check_alike(stored: qkvault.Vault, derived: qkvault.Vault) -> None:
    for one, other in zip(stored, derived, strict=True):
        assert one.tokens == other.tokens
        for name in one.stacks:
            own, found = one.stack(name), other.stack(name)
            assert found.attention.derived
            np.testing.assert_allclose(found.attention[:, :], own.attention[:, :], atol=5e-6)
            np.testing.assert_allclose(found.query[:, :], own.query[:, :], atol=2e-5)
            codes = [view.thumbnail.codes().astype(int) for view in (own, found)]
            assert np.abs(codes[0] - codes[1]).max() <= 1
            arrays = [view.metrics.array for view in (found, own)]
            np.testing.assert_allclose(*arrays, rtol=2e-3, atol=2e-5)
    assert derived.spec.derived_error is not None
    assert derived.spec.derived_error < 5e-6
    report = qkvault.verify(derived.path, full=True, derive=True)
    assert report.ok, report.damages


@pytest.mark.parametrize("name", MODELS)
def test_derived_attention_is_the_models_own(name: str, tmp_path: Path) -> None:
    model = make(tmp_path, name)
    stored = extract_to(model, tmp_path, "stored")
    derived = extract_to(model, tmp_path, "derived", attention="derive")
    check_alike(stored, derived)
    said = str(derived.info()["capture"])
    assert ("it computes itself" in said) is (MODELS[name][1] == "operations")
    assert ("no maps" in said) is (MODELS[name][1] == "fused")


def test_three_stacks_of_a_model_that_computes_them_itself(tmp_path: Path) -> None:
    settings = {
        **ENCODER_DECODERS["bart"][2],
        "langs": ["en", "de"],
        "src_vocab_size": 48,
        "tgt_vocab_size": 48,
    }
    model = save(tmp_path / "fsmt", "FSMT", "Model", settings)
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    write_pairs(tmp_path / "texts.jsonl", [(9, 4), (30, 7), (7, 12)])
    given = {"target_column": "target"}
    stored = extract_to(model, tmp_path, "stored", **given)
    check_alike(stored, extract_to(model, tmp_path, "derived", attention="derive", **given))


def test_what_is_kept_grows_with_the_length_of_texts(tmp_path: Path) -> None:
    model = make(tmp_path, "bloom")
    kept: dict[str, list[int]] = {"store": [], "derive": []}
    for tokens in (150, 300):
        folder = tmp_path / str(tokens)
        folder.mkdir()
        write_texts(folder / "texts.jsonl", [tokens - 1] * 2)
        for attention, sizes in kept.items():
            vault = extract_to(model, folder, attention, attention=attention)
            stored = {row["path"]: row["bytes"] for row in vault.info()["arrays"]}  # type: ignore[index, call-overload, union-attr]
            del stored["decoder/thumbnail"]  # of one size, however long the text
            sizes.append(sum(stored.values()))  # type: ignore[arg-type]
    assert kept["derive"][1] < 2.2 * kept["derive"][0]
    assert kept["store"][1] > 2.5 * kept["store"][0]


@pytest.mark.parametrize(("name", "spares"), [("falcon", True), ("bloom", False)])
def test_maps_exist_only_where_the_models_own_code_makes_them(
    name: str, spares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, tokens = 1 << 12, 150
    monkeypatch.setitem(tiles.CELLS, "cpu", cells)
    watch, original = Watch(), run.run_units

    def watched(*given: Any, **named: Any) -> int:
        with watch:
            return original(*given, **named)

    monkeypatch.setattr(run, "run_units", watched)
    write_texts(tmp_path / "texts.jsonl", [tokens] * 2)
    extract_to(make(tmp_path, name), tmp_path, "v", attention="derive", batch_tokens=400)
    assert (watch.largest < 2 * 4 * tokens**2) is spares


def test_a_model_without_a_recipe_is_refused_by_name(tmp_path: Path) -> None:
    settings = {**ENCODER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    model = save(tmp_path / "deberta", "Deberta", "Model", settings)
    with pytest.raises(InputError, match=r"model deberta cannot be derived, layer 0: .* use "):
        extract_to(model, tmp_path, "v", attention="derive")
    assert not (tmp_path / "v").exists()


def steepen(monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...]) -> None:
    """Have BLOOM weigh texts of some lengths by slopes that no other text has."""
    from transformers.models.bloom import modeling_bloom

    original = modeling_bloom.build_alibi_tensor

    def steeper(mask: Tensor, *given: Any) -> Tensor:
        factor = 1.5 if mask.shape[1] in lengths else 1.0
        return original(mask, *given) * factor

    monkeypatch.setattr(modeling_bloom, "build_alibi_tensor", steeper)


def test_a_text_that_follows_another_rule_stops_the_run_or_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steepen(monkeypatch, (4,))
    model = make(tmp_path, "bloom")
    with pytest.raises(
        InputError, match=r"texts.jsonl line 1: its attention is not .* --on-bad skip"
    ):
        extract_to(model, tmp_path, "v", attention="derive")
    vault = extract_to(model, tmp_path, "left", attention="derive", on_bad="skip")
    assert len(vault) == len(LENGTHS) - 1
    assert [example.id for example in vault] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("changes", [False, True])
def test_texts_longer_than_a_probe_are_looked_at_before_anything_is_written(
    changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PROBE_CELLS", 2 * 3 * 4 * 40**2)  # 40 tokens of 71
    if changes:
        steepen(monkeypatch, (71,))
    model = make(tmp_path, "bloom")
    if changes:
        with pytest.raises(InputError, match="use --attention store"):
            extract_to(model, tmp_path, "v", attention="derive")
        assert not (tmp_path / "v").exists()
    else:
        vault = extract_to(model, tmp_path, "v", attention="derive")
        assert vault.spec.stacks[0].recipe[0].slopes is not None


def call_of(attention: Tensor, query: Tensor, key: Tensor) -> AttentionCall:
    module = torch.nn.Identity()
    return AttentionCall(0, "own", module, query, key, key, attention, 0.5, None, {})


@pytest.mark.parametrize(
    ("spoil", "flaws"),
    [
        (lambda a: a, {}),
        (lambda a: a[0, 1, 19].copy_(a[0, 1, 19].flip(0)), {0: FOLLOWS_NOT}),
        (lambda a: a[1, 0, 4].fill_(float("nan")), {1: NOT_FINITE}),
        (lambda a: a[1, 0, 14].fill_(float("nan")), {}),  # of padding
    ],
)
def test_rows_are_held_against_the_recipe(spoil: Any, flaws: dict[int, Any]) -> None:
    random = np.random.default_rng(0)
    lengths, recipe = (20, 10), Recipe(Mask(causal=True, window=6))
    vectors = random.normal(size=(2, 2, 2, 20, 8)).astype(np.float32)
    attention = np.zeros((2, 2, 20, 20), np.float32)
    for example, tokens in enumerate(lengths):
        query, key = vectors[:, example, :, :tokens]
        attention[example, :, :tokens, :tokens] = derive_attention(query, key, 0.5, recipe)
    given = torch.from_numpy(attention)
    taken: list[AttentionCall] = []
    watched = WatchedAttention([recipe], [("source", "source")], taken.append)
    watched.start(lengths, torch.device("cpu"))
    spoil(given)
    watched(call_of(given, *torch.from_numpy(vectors)))
    assert taken[0].attention is None
    assert watched.finish() == flaws


def test_rows_of_the_shortest_example_of_a_batch_are_held_against_the_recipe() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 2, 2, 40, 8))).float()
    own = torch.softmax(0.5 * vectors[0] @ vectors[1].transpose(-1, -2), -1)
    own[1, :, :3, :3] = 1 / 3  # of three tokens, which lie before the first row of 40 that is tried
    watched = WatchedAttention([Recipe()], [("source", "source")], lambda _: None)
    watched.start((40, 3), torch.device("cpu"))
    watched(call_of(own, *vectors))
    assert watched.finish() == {1: FOLLOWS_NOT}


def test_info_says_who_computes_attention(tmp_path: Path) -> None:
    path = extract_to(make(tmp_path, "bloom"), tmp_path, "v", attention="derive").path
    shown = CliRunner().invoke(main, ["info", str(path)])
    assert "which it computes itself" in shown.output


def test_where_queries_see_more_keys_than_they_may(tmp_path: Path) -> None:
    """A window of the recipe that is one token short is seen in every row."""
    random = np.random.default_rng(0)
    query, key = random.normal(size=(2, 1, 20, 8)).astype(np.float32)
    recipe = Recipe(Mask(causal=True, window=6))
    own = torch.from_numpy(derive_attention(query, key, 0.5, recipe))[None]
    narrow = replace(recipe, mask=Mask(causal=True, window=5))
    watched = WatchedAttention([narrow], [("source", "source")], lambda _: None)
    watched.start((20,), torch.device("cpu"))
    watched(call_of(own, torch.from_numpy(query)[None], torch.from_numpy(key)[None]))
    assert watched.finish() == {0: FOLLOWS_NOT}


def test_families_of_the_interface_are_not_watched(tmp_path: Path) -> None:
    prefix, suffix, settings = FAMILIES["gpt2"]
    model = save(tmp_path / "gpt2", prefix, suffix, settings)
    vault = extract_to(model, tmp_path, "v", attention="derive")
    assert "in tiles by the layers' recipes" in str(vault.info()["capture"])
