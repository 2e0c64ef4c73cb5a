"""A text's attention is its own, whichever texts it shares a batch with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from extractor.architecture import ENCODER, LATENT, gpt
from extractor.fidelity import extract_to, run_model
from extractor.models import save, tiny_bert, write_texts
from qkvault_extractor.padding import part_by_length

if TYPE_CHECKING:
    import qkvault

LENGTHS = [38, 34, 36, 38]  # of one bucket
FUNNEL = {
    **gpt("d_model", "num_layers", "n_head"),
    "block_sizes": [2, 2],
    "num_decoder_layers": 1,
    "d_head": 8,
    "d_inner": 48,
}
CHOOSES = {**LATENT, "index_topk": 6, "index_n_heads": 2, "index_head_dim": 8}


def extract_both(model: Path, folder: Path) -> tuple[qkvault.Vault, qkvault.Vault]:
    """As batches are, and one by one."""
    texts = write_texts(folder / "texts.jsonl", LENGTHS)
    given: dict[str, Any] = {"precision": "float32"}
    together = extract_to(folder / "together", model, texts, **given, batch_tokens=4096)
    return together, extract_to(folder / "alone", model, texts, **given, batch_tokens=1)


@pytest.mark.parametrize(
    ("prefix", "settings"), [("ConvBert", ENCODER), ("Funnel", FUNNEL), ("DeepseekV32", CHOOSES)]
)
def test_models_that_see_padding_are_given_none(
    prefix: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = save(tmp_path / "m", prefix, "Model", settings)
    together, alone = extract_both(model, tmp_path)
    assert together.spec.provenance["padded"] is False
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.attention[:] - other.attention[:]).max() < 1e-4


def test_convolutions_give_what_the_model_gives_for_the_text_alone(tmp_path: Path) -> None:
    model = save(tmp_path / "m", "ConvBert", "Model", ENCODER)
    for example in extract_both(model, tmp_path)[0]:
        output = run_model(model, "AutoModel", [example], "eager")
        own = np.stack([layer[0].numpy() for layer in output.attentions])
        assert np.abs(example.attention[:] - own).max() < 1e-5


def test_other_models_share_batches_of_unequal_texts(tmp_path: Path) -> None:
    together, alone = extract_both(tiny_bert(tmp_path / "m"), tmp_path)
    assert together.spec.provenance["padded"] is True
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.attention[:] - other.attention[:]).max() < 1e-5


def test_only_examples_of_equal_sides_are_of_one_kind() -> None:
    lengths, targets = np.array([5, 4, 5, 5, 4], np.int32), np.array([2, 2, 2, 3, 2], np.int32)
    kinds = np.array([0, 0, 1, 0, 0], np.int64)
    assert part_by_length(kinds, lengths, targets).tolist() == [1, 0, 3, 2, 0]
