"""Bias by relative position, as T5 has it, read off the model's own calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from qkvault import Mask, Recipe, derive_attention
from qkvault_extractor.capture import AttentionCall, Collector
from qkvault_extractor.model import quiet
from qkvault_extractor.recipes import find_recipe
from qkvault_extractor.tiles import TiledAttention

TOKENS = 40
SETTINGS: dict[str, Any] = {
    "vocab_size": 60,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 20,
    "initializer_factor": 4.0,
    "decoder_start_token_id": 0,
}


def t5_encoder() -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    with quiet():
        model = T5EncoderModel(T5Config(**SETTINGS)).eval()
    bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    torch.nn.init.normal_(bias, std=2.0)
    return model


def t5_inputs() -> dict[str, torch.Tensor]:
    ids = torch.from_numpy(np.random.default_rng(0).integers(2, 60, (2, TOKENS)))
    mask = torch.ones(2, TOKENS, dtype=torch.long)
    mask[1, 25:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def calls_of(model: Any) -> list[AttentionCall]:
    calls: list[AttentionCall] = []
    with torch.inference_mode(), quiet(), Collector(model, calls.append):
        model(**t5_inputs())
    return calls


def scores_of(call: AttentionCall) -> np.ndarray:
    """What softmax gets for the first example, float64 ``(head, query_token, key_token)``."""
    query, key, bias = (
        part[0].double().numpy() for part in (call.query, call.key, call.terms["position_bias"])
    )
    return call.scaling * query @ key.transpose(0, 2, 1) + bias


def test_t5_has_a_table_shared_by_all_layers() -> None:
    calls = calls_of(t5_encoder())
    recipes = [find_recipe(call, TOKENS, TOKENS) for call in calls]
    assert len(recipes) == 2
    assert recipes[0] == recipes[1]
    bias = recipes[0].bias
    assert bias is not None
    assert recipes[0] == Recipe(Mask(), bias=bias)
    assert len(bias.values) == 4
    assert 2 < len(bias.starts) <= SETTINGS["relative_attention_num_buckets"]
    assert bias.starts[0] == 1 - TOKENS
    for call, recipe in zip(calls, recipes, strict=True):
        query, key = call.query[0].numpy(), call.key[0].numpy()
        derived = derive_attention(query, key, call.scaling, recipe)
        # Random T5 weights give scores beyond 1,000, which float32 rounds by 2**-24 of themselves.
        rounding = 2.0**-23 * float(np.abs(scores_of(call)).max())
        assert rounding < 2e-4
        np.testing.assert_allclose(derived, call.weights[0].numpy(), rtol=0, atol=rounding)


def test_tiles_give_t5s_own_output() -> None:
    model = t5_encoder()
    recipes = [find_recipe(call, TOKENS, TOKENS) for call in calls_of(model)]
    with torch.inference_mode():
        own = model(**t5_inputs()).last_hidden_state
        tiled = TiledAttention(recipes, None)
        tiled.start([TOKENS, 25], own.device)
        with quiet(), Collector(model, lambda _: None, tiled):
            found = model(**t5_inputs()).last_hidden_state
        tiled.finish()
    rounding = 2e-5 * float(own.abs().max())  # the rounding of the scores, two layers on
    np.testing.assert_allclose(found[0], own[0], rtol=0, atol=rounding)
    np.testing.assert_allclose(found[1, :25], own[1, :25], rtol=0, atol=rounding)


def make_call(bias: torch.Tensor) -> AttentionCall:
    generator = torch.Generator().manual_seed(1)
    query, key = (torch.randn(1, 2, TOKENS, 8, generator=generator) for _ in range(2))
    attention = (query @ key.transpose(2, 3) * 0.5 + bias).softmax(-1)
    terms = {"position_bias": bias}
    return AttentionCall(
        0, "attn", torch.nn.Identity(), query, key, key, attention, 0.5, None, terms
    )


def test_a_bias_of_the_content_is_unknown() -> None:
    bias = torch.randn(1, 2, TOKENS, TOKENS, generator=torch.Generator().manual_seed(2))
    found = find_recipe(make_call(bias), TOKENS, TOKENS)
    assert "more than relative position" in str(found.unknown)


def test_a_bias_is_not_stated_beyond_what_was_seen() -> None:
    places = torch.arange(TOKENS)
    bias = (places[None, :] - places[:, None]).abs().float().mul(-0.1).expand(1, 2, -1, -1)
    assert find_recipe(make_call(bias), TOKENS, TOKENS).unknown is None
    assert f"up to {TOKENS} tokens" in str(find_recipe(make_call(bias), TOKENS, 99).unknown)


@pytest.mark.parametrize("tokens", [1, 2])
def test_very_short_probes(tokens: int) -> None:
    bias = torch.zeros(1, 2, TOKENS, TOKENS)
    call = make_call(bias)
    cut = AttentionCall(
        *(0, "attn", call.module),
        *(part[:, :, :tokens] for part in (call.query, call.key, call.value)),
        (call.query[:, :, :tokens] @ call.key[:, :, :tokens].transpose(2, 3) * 0.5).softmax(-1),
        *(0.5, None, {"position_bias": bias[:, :, :tokens, :tokens]}),
    )
    assert find_recipe(cut, tokens, tokens).unknown is None
