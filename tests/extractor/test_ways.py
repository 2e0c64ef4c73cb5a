"""The first way that proves exact is taken; what that leaves out is named, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qkvault
from extractor.architecture import DECODER, gpt
from extractor.decoder_rows import GEMMA_4
from extractor.fidelity import extract_to
from extractor.models import ENCODER_DECODERS, save, words, write_pairs, write_texts
from qkvault import InputError
from qkvault_extractor import tap

POOLED = {
    "d_model": 32,
    "block_sizes": [2, 1],
    "n_head": 4,
    "d_head": 8,
    "d_inner": 48,
    "num_decoder_layers": 1,
    "initializer_range": 0.3,
}


def test_layers_over_pooled_tokens_are_left_out_by_name(tmp_path: Path) -> None:
    model = save(tmp_path / "funnel", "Funnel", "Model", POOLED)
    texts = write_texts(tmp_path / "texts.jsonl", [20, 9])
    vault = extract_to(tmp_path / "v", model, texts)
    (stack,) = vault.spec.stacks
    assert stack.layers == (0, 1, 3)
    assert vault.spec.provenance["left_out"] == ["encoder.blocks.1.0.attention"]
    assert vault[0].attention[:].shape == (3, 4, vault[0].length, vault[0].length)


@pytest.mark.parametrize(
    ("alibi", "way"),
    [
        (False, "operations of the model's own eager attention"),
        (True, "operands of torch's fused attention function"),
    ],
)
def test_eager_attention_that_is_not_what_runs_is_no_reference(
    alibi: bool, way: str, tmp_path: Path
) -> None:
    """Falcon's eager attention adds ALiBi twice; by default it runs another."""
    settings = {
        **gpt("hidden_size", "num_hidden_layers", "num_attention_heads"),
        "alibi": alibi,
        "multi_query": False,
    }
    model = save(tmp_path / "falcon", "Falcon", "Model", settings)
    vault = extract_to(tmp_path / "v", model, write_texts(tmp_path / "texts.jsonl", [20]))
    assert vault.spec.provenance["capture"] == way
    (stack,) = vault.spec.stacks
    assert (stack.recipe[0].slopes is not None) is alibi
    if alibi:  # 4 heads: Press et al. 2022, section 3; scaled as the scores are
        expected = np.array([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]) * 8**-0.5
        assert stack.recipe[0].slopes == pytest.approx(expected, rel=1e-5)


def test_bloom_has_the_slopes_of_its_paper(tmp_path: Path) -> None:
    model = save(tmp_path / "bloom", "Bloom", "Model", gpt("hidden_size", "n_layer", "n_head"))
    vault = extract_to(tmp_path / "v", model, write_texts(tmp_path / "texts.jsonl", [20]))
    for recipe in vault.spec.stacks[0].recipe:
        assert recipe.slopes == pytest.approx([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8], rel=1e-5)


def extract_pairs(model: Path, folder: Path) -> qkvault.Vault:
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    data = write_pairs(folder / "pairs.jsonl", [(9, 4), (30, 7)])
    return extract_to(folder / "v", model, data, target_column="target")


def test_encoder_decoders_with_attention_of_their_own_are_followed(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        **ENCODER_DECODERS["bart"][2],
        "langs": ["en", "de"],
        "src_vocab_size": 48,
        "tgt_vocab_size": 48,
    }
    vault = extract_pairs(save(tmp_path / "fsmt", "FSMT", "Model", settings), tmp_path)
    assert [stack.name for stack in vault.spec.stacks] == ["encoder", "decoder", "cross"]
    assert vault.spec.provenance["capture"] == "operations of the model's own eager attention"


def test_what_the_interface_covers_in_part_is_followed_whole(tmp_path: Path) -> None:
    settings = {**ENCODER_DECODERS["pegasus"][2], "attention_type": "original_full"}
    model = save(tmp_path / "bigbird", "BigBirdPegasus", "Model", settings)
    vault = extract_pairs(model, tmp_path)
    assert [stack.name for stack in vault.spec.stacks] == ["encoder", "decoder", "cross"]
    assert vault.spec.provenance["capture"] == "operations of the model's own eager attention"


