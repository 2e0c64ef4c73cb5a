"""Captured attention is the model's own, layer by layer, and what cannot be captured is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from extractor.models import (
    DEPTH,
    FAMILIES,
    record_of,
    tiny_bert,
    tiny_family,
    tiny_gpt2,
    tiny_llama,
)
from qkvault import InputError
from qkvault_extractor import capture
from qkvault_extractor.capture import AttentionCall, Collector
from qkvault_extractor.model import LoadedModel, load_config, load_model, load_tokenizer
from qkvault_extractor.probe import probe
from qkvault_extractor.stacks import number_layers
from qkvault_extractor.tap import Tap

if TYPE_CHECKING:
    from torch import Tensor

IDS = [2, 7, 9, 4, 11, 30, 8, 15, 21, 33, 6, 5, 12, 19]
BATCH = [record_of(IDS[:6]), record_of(IDS)]
"""A short example, which is padded, and a long one."""


def load(path: Path) -> LoadedModel:
    name = str(path)
    return load_model(name, load_config(name), load_tokenizer(name), "cpu")


def run(loaded: LoadedModel) -> list[AttentionCall]:
    calls: list[AttentionCall] = []
    with torch.inference_mode(), Collector(loaded.model, calls.append):
        loaded.forward(BATCH)
    return calls


def own_attention(loaded: LoadedModel) -> tuple[Tensor, ...]:
    loaded.model.set_attn_implementation("eager")
    with torch.inference_mode():
        output = loaded.forward(BATCH, output_attentions=True)
    return cast("tuple[Tensor, ...]", output.attentions)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(tiny_family(tmp_path_factory.mktemp(request.param), request.param))


def test_attention_equals_the_models_own_to_the_last_bit(family: LoadedModel) -> None:
    calls, own = run(family), own_attention(family)
    assert len(calls) == len(own) == DEPTH
    for call, theirs in zip(calls, own, strict=True):
        for example, record in enumerate(BATCH):
            n = len(record.tokens)
            assert torch.equal(call.attention[example, :, :n, :n], theirs[example, :, :n, :n])
            assert call.attention[example, :, :n, :n].std() > 0.02, "too even to tell anything"


def test_query_key_and_scaling_give_the_attention(family: LoadedModel) -> None:
    for call in run(family):
        window = getattr(family.model.config, "sliding_window", None)
        causal = family.model.config.model_type not in (
            "bert",
            "roberta",
            "electra",
            "albert",
            "distilbert",
        )
        shared = call.query.shape[1] // call.key.shape[1]
        for example, record in enumerate(BATCH):
            n = len(record.tokens)
            key = call.key[example, :, :n].repeat_interleave(shared, 0)
            scores = call.query[example, :, :n] @ key.transpose(1, 2) * call.scaling
            allowed = torch.ones(n, n, dtype=torch.bool)
            if causal:
                allowed = allowed.tril()
            if window is not None:
                allowed = allowed.triu(1 - window)
            derived = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
            assert torch.allclose(derived, call.attention[example, :, :n, :n], atol=2e-6, rtol=0)


def test_probe_describes_the_stack(family: LoadedModel) -> None:
    seen = probe(family, BATCH[1:])
    (stack,) = seen.stacks
    assert seen.difference == 0.0
    assert stack.layers == tuple(range(DEPTH))
    assert (stack.heads, stack.head_dim, stack.value_dim) == (4, 8, 8)
    grouped = getattr(family.model.config, "num_key_value_heads", None) == 2
    assert stack.key_heads == (2 if grouped else 4)
    encoder = family.model.config.model_type in (
        "bert",
        "roberta",
        "electra",
        "albert",
        "distilbert",
    )
    assert (stack.name, stack.causal) == (("encoder", False) if encoder else ("decoder", True))
    assert [site.layer for site in seen.sites] == list(stack.layers)


def test_scaling_is_kept_per_layer(tmp_path: Path) -> None:
    (stack,) = probe(load(tiny_gpt2(tmp_path)), BATCH[1:]).stacks
    assert stack.scaling == pytest.approx([8**-0.5 / (layer + 1) for layer in range(DEPTH)])


def test_a_module_called_several_times_makes_several_layers(tmp_path: Path) -> None:
    seen = probe(load(tiny_family(tmp_path, "albert")), BATCH[1:])
    assert len({site.module for site in seen.sites}) == 1
    assert seen.stacks[0].layers == tuple(range(DEPTH))


@pytest.mark.parametrize(
    ("names", "indices", "expected"),
    [
        (["layers.2.attn", "layers.5.attn"], [2, 5], (2, 5)),
        (["h.1.attn", "h.4.attn"], [None, None], (1, 4)),
        (["shared", "shared", "shared"], [0, 0, 0], (0, 1, 2)),
        (["first", "second"], [None, None], (0, 1)),
        (["blocks.1.a", "blocks.1.b"], [1, 1], (0, 1)),
    ],
)
def test_layers_bear_the_models_own_numbers(
    names: list[str], indices: list[int | None], expected: tuple[int, ...]
) -> None:
    calls: list[Any] = [
        SimpleNamespace(name=name, module=SimpleNamespace(layer_idx=index))
        for name, index in zip(names, indices, strict=True)
    ]
    assert number_layers(calls) == expected


def test_padding_changes_nothing(tmp_path: Path) -> None:
    loaded = load(tiny_bert(tmp_path))
    padded = run(loaded)
    alone: list[AttentionCall] = []
    with torch.inference_mode(), Collector(loaded.model, alone.append):
        loaded.forward(BATCH[:1])
    n = len(BATCH[0].tokens)
    for a, b in zip(padded, alone, strict=True):
        assert torch.allclose(a.attention[0, :, :n, :n], b.attention[0], atol=2e-5, rtol=0)
        assert torch.allclose(a.query[0, :, :n], b.query[0], atol=1e-4, rtol=0)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    loaded = load(tiny_llama(tmp_path))
    with torch.inference_mode():
        before = loaded.forward(BATCH).last_hidden_state
        run(loaded)
        after = loaded.forward(BATCH).last_hidden_state
    assert loaded.model.config._attn_implementation == "sdpa"
    assert torch.equal(before, after)


def without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let capture by the interface go wrong."""
    found = capture._own_eager

    def forget(module_class: Any) -> Any:
        eager = found(module_class)
        return lambda module, q, k, v, mask, **terms: eager(module, q, k, v, None, **terms)

    monkeypatch.setattr(capture, "_own_eager", forget)


