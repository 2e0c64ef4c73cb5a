"""Windows and chunks that are wider than a probe, learnt from the longest text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import qkvault
from extractor.architecture import DECODER, EXPERTS
from extractor.fidelity import extract_to
from extractor.models import save, tiny_llama, write_texts
from qkvault import Mask, Recipe
from qkvault_extractor import masks, probe
from qkvault_extractor.recipes import fit_rule

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = [60, 33, 9]
IDS = {"vocab_size": 48, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
IMAGES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "vision_output_dim": 32,
    "projector_input_dim": 32,
    "projector_output_dim": 32,
}


@pytest.fixture(autouse=True)
def short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PROBE_CELLS", 2 * 3 * 4 * 20**2)  # 20 tokens


def llama_4(folder: Path) -> Path:
    """Chunks of 30 tokens in all layers but the last."""
    chunks = {"attention_chunk_size": 30, "no_rope_layers": [1, 1, 0], "intermediate_size_mlp": 48}
    parts = {"text_config": {**DECODER, **IDS, **EXPERTS, **chunks}, "vision_config": IMAGES}
    return save(folder / "llama4", "Llama4", "ForConditionalGeneration", parts)


@pytest.mark.parametrize("attention", ["store", "derive"])
def test_chunks_that_are_larger_than_a_probe_are_stated(attention: str, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    vault = extract_to(tmp_path / "v", llama_4(tmp_path), texts, attention=attention)
    chunked = Mask(causal=True, chunk=30)
    (stack,) = vault.spec.stacks
    assert [recipe.mask for recipe in stack.recipe] == [chunked, chunked, Mask(causal=True)]
    report = qkvault.verify(vault.path, full=True, derive=True)
    assert report.ok, report.damages


def test_a_model_that_does_not_run_so_has_no_rule_for_longer_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> Tensor:
        raise RuntimeError("this attention is needed")

    monkeypatch.setattr(masks, "_give_nothing", refuse)
    texts = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    (stack,) = extract_to(tmp_path / "v", tiny_llama(tmp_path / "m"), texts).spec.stacks
    unknown = {recipe.unknown for recipe in stack.recipe}
    assert unknown == {"the model's mask is known up to 20 tokens only"}


SEEN = torch.ones(40, 40, dtype=torch.bool).tril()
PLAIN = Recipe(Mask(causal=True))


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (SEEN, Mask(causal=True)),
        (SEEN.triu(-24), Mask(causal=True, window=24)),
        (SEEN.triu(-9), None),  # what shorter texts would have shown
        (SEEN & (torch.arange(40) % 7 != 5), None),
    ],
)
def test_rules_hold_on_the_longest_text(shown: Tensor, found: Mask | None) -> None:
    recipe = fit_rule(PLAIN, shown[None, None], 20)
    if found is None:
        assert recipe.unknown is not None
        assert recipe.mask == Mask(causal=True)
    else:
        assert recipe == Recipe(found)


def test_heads_that_hide_other_keys_follow_no_rule() -> None:
    assert fit_rule(PLAIN, torch.stack([SEEN, SEEN.triu(-24)])[None], 20).unknown is not None
