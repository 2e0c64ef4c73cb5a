"""Tiny checkpoints of Transformer-XL, as transformers' former class wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from extractor.models import WORDS

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOCABULARY = ["<eos>", "<unk>", *WORDS]
SETTINGS: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "cutoffs": [8, 20, 30],
    "d_model": 16,
    "d_embed": 16,
    "n_head": 2,
    "d_head": 8,
    "d_inner": 24,
    "div_val": 2,
    "n_layer": 2,
    "tgt_len": 5,
    "mem_len": 7,
    "clamp_len": 9,
    "same_length": False,
    "pre_lnorm": False,
    "untie_r": True,
}


def make_weights(settings: dict[str, Any], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights by the names that checkpoints of a language model have."""
    random, s = np.random.default_rng(seed), settings
    shapes: dict[str, tuple[int, ...]] = {}
    starts = [0, *s["cutoffs"]] if s["div_val"] > 1 else [0]
    for i, (start, end) in enumerate(zip(starts, [*starts[1:], s["vocab_size"]], strict=True)):
        narrow = s["d_embed"] // s["div_val"] ** i
        shapes[f"word_emb.emb_layers.{i}.weight"] = (end - start, narrow)
        if s["div_val"] > 1 or s["d_embed"] != s["d_model"]:
            shapes[f"word_emb.emb_projs.{i}"] = (s["d_model"], narrow)
    wide, biases = s["n_head"] * s["d_head"], (s["n_head"], s["d_head"])
    for i in range(s["n_layer"]):
        attention, feed = f"layers.{i}.dec_attn", f"layers.{i}.pos_ff"
        shapes[f"{attention}.qkv_net.weight"] = (3 * wide, s["d_model"])
        shapes[f"{attention}.r_net.weight"] = (wide, s["d_model"])
        shapes[f"{attention}.o_net.weight"] = (s["d_model"], wide)
        shapes[f"{feed}.CoreNet.0.weight"] = (s["d_inner"], s["d_model"])
        shapes[f"{feed}.CoreNet.0.bias"] = (s["d_inner"],)
        shapes[f"{feed}.CoreNet.3.weight"] = (s["d_model"], s["d_inner"])
        shapes[f"{feed}.CoreNet.3.bias"] = (s["d_model"],)
        for norm in (f"{attention}.layer_norm", f"{feed}.layer_norm"):
            shapes |= {f"{norm}.weight": (s["d_model"],), f"{norm}.bias": (s["d_model"],)}
        if s["untie_r"]:
            shapes |= {f"{attention}.r_w_bias": biases, f"{attention}.r_r_bias": biases}
    if not s["untie_r"]:
        shapes |= {"r_w_bias": biases, "r_r_bias": biases}
    made = {f"transformer.{k}": 0.4 * random.standard_normal(v) for k, v in shapes.items()}
    for i in range(0 if s["untie_r"] else s["n_layer"]):  # checkpoints repeat what is shared
        for name in ("r_w_bias", "r_r_bias"):
            made[f"transformer.layers.{i}.dec_attn.{name}"] = made[f"transformer.{name}"]
    made["transformer.pos_emb.inv_freq"] = np.ones(s["d_model"] // 2)
    made["crit.cluster_weight"] = np.zeros((3, s["d_embed"]))
    return {name: value.astype(np.float32) for name, value in made.items()}


def save(path: Path, seed: int = 0, **changes: Any) -> Path:
    """A checkpoint as one would have it today: no code, no pickle."""
    settings = {**SETTINGS, **changes}
    path.mkdir()
    save_file(make_weights(settings, seed), path / "model.safetensors", {"format": "pt"})
    kind = {"model_type": "transfo-xl", "architectures": ["TransfoXLLMHeadModel"]}
    (path / "config.json").write_text(json.dumps({**settings, **kind}), encoding="utf-8")
    (path / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    return path