def test_capture_that_differs_from_the_model_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tiny_llama(tmp_path))
    assert probe(loaded, [record_of(IDS)]).way == "interface"
    without_mask(monkeypatch)
    seen = probe(loaded, [record_of(IDS)])
    assert (seen.way, seen.difference) == ("operations", 0.0)


def test_capture_that_differs_every_way_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_mask(monkeypatch)
    monkeypatch.setattr(Tap, "end_scores", shifted(Tap.end_scores))
    with pytest.raises(InputError, match=r"type llama\) cannot be captured: .* differs from its"):
        probe(load(tiny_llama(tmp_path)), [record_of(IDS)])


def shifted(end_scores: Any) -> Any:
    return lambda tap, scores, attention, *rest: end_scores(tap, scores, attention.roll(1), *rest)


def test_models_whose_attention_is_no_map_are_refused(tmp_path: Path) -> None:
    from transformers import BigBirdConfig, BigBirdModel

    template = load(tiny_bert(tmp_path))
    config = BigBirdConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        attention_type="block_sparse",
        block_size=2,
        num_random_blocks=1,
    )
    network = cast("Any", BigBirdModel(config)).eval()
    loaded = replace(template, model=network, name="some bigbird")
    with pytest.raises(InputError, match=r"some bigbird .type big_bird. cannot be captured"):
        probe(loaded, [record_of(IDS)])


def test_layers_of_different_shape_are_refused(tmp_path: Path) -> None:
    loaded = load(tiny_bert(tmp_path))
    attention = loaded.model.encoder.layer[1].attention.self
    attention.attention_head_size = 16  # two heads of 16 where the others have four of 8
    with pytest.raises(InputError, match=r"its layers differ in heads: \[2, 4\]"):
        probe(loaded, BATCH[1:])
