"""``attention="derive"``: queries, keys and a recipe are kept, and give the model's attention."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import qkvault
from extractor.models import (
    POSITIONS,
    llama_settings,
    minilm,
    save,
    stories260k,
    tiny_bert,
    tiny_llama,
    write_texts,
)
from qkvault import InputError, PlanMismatch, Recipe
from qkvault_extractor import ExtractOptions, extract, tiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LENGTHS = [3, 30, 8, 8, 70, 30]
SHARED = {**llama_settings(), "max_position_embeddings": POSITIONS}


def tiny_gemma2(path: Path) -> Path:
    settings = {**SHARED, "sliding_window": 6, "attn_logit_softcapping": 3.0}
    return save(path, "Gemma2", "ForCausalLM", settings)


def tiny_gpt_oss(path: Path) -> Path:
    settings = {
        **SHARED,
        "sliding_window": 7,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    return save(path, "GptOss", "ForCausalLM", settings)


def tiny_mistral(path: Path) -> Path:
    return save(path, "Mistral", "ForCausalLM", {**SHARED, "sliding_window": 5})


MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": lambda path: tiny_bert(path, labels=2),
    "llama": tiny_llama,
    "mistral": tiny_mistral,
    "gemma2": tiny_gemma2,
    "gpt_oss": tiny_gpt_oss,
}


def run(model: Path, folder: Path, name: str, **options: Any) -> Path:
    data = folder / "texts.jsonl"
    if not data.exists():
        write_texts(data, LENGTHS)
    out = folder / name
    extract(
        ExtractOptions(
            str(model), (str(data),), out, device="cpu", batch_tokens=160, id_column="id", **options
        )
    )
    return out


def both(model: Path, folder: Path, **options: Any) -> tuple[qkvault.Vault, qkvault.Vault]:
    """The same texts with attention stored and with attention derived."""
    stored = run(model, folder, "stored", **options)
    derived = run(model, folder, "derived", attention="derive", **options)
    return qkvault.open(stored), qkvault.open(derived)


@pytest.mark.parametrize("family", MAKERS)
def test_derived_attention_is_the_stored_one(tmp_path: Path, family: str) -> None:
    stored, derived = both(MAKERS[family](tmp_path / "m"), tmp_path, precision="float32")
    with stored, derived:
        assert derived.spec.stacks == stored.spec.stacks
        assert derived.spec.metrics == stored.spec.metrics
        assert derived.spec.derived_error is not None
        assert derived.spec.derived_error < 5e-6
        for one, other in zip(stored, derived, strict=True):
            assert one.tokens == other.tokens
            assert other.attention.derived
            np.testing.assert_allclose(other.attention[:, :], one.attention[:, :], atol=5e-6)
            np.testing.assert_allclose(other.query[:, :], one.query[:, :], atol=2e-5)
            codes, own = other.thumbnail.codes(), one.thumbnail.codes()
            assert codes.shape == own.shape
            assert np.abs(codes.astype(int) - own).max() <= 1
            np.testing.assert_allclose(other.metrics.array, one.metrics.array, rtol=2e-3, atol=2e-5)
            if one.logits is not None:
                np.testing.assert_allclose(other.logits, one.logits, atol=1e-4)
    report = qkvault.verify(tmp_path / "derived", full=True, derive=True)
    assert report.ok, report.damages


@pytest.mark.parametrize(("model", "error"), [(minilm, 5e-4), (stories260k, 2e-3)])
def test_real_models_within_what_rounding_explains(
    tmp_path: Path, model: Callable[[], Path], error: float
) -> None:
    # The small Llama's vectors have 8 numbers and long tails: float16 costs it more than MiniLM.
    stored, derived = both(model(), tmp_path, truncate=True)
    with stored, derived:
        assert derived.spec.derived_error is not None
        assert 0 < derived.spec.derived_error < error
        worst = max(
            float(np.abs(other.attention[:, :] - one.attention[:, :]).max())
            for one, other in zip(stored, derived, strict=True)
        )
        assert 0 < worst < error
        assert json.loads(json.dumps(derived.info()))["attention"] == "derived"
    for name in ("stored", "derived"):
        report = qkvault.verify(tmp_path / name, derive=True)
        assert report.ok, report.damages


class Watch(TorchDispatchMode):
    """Notes the largest tensor that any operation gives."""

    largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return result


@pytest.mark.parametrize("attention", ["store", "derive"])
def test_no_map_of_all_tokens_ever_exists(
    tmp_path: Path, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvault_extractor import run as runner

    cells, tokens = 1 << 12, 150
    monkeypatch.setitem(tiles.CELLS, "cpu", cells)
    watch = Watch()
    original = runner.run_units

    def watched(*given: Any, **named: Any) -> int:
        with watch:
            return original(*given, **named)

    monkeypatch.setattr(runner, "run_units", watched)
    write_texts(tmp_path / "texts.jsonl", [tokens] * 2)
    run(tiny_llama(tmp_path / "m"), tmp_path, "v", attention=attention)
    allowed = max(cells, 4 * 64 * 64 * 2, 160 * 2 * 100)  # tiles, thumbnails, hidden states
    assert (watch.largest <= allowed) is (attention == "derive")
    assert (watch.largest >= 4 * tokens**2) is (attention == "store")


def test_values_may_come_along_and_attention_is_left_out(tmp_path: Path) -> None:
    path = run(tiny_llama(tmp_path / "m"), tmp_path, "v", attention="derive")
    with qkvault.open(path) as vault:
        assert vault.spec.arrays == ("query", "key", "value")
        assert vault[0].value[0, 0].shape == (vault[0].length, 8)
        assert vault.spec.provenance["capture"] == (
            "transformers attention interface, attention in tiles by the layers' recipes"
        )


def test_queries_and_keys_are_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="add key to arrays"):
        ExtractOptions("m", ("d",), tmp_path, attention="derive", arrays=("attention", "query"))
    with pytest.raises(InputError, match="unknown attention 'guess'"):
        ExtractOptions("m", ("d",), tmp_path, attention="guess")  # type: ignore[arg-type]


def test_another_way_of_keeping_attention_is_another_plan(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "m")
    run(model, tmp_path, "v", attention="derive")
    with pytest.raises(PlanMismatch, match="attention"):
        run(model, tmp_path, "v", arrays=("query", "key", "value"))


@pytest.mark.parametrize("reason", ["scores depend on memory", None])
def test_what_cannot_be_derived_is_refused_by_name(
    tmp_path: Path, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvault import Sinks
    from qkvault_extractor import stacks

    found = Recipe(unknown=reason) if reason else Recipe(sinks=Sinks((0.0,) * 4, "gate"))
    monkeypatch.setattr(stacks, "find_recipe", lambda *_, **__: found)
    with pytest.raises(InputError, match=r"layer 0: .*; use --attention store") as refused:
        run(tiny_bert(tmp_path / "m"), tmp_path, "v", attention="derive")
    assert (reason or "gate the heads' outputs") in str(refused.value)
    assert not (tmp_path / "v").exists()


def test_a_recipe_that_gives_another_output_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvault_extractor import stacks

    monkeypatch.setattr(stacks, "find_recipe", lambda *_, **__: Recipe(softcap=0.1))
    with pytest.raises(InputError, match="another output"):
        run(tiny_bert(tmp_path / "m"), tmp_path, "v", attention="derive")
