"""Head metrics that an extraction keeps are those of the attention it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault
from extractor.models import minilm, tiny_bert, tiny_family, tiny_gpt2, write_texts
from qkvault import METRICS, head_metrics, token_roles
from qkvault_extractor import ExtractOptions, extract

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = [3, 30, 8, 8, 21, 70, 4]


def extracted(model: Path, folder: Path, **options: object) -> qkvault.Vault:
    data = write_texts(folder / "texts.jsonl", LENGTHS)
    out = folder / "v.vault"
    extract(
        ExtractOptions(
            model=str(model),
            data=(str(data),),
            out=out,
            id_column="id",
            precision="float32",
            batch_tokens=128,
            **options,  # type: ignore[arg-type]
        )
    )
    return qkvault.open(out)


@pytest.mark.parametrize("family", ["bert", "gpt2", "mistral"])
def test_metrics_are_those_of_the_attention_kept(tmp_path: Path, family: str) -> None:
    model = tiny_family(tmp_path / "m", family)
    with extracted(model, tmp_path) as vault:
        assert vault.spec.metrics == METRICS
        stack = vault.spec.stacks[0]
        for example in vault:
            roles = token_roles(example.record)
            for place, (layer, recipe) in enumerate(zip(stack.layers, stack.recipe, strict=True)):
                expected = head_metrics(example.attention[layer], roles, recipe.mask)
                np.testing.assert_allclose(
                    example.metrics.array[place], expected, rtol=2e-5, atol=5e-6
                )


def test_metrics_go_with_attention(tmp_path: Path) -> None:
    with extracted(tiny_gpt2(tmp_path / "m"), tmp_path, arrays=("query", "key")) as vault:
        assert vault.spec.metrics == ()


def test_pairs_have_mass_between_texts(tmp_path: Path) -> None:
    import json

    rows = [{"a": "the cat sat on the mat", "b": "a dog lay, on the rug."}] * 2
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ExtractOptions(
        model=str(tiny_bert(tmp_path / "m")),
        data=(str(data),),
        out=tmp_path / "v",
        text_columns=("a", "b"),
    )
    extract(options)
    with qkvault.open(tmp_path / "v") as vault:
        example = vault[0]
        a_to_b = example.metrics["a_to_b"]
        second = (example.segments == 1) & ~example.special
        first = (example.segments == 0) & ~example.special
        for place, layer in enumerate(vault.spec.stacks[0].layers):
            weights = example.attention[layer][:, first][:, :, second]
            np.testing.assert_allclose(a_to_b[place], weights.sum(-1).mean(-1), atol=1e-4)
        assert (example.metrics["special"] + example.metrics["content"] < 1).all()


def test_real_heads_are_what_they_are_known_to_be(tmp_path: Path) -> None:
    with extracted(minilm(), tmp_path) as vault:
        entropy, normalized = vault.metrics("entropy"), vault.metrics("normalized_entropy")
        lengths = vault.lengths[:, None, None]
        assert (entropy <= np.log(lengths) + 1e-5).all()
        np.testing.assert_allclose(normalized, entropy / np.log(lengths), rtol=1e-5)
        assert np.isnan(vault.metrics("b_to_a")).all()
        special = vault.metrics("special").mean((0, 2))  # (layer,)
        assert special.max() > 0.4, "trained BERTs rest on [SEP] in some layer"
