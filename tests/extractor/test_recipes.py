"""Recipes read off a model give its attention back, and what they cannot state is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from extractor.models import POSITIONS, llama_settings, record_of, save, tiny_bert, tiny_llama
from qkvault import Mask, Recipe, Sinks
from qkvault_extractor.capture import AttentionCall
from qkvault_extractor.model import load_config, load_model, load_tokenizer
from qkvault_extractor.probe import probe
from qkvault_extractor.recipes import derived_difference, find_recipe

IDS = np.random.default_rng(0).integers(4, 40, 40).tolist()
TOKENS = 24


def recipes_of(path: Path) -> list[Recipe]:
    name = str(path)
    loaded = load_model(name, load_config(name), load_tokenizer(name), "cpu")
    return list(probe(loaded, [record_of(IDS)]).stacks[0].recipe)


def test_encoders_see_all(tmp_path: Path) -> None:
    assert recipes_of(tiny_bert(tmp_path)) == [Recipe(Mask())] * 3


def test_decoders_see_what_came_before(tmp_path: Path) -> None:
    assert recipes_of(tiny_llama(tmp_path)) == [Recipe(Mask(causal=True))] * 3


def test_a_sliding_window_counts_the_querys_own_token(tmp_path: Path) -> None:
    path = save(tmp_path, "Mistral", "ForCausalLM", {**llama_settings(), "sliding_window": 5})
    assert recipes_of(path) == [Recipe(Mask(causal=True, window=4))] * 3


def test_layers_may_differ_and_scores_may_be_capped(tmp_path: Path) -> None:
    settings = {**llama_settings(), "sliding_window": 6, "attn_logit_softcapping": 3.0}
    first, second, third = recipes_of(save(tmp_path, "Gemma2", "ForCausalLM", settings))
    assert first == third == Recipe(Mask(causal=True, window=5), softcap=3.0)
    assert second == Recipe(Mask(causal=True), softcap=3.0)


def test_sinks_are_kept_per_head(tmp_path: Path) -> None:
    settings = {
        **llama_settings(),
        "sliding_window": 7,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "max_position_embeddings": POSITIONS,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    path = save(tmp_path, "GptOss", "ForCausalLM", settings)
    recipes = recipes_of(path)
    assert all(r.sinks is not None and r.sinks.mode == "softmax" for r in recipes)
    assert [r.mask for r in recipes[:2]] == [Mask(True, 6), Mask(True)]


def make_call(mask: torch.Tensor | None, **terms: Any) -> AttentionCall:
    """A call whose attention follows from queries, keys and mask, over two heads."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(1, 2, TOKENS, 8, generator=generator)
    key = torch.randn(1, 2, TOKENS, 8, generator=generator)
    scores = query @ key.transpose(2, 3) * 0.5
    attention = (scores if mask is None else scores + mask).softmax(-1)
    return AttentionCall(
        0, "attn", torch.nn.Identity(), query, key, key, attention, 0.5, mask, terms
    )


def additive(seen: np.ndarray) -> torch.Tensor:
    hidden = torch.from_numpy(~seen)
    return torch.zeros(seen.shape).masked_fill(hidden, torch.finfo(torch.float32).min)[None, None]


QUERY, KEY = np.ogrid[:TOKENS, :TOKENS]