def test_a_stack_that_is_not_seen_is_a_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "LAYOUTS", {})  # its encoder multiplies blocks in no way that is known
    settings = {**ENCODER_DECODERS["t5"][2], "encoder_attention_type": "local", "local_radius": 7}
    model = save(tmp_path / "long", "LongT5", "Model", settings)
    with pytest.raises(InputError, match="the attention of its encoder was not captured"):
        extract_pairs(model, tmp_path)
    assert not (tmp_path / "v").exists()


def test_of_a_decoder_of_several_streams_that_of_its_own_tokens_is_kept(tmp_path: Path) -> None:
    """ProphetNet predicts by two further streams, which attend to their own tokens too."""
    settings = {
        "hidden_size": 32,
        "num_encoder_layers": 1,
        "num_decoder_layers": 2,
        "num_encoder_attention_heads": 4,
        "num_decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "init_std": 0.4,
        "decoder_start_token_id": 0,
    }
    vault = extract_pairs(save(tmp_path / "prophet", "ProphetNet", "Model", settings), tmp_path)
    encoder, decoder, cross = vault.spec.stacks
    assert (encoder.layers, decoder.layers, cross.layers) == ((0,), (0, 1), (0, 1))
    streams = [f"decoder.layers.{layer}.self_attn" for layer in range(2)]
    assert vault.spec.provenance["left_out"] == streams
    for example in vault:
        source, target = example.record.lengths
        assert example.stack("cross").attention[:].shape == (2, 2, target, source)
        assert example.stack("cross").query[:].shape == (2, 2, target, 16)
        assert not np.triu(example.stack("decoder").attention[:], 1).any()


def test_calls_of_one_attention_are_one_over_all_their_values(tmp_path: Path) -> None:
    """DiffLlama attends twice with the same queries and keys, to either half of its value heads."""
    import torch
    from transformers import AutoModel

    model = save(tmp_path / "diff", "DiffLlama", "Model", dict(DECODER))
    texts = write_texts(tmp_path / "texts.jsonl", [20])
    vault = extract_to(tmp_path / "v", model, texts, precision="float32")
    (stack,) = vault.spec.stacks
    assert (stack.layers, stack.key_heads, stack.value_dim) == ((0, 1, 2), 2, 16)
    made = []
    network = AutoModel.from_pretrained(model)
    network.layers[1].self_attn.v_proj.register_forward_hook(lambda *call: made.append(call[2]))
    with torch.inference_mode():
        network(torch.tensor([list(vault[0].record.token_ids)]))
    values = made[0][0].numpy()  # (token, key_head * 8): one key head in either half
    for key_head in range(2):
        assert np.abs(vault[0].value[1, key_head] - values).max() < 1e-5
    with pytest.raises(InputError, match="several times with the same queries and keys"):
        extract_to(tmp_path / "derived", model, texts, attention="derive")


def test_layers_of_unequal_widths_keep_their_own(tmp_path: Path) -> None:
    """Gemma 4's layers over all tokens have wider heads; with ``attention_k_eq_v``, fewer of them
    for keys too."""
    settings = {
        **GEMMA_4,
        "num_key_value_heads": 4,
        "num_global_key_value_heads": 2,
        "attention_k_eq_v": True,
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    }
    model = save(tmp_path / "gemma", "Gemma4Text", "Model", settings)
    texts = write_texts(tmp_path / "texts.jsonl", [20, 9])
    vault = extract_to(tmp_path / "v", model, texts)
    (stack,) = vault.spec.stacks
    assert stack.widths == ((8, 8), (16, 16), (16, 16))
    assert (stack.heads, stack.key_heads, stack.head_dim) == (4, 4, 16)
    for example in vault:
        for layer, (width, _) in zip(stack.layers, stack.widths, strict=True):
            assert example.query[layer].shape == (4, example.length, width)
            assert np.abs(example.derive(layer) - example.attention[layer]).max() < 2e-3
        twice = example.key[1]  # two key heads for four query heads: each stands twice
        assert np.array_equal(twice[0], twice[1])
        assert np.array_equal(twice[2], twice[3])
        assert not np.array_equal(twice[1], twice[2])
    assert qkvault.verify(vault.path, full=True, derive=True).ok
    derived = extract_to(tmp_path / "derived", model, texts, attention="derive")
    for one, other in zip(vault, derived, strict=True):
        assert np.abs(one.attention[:] - other.attention[:]).max() < 1e-4
