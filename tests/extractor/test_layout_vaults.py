"""Vaults of models that attend in windows and blocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import qkvault
from extractor.architecture import DECODER, ENCODER, EXPERTS
from extractor.encoder_decoder_rows import BART, LED, T5
from extractor.fidelity import difference_from_eager, extract_to
from extractor.models import save, words, write_pairs, write_texts
from extractor.test_layouts import SUMMARIES
from qkvault import Mask, Recipe
from qkvault_extractor import stacks, tap
from qkvault_extractor.layouts import LAYOUTS, sliding
from qkvault_extractor.layouts import local as local_layout

if TYPE_CHECKING:
    from qkvault_extractor.layouts.steps import Steps


@pytest.mark.parametrize(
    ("prefix", "settings", "beside"),
    [
        ("LongT5", SUMMARIES, "summaries of the text's blocks"),
        (
            "PegasusX",
            {**BART, "block_size": 8, "num_global_tokens": 4},
            "global tokens that are none of the text's",
        ),
    ],
)
def test_a_vault_says_what_takes_the_rest(
    prefix: str, settings: dict[str, Any], beside: str, tmp_path: Path
) -> None:
    model = save(tmp_path / "m", prefix, "Model", settings)
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    pairs = write_pairs(tmp_path / "pairs.jsonl", [(30, 4), (21, 7), (3, 3)])
    vault = extract_to(tmp_path / "v", model, pairs, target_column="target")
    encoder, decoder, cross = vault.spec.stacks
    assert (encoder.beside, decoder.beside, cross.beside) == (beside, None, None)
    assert {recipe.unknown for recipe in encoder.recipe} == {
        f"part of the attention goes to {beside}, whose keys are not kept"
    }
    sums = vault[0].stack("encoder").attention[:, :].sum(-1)
    assert (sums < 0.999).any()
    assert (sums < 1.001).all()
    assert np.abs(vault[0].stack("decoder").attention[:, :].sum(-1) - 1).max() < 1e-3
    report = qkvault.verify(vault.path, full=True, derive=True)
    assert report.ok, report.damages


def test_padding_changes_nothing(tmp_path: Path) -> None:
    """Lengths of one batch, none of them whole windows: as each alone, and as the model says."""
    model = save(tmp_path / "m", "Longformer", "Model", {**ENCODER, "attention_window": 8})
    texts = write_texts(tmp_path / "texts.jsonl", [26, 30, 28, 26, 3])
    together = extract_to(tmp_path / "a", model, texts, precision="float32")
    alone = extract_to(tmp_path / "b", model, texts, precision="float32", batch_tokens=1)
    assert difference_from_eager(together, model) == (0.0, False)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.attention[:, :] - other.attention[:, :]).max() < 1e-5
        assert np.abs(one.key[:, :] - other.key[:, :]).max() < 1e-4


def test_a_window_wider_than_all_texts_is_stated_all_the_same(tmp_path: Path) -> None:
    model = save(tmp_path / "m", "Longformer", "Model", {**ENCODER, "attention_window": 96})
    texts = write_texts(tmp_path / "texts.jsonl", [12, 7])
    (stack,) = extract_to(tmp_path / "v", model, texts).spec.stacks
    assert {recipe.mask for recipe in stack.recipe} == {Mask(window=48)}
    assert {recipe.unknown for recipe in stack.recipe} == {None}


def test_a_bias_is_stated_only_where_all_of_it_was_seen(tmp_path: Path) -> None:
    settings = {**T5, "encoder_attention_type": "local", "local_radius": 63}
    model = save(tmp_path / "m", "LongT5", "Model", settings)
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    pairs = write_pairs(tmp_path / "pairs.jsonl", [(12, 7), (30, 4)])
    vault = extract_to(tmp_path / "v", model, pairs, target_column="target")
    recipe = vault.spec.stacks[0].recipe[0]
    assert recipe.unknown is None
    assert recipe.mask == Mask(window=63)


@pytest.mark.parametrize("family", ["LED", "LongT5"])
def test_derived_windows_are_never_laid_out_as_maps(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = {**T5, "encoder_attention_type": "local", "local_radius": 7}
    model = save(tmp_path / "m", family, "Model", LED if family == "LED" else local)
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    pairs = write_pairs(tmp_path / "pairs.jsonl", [(40, 4), (26, 7), (30, 5)])
    stored = extract_to(tmp_path / "v", model, pairs, target_column="target", precision="float32")
    seen: list[Any] = []
    layout = sliding if family == "LED" else local_layout
    name = layout.QUERY_KEY

    def watch(steps: Steps, tokens: int, describe: bool, weigh: bool) -> Any:
        found = layout.lay_out(steps, tokens, describe, weigh)
        seen.append((describe, found.attention is None, found.output is None))
        return found

    monkeypatch.setattr(tap, "LAYOUTS", {**LAYOUTS, name: watch})
    options: dict[str, Any] = {"target_column": "target", "attention": "derive"}
    derived = extract_to(tmp_path / "w", model, pairs, **options)
    assert (True, False, True) in seen, "the first batch is compared as a map"
    assert all(none and not lacking for describe, none, lacking in seen if not describe)
    assert sum(not describe for describe, _, _ in seen) > 0
    for one, other in zip(stored, derived, strict=True):
        found = other.stack("encoder").attention[:, :]
        assert np.abs(one.stack("encoder").attention[:, :] - found).max() < 1e-3
    report = qkvault.verify(derived.path, full=True, derive=True)
    assert report.ok, report.damages


@pytest.mark.parametrize("family", ["Longformer", "LongT5"])
def test_windows_of_half_precision_are_stated_too(family: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dtype": "bfloat16"}
    texts = write_texts(tmp_path / "texts.jsonl", [30, 12])
    if family == "Longformer":
        settings: dict[str, Any] = {**ENCODER, "attention_window": 16}
    else:
        settings = {**T5, "encoder_attention_type": "local", "local_radius": 8}
        texts = write_pairs(tmp_path / "pairs.jsonl", [(30, 5), (12, 7)])
        options["target_column"] = "target"
    model = save(tmp_path / "m", family, "Model", settings)
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    stack = extract_to(tmp_path / "v", model, texts, **options).spec.stacks[0]
    assert {recipe.unknown for recipe in stack.recipe} == {None}
    assert {recipe.mask for recipe in stack.recipe} == {Mask(window=8)}
    assert all((recipe.bias is None) is (family == "Longformer") for recipe in stack.recipe)
    assert qkvault.verify(tmp_path / "v", full=True).ok


def test_sinks_that_no_recipe_states_are_said_to_take_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save(tmp_path / "m", "GptOss", "Model", {**DECODER, **EXPERTS, "sliding_window": 7})
    texts = write_texts(tmp_path / "texts.jsonl", [20, 9])
    assert extract_to(tmp_path / "v", model, texts).spec.stacks[0].beside is None
    unknown = Recipe(Mask(causal=True), unknown="it is not known here")
    monkeypatch.setattr(stacks, "find_recipe", lambda *_, **__: unknown)
    assert extract_to(tmp_path / "w", model, texts).spec.stacks[0].beside == "sinks"
    for vault in (tmp_path / "v", tmp_path / "w"):
        report = qkvault.verify(vault, full=True)
        assert report.ok, report.damages