@pytest.mark.parametrize(
    ("seen", "mask"),
    [
        (KEY <= QUERY, Mask(causal=True)),
        (np.abs(KEY - QUERY) <= 3, Mask(window=3)),
        ((KEY <= QUERY) & (QUERY - KEY <= 2), Mask(causal=True, window=2)),
        ((KEY <= QUERY) & (QUERY // 5 == KEY // 5), Mask(causal=True, chunk=5)),
        (KEY == QUERY, Mask(causal=True, window=0)),
    ],
)
def test_masks_are_known_by_their_pattern(seen: np.ndarray, mask: Mask) -> None:
    call = make_call(additive(seen))
    recipe = find_recipe(call, TOKENS, TOKENS)
    assert recipe == Recipe(mask)
    assert derived_difference(call, TOKENS, recipe) < 1e-6


@pytest.mark.parametrize("causal", [True, False])
def test_a_window_wider_than_the_probe_is_taken_from_the_model(causal: bool) -> None:
    seen = KEY <= QUERY if causal else np.ones((TOKENS, TOKENS), np.bool_)
    call = make_call(additive(seen), sliding_window=100)
    assert find_recipe(call, TOKENS, TOKENS).mask.window is None
    found = find_recipe(call, TOKENS, 200)
    assert found.mask == (Mask(True, 99) if causal else Mask())
    assert (found.unknown is None) is causal


def test_what_no_rule_states_is_unknown() -> None:
    prefix = (KEY <= QUERY) | (KEY < 4)
    found = find_recipe(make_call(additive(prefix)), TOKENS, TOKENS)
    assert found.mask == Mask(causal=False)
    assert "mask follows no rule" in str(found.unknown)

    bent = torch.from_numpy(np.abs(KEY - QUERY) * KEY * 0.1).float()[None, None]
    assert find_recipe(make_call(bent), TOKENS, TOKENS).unknown

    noise = torch.rand(1, 2, TOKENS, TOKENS, generator=torch.Generator().manual_seed(3))
    assert "more than relative position" in str(
        find_recipe(make_call(None, position_bias=noise), TOKENS, TOKENS).unknown
    )


def test_attention_that_does_not_follow_is_unknown() -> None:
    call = make_call(None)
    turned = replace(call, query=call.query.flip(2))
    assert "differs from the model's" in str(find_recipe(turned, TOKENS, TOKENS).unknown)


def test_sinks_that_gate_leave_the_weights() -> None:
    call = make_call(None, s_aux=torch.tensor([0.5, 1.0]))
    assert find_recipe(call, TOKENS, TOKENS) == Recipe(sinks=Sinks((0.5, 1.0), "gate"))


@pytest.mark.parametrize("causal", [True, False])
def test_what_grows_with_distance_is_slopes(causal: bool) -> None:
    grown = torch.from_numpy(np.stack([KEY * 0.5 + 0 * QUERY, (KEY - QUERY) * 0.1])).float()[None]
    mask = additive(KEY <= QUERY) if causal else None
    call = make_call(grown if mask is None else grown + mask)
    found = find_recipe(call, TOKENS, 2 * TOKENS)
    assert found.slopes == pytest.approx((0.5, 0.1))
    assert (found.mask, found.bias, found.unknown) == (Mask(causal=causal), None, None)


def test_bias_behind_a_mask_is_found_where_it_is_seen() -> None:
    table = torch.from_numpy(np.minimum(np.abs(KEY - QUERY), 3) * 0.25).float()
    call = make_call(additive(KEY <= QUERY), position_bias=table[None, None])
    call = replace(call, attention=_weigh(call, table))
    found = find_recipe(call, TOKENS, TOKENS)
    assert found.bias is not None
    assert found.bias.starts == (1 - TOKENS, -2, -1, 0)
    assert found.bias.values[0] == (0.75, 0.5, 0.25, 0.0)
    assert derived_difference(call, TOKENS, found) < 1e-6


def _weigh(call: AttentionCall, added: torch.Tensor) -> torch.Tensor:
    assert call.mask is not None
    scores = call.query @ call.key.transpose(2, 3) * call.scaling
    return (scores + added + call.mask).softmax(-1)


def test_a_mask_that_may_be_a_wide_window_is_unknown_beyond_the_probe() -> None:
    call = make_call(additive(KEY <= QUERY))
    assert find_recipe(call, TOKENS, 200).unknown is None
    told = find_recipe(call, TOKENS, 200, tells_window=False)
    assert told.unknown == f"the model's mask is known up to {TOKENS} tokens only"
    assert find_recipe(call, TOKENS, TOKENS, tells_window=False).unknown is None
