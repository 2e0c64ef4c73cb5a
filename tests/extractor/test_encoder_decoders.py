"""Encoder-decoders: three stacks, captured exactly, from a target text to a finished vault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from models import ENCODER_DECODERS, record_of, tiny_encoder_decoder

from qkvault import Mask
from qkvault_extractor.model import load_config, load_model, load_tokenizer
from qkvault_extractor.probe import Probe, probe

if TYPE_CHECKING:
    from qkvault_extractor.model import LoadedModel

FAMILIES = sorted(ENCODER_DECODERS)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: str = request.param
    return tiny_encoder_decoder(tmp_path_factory.mktemp(family) / family, family)


def load(folder: Path) -> LoadedModel:
    name = str(folder)
    return load_model(name, load_config(name), load_tokenizer(name), "cpu")


def probed(loaded: LoadedModel, source: int = 20, target: int = 13) -> Probe:
    random = np.random.default_rng(0)
    ids = [random.integers(4, 40, n).tolist() for n in (source, target)]
    records = [record_of(ids[0], [0, 5, 6]), record_of([7, 8], ids[1])]
    return probe(loaded, records, ("float32", "float32"))


def test_three_stacks_are_captured_as_eager_has_them(folder: Path) -> None:
    loaded = load(folder)
    found = probed(loaded)
    assert found.difference == 0.0
    assert found.way == "interface"
    config = loaded.model.config
    encoder, decoder, cross = found.stacks
    assert [stack.name for stack in found.stacks] == ["encoder", "decoder", "cross"]
    deep = getattr(config, "decoder_layers", getattr(config, "num_decoder_layers", None))
    assert encoder.layers == tuple(range(config.num_hidden_layers))
    assert decoder.layers == cross.layers == tuple(range(deep))
    assert len(encoder.layers) != len(decoder.layers)
    assert encoder.heads == config.num_attention_heads
    assert decoder.heads == cross.heads
    assert [stack.causal for stack in found.stacks] == [False, True, False]


def test_positions_that_a_checkpoint_does_not_hold_are_sines(tmp_path: Path) -> None:
    model = load(tiny_encoder_decoder(tmp_path, "marian")).model
    for half in (model.get_encoder(), model.get_decoder()):
        table = half.embed_positions.weight
        assert torch.equal(table, half.embed_positions.create_weight())
        assert not table[0, 0].item()


def test_attention_of_all_three_follows_from_queries_and_keys(folder: Path) -> None:
    found = probed(load(folder))
    assert found.derived_error is not None
    assert found.derived_error < 5e-6
    recipes = {stack.name: set(stack.recipe) for stack in found.stacks}
    assert not any(recipe.unknown for known in recipes.values() for recipe in known)
    (cross,) = recipes["cross"]
    assert (cross.mask, cross.bias, cross.slopes) == (Mask(), None, None)
    assert all(recipe.mask == Mask(causal=True) for recipe in recipes["decoder"])
    relative = folder.name in ("t5", "mt5")
    for name in ("encoder", "decoder"):
        assert all((recipe.bias is not None) == relative for recipe in recipes[name])
