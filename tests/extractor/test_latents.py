"""Texts that a model's latents read: bytes are the source, learnt queries the target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from extractor.encoder_rows import PERCEIVER
from extractor.fidelity import difference_from_eager, extract_to
from qkvault import InputError
from qkvault_extractor import repair
from qkvault_extractor.machine import quiet

TEXTS = ["a cat sat", "dogs läuft, and run over hills", "hm"]


@pytest.fixture
def perceiver(tmp_path: Path) -> Path:
    """A Perceiver with its tokenizer of bytes; its configuration knows no padding."""
    from transformers import PerceiverConfig, PerceiverForMaskedLM, PerceiverTokenizer

    folder = tmp_path / "perceiver"
    with quiet():
        torch.manual_seed(0)
        PerceiverTokenizer(model_max_length=72).save_pretrained(folder)
        model = PerceiverForMaskedLM(PerceiverConfig(vocab_size=262, **PERCEIVER))
        model.save_pretrained(folder)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    return path


def test_latents_read_bytes(perceiver: Path, texts: Path, tmp_path: Path) -> None:
    vault = extract_to(tmp_path / "v", perceiver, texts, precision="float32")
    for example, text in zip(vault, TEXTS, strict=True):
        assert len(example.tokens) == len(text.encode()) + 2
        assert example.record.target is not None
        assert example.record.target.tokens == tuple(f"latent {n}" for n in range(6))
        cross = example.stack("cross").attention[:, :]
        assert cross.shape == (1, 2, 6, len(example.tokens))
        assert np.abs(cross.sum(-1) - 1).max() < 1e-5, "padding has a share"
    assert [stack.name for stack in vault.spec.stacks] == ["decoder", "cross"]
    assert difference_from_eager(vault, perceiver, "AutoModelForMaskedLM") == (0.0, False)


def test_their_vaults_are_repaired(perceiver: Path, texts: Path, tmp_path: Path) -> None:
    whole = extract_to(tmp_path / "v", perceiver, texts)
    next((tmp_path / "v").glob("b*/cross/query/c.*")).unlink()
    repair(tmp_path / "v")
    with extract_to(tmp_path / "v", perceiver, texts) as repaired:
        assert repaired.digest == whole.digest


def test_a_bare_one_lacks_its_embedding(perceiver: Path, texts: Path, tmp_path: Path) -> None:
    from transformers import PerceiverConfig, PerceiverModel

    with quiet():
        PerceiverModel(PerceiverConfig(**PERCEIVER)).save_pretrained(perceiver)
    with pytest.raises(InputError, match="its weights lack"):
        extract_to(tmp_path / "v", perceiver, texts)
