"""Where only queries, keys and values are kept, torch's fused attention runs the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault
from extractor.models import tiny_bert, tiny_llama, write_texts
from extractor.test_derive import tiny_gemma2, tiny_mistral
from qkvault_extractor import ExtractOptions, extract, fused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LENGTHS = [3, 30, 8, 8, 70, 30]


def extract_vectors(
    model: Path, tmp_path: Path, name: str, arrays: tuple[str, ...]
) -> qkvault.Vault:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    out = tmp_path / name
    options = ExtractOptions(
        str(model), (str(data),), out, precision="float32", arrays=arrays, device="cpu"
    )
    extract(options)
    return qkvault.open(out)


@pytest.mark.parametrize("make", [tiny_bert, tiny_llama, tiny_mistral])
def test_vectors_are_those_of_the_models_own_attention(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    attend = fused.FusedAttention.__call__
    monkeypatch.setattr(
        fused.FusedAttention,
        "__call__",
        lambda self, *given: calls.append(1) or attend(self, *given),
    )
    model = make(tmp_path / "model")
    kept = extract_vectors(model, tmp_path, "vectors.vault", ("query", "key", "value"))
    assert calls
    calls.clear()
    whole = extract_vectors(model, tmp_path, "whole.vault", qkvault.ARRAYS)
    assert not calls
    for ours, own in zip(kept, whole, strict=True):
        for name in ("query", "key", "value"):
            for layer in range(3):
                a, b = getattr(ours, name)[layer], getattr(own, name)[layer]
                assert np.abs(a - b).max() < 1e-4


def test_a_softcap_is_left_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("fused attention knows no softcap")

    monkeypatch.setattr(fused.FusedAttention, "__call__", refuse)
    model = tiny_gemma2(tmp_path / "model")
    with extract_vectors(model, tmp_path, "v.vault", ("query", "key", "value")) as vault:
        assert vault[0].query[0].shape[0] == 4


def test_another_output_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = fused.FusedAttention.__call__
    monkeypatch.setattr(
        fused.FusedAttention, "__call__", lambda self, *given: attend(self, *given) * 1.5
    )
    model = tiny_bert(tmp_path / "model")
    kept = extract_vectors(model, tmp_path, "vectors.vault", ("query",))
    whole = extract_vectors(model, tmp_path, "whole.vault", qkvault.ARRAYS)
    assert np.array_equal(kept[1].query[2], whole[1].query[2])
