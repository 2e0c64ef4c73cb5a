"""Models that compute attention in code of their own, by the commands a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import qkvault
from extractor.architecture import ENCODER
from extractor.fidelity import batches_of, run_model
from extractor.models import save, write_texts
from qkvault_cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTHS = [3, 18, 7, 7, 30]
WIDTHS = {"hidden_size": 32, "initializer_range": 0.3}
DEBERTA = {
    **ENCODER,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}


def bloom(path: Path) -> Path:
    settings = {**WIDTHS, "n_layer": 3, "n_head": 4}
    return save(path, "Bloom", "ForSequenceClassification", settings, labels=3)


def falcon(path: Path) -> Path:
    settings = {**WIDTHS, "num_hidden_layers": 3, "num_attention_heads": 4}
    return save(path, "Falcon", "ForSequenceClassification", settings, labels=3)


def deberta(path: Path) -> Path:
    return save(path, "DebertaV2", "ForSequenceClassification", DEBERTA, labels=3)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def extract(model: Path, folder: Path, *more: object) -> Result:
    texts = write_texts(folder / "texts.jsonl", LENGTHS)
    out = folder / "v.vault"
    return run("extract", "--model", model, "--data", texts, "--out", out, "--device", "cpu", *more)


def check_against_own(vault: qkvault.Vault, model: Path, prefix: str) -> None:
    """Attention within its encoding's error of the model's own; logits equal."""
    bound = vault[0].attention.max_error
    assert bound is not None
    for batch in batches_of(vault):
        own: Any = run_model(model, f"{prefix}ForSequenceClassification", batch, "eager")
        for row, example in enumerate(batch):
            n = example.length
            theirs = np.stack([layer[row, :, :n, :n].numpy() for layer in own.attentions])
            assert np.abs(example.attention[:, :] - theirs).max() <= bound
            assert np.abs(example.logits - own.logits[row].numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("make", "prefix", "keys", "derivable"),
    [(bloom, "Bloom", 4, True), (falcon, "Falcon", 1, True), (deberta, "DebertaV2", 4, False)],
)
def test_extract_and_verify(
    make: Callable[[Path], Path], prefix: str, keys: int, derivable: bool, tmp_path: Path
) -> None:
    model = make(tmp_path / "model")
    result = extract(model, tmp_path)
    assert result.exit_code == 0, result.output
    out = tmp_path / "v.vault"
    verified = run("verify", out, "--full")
    assert verified.exit_code == 0, verified.output
    derived = run("verify", out, "--derive")
    assert (derived.exit_code == 0) is derivable, derived.output
    expected = "derived attention within" if derivable else "cannot be derived: the model adds"
    assert expected in derived.output
    facts = json.loads(run("info", out, "--json").stdout)
    assert facts["complete"] is True
    vault = qkvault.open(out)
    (stack,) = vault.spec.stacks
    assert (stack.layers, stack.heads, stack.key_heads) == ((0, 1, 2), 4, keys)
    assert vault.spec.provenance["capture"] == "operations of the model's own eager attention"
    assert all((recipe.unknown is None) is derivable for recipe in stack.recipe)
    check_against_own(vault, model, prefix)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ((), "cannot be derived: global tokens attend"),  # it classifies by the first token
        (("--global-tokens", "none"), "derived attention within"),
    ],
)
def test_windows_and_global_tokens(chosen: tuple[str, ...], said: str, tmp_path: Path) -> None:
    settings = {**ENCODER, "attention_window": 8}
    model = save(tmp_path / "m", "Longformer", "ForSequenceClassification", settings, labels=3)
    result = extract(model, tmp_path, *chosen)
    assert result.exit_code == 0, result.output
    assert run("verify", tmp_path / "v.vault", "--full").exit_code == 0
    assert said in run("verify", tmp_path / "v.vault", "--derive").output
    with qkvault.open(tmp_path / "v.vault") as vault:
        seen = (vault[4].attention[0, 0] > 0).sum(axis=1).tolist()
        tokens = len(vault[4].tokens)
    assert tokens == 31
    assert seen[0] == (5 if chosen else tokens)
    assert seen[15] == (9 if chosen else 10)


def test_a_bias_that_no_recipe_states_is_not_derived(tmp_path: Path) -> None:
    result = extract(deberta(tmp_path / "model"), tmp_path, "--attention", "derive")
    assert result.exit_code == 2
    assert "cannot be derived, layer 0: the model adds a bias that depends" in result.output
    assert not (tmp_path / "v.vault").exists()


def test_sparse_attention_is_refused_by_name(tmp_path: Path) -> None:
    settings = {**ENCODER, "attention_type": "block_sparse", "block_size": 2}
    model = save(tmp_path / "sparse", "BigBird", "Model", {**settings, "num_random_blocks": 1})
    result = extract(model, tmp_path)
    assert result.exit_code == 2
    assert "model sparse (type big_bird) cannot be captured: encoder.layer.0.attention.self" in (
        result.output
    )
    assert not (tmp_path / "v.vault").exists()
