"""What the fidelity table tells is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from extractor import fidelity, models
from extractor.architecture import DECODER, ENCODER, EXPERTS, Architecture, features, gpt, text


def _foreign(folder: Path) -> Path:
    """A checkpoint of a type that transformers does not know, which brings code along."""
    models.words(folder)
    config = {"model_type": "novelty", "auto_map": {"AutoModel": "modeling_novelty.NoveltyModel"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


REFUSED: Final = (
    features("Swin (several windows in its last stage)", "swin in windows", refused=True),
    features("SAM, vision (windows alone)", "sam in windows", refused=True),
    features("TimeSformer (frames apart)", "timesformer", refused=True),
    features("Deformable DETR", "deformable", refused=True),
    features("PVT v2 (fewer keys than queries)", "pvt", refused=True),
    features("SegFormer (fewer keys than queries)", "segformer", refused=True),
    features("LeViT (reports nothing)", "levit", refused=True),
    features("SwiftFormer (no keys)", "swiftformer", refused=True),
    features("ViTMAE (masks at random)", "vitmae", refused=True),
    text(
        "BigBird, block-sparse",
        "BigBird",
        {**ENCODER, "attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1},
        refused=True,
    ),
    text(
        "Reformer",
        "Reformer",
        {
            "hidden_size": 32,
            "num_attention_heads": 4,
            "attention_head_size": 8,
            "feed_forward_size": 48,
            "attn_layers": ["local", "lsh"],
            "axial_pos_embds": False,
            "max_position_embeddings": models.POSITIONS,
            "lsh_attn_chunk_length": 8,
            "local_attn_chunk_length": 8,
            "num_buckets": 4,
        },
        refused=True,
    ),
    text(
        "Nyströmformer",
        "Nystromformer",
        {**ENCODER, "num_landmarks": 4, "segment_means_seq_len": 40},
        refused=True,
    ),
    text(
        "Laguna (heads differ by layer)",
        "Laguna",
        {
            **DECODER,
            **EXPERTS,
            "moe_intermediate_size": 16,
            "num_attention_heads_per_layer": [4, 2, 4],
        },
        refused=True,
    ),
    text("YOSO", "Yoso", ENCODER, refused=True),
    text("MRA", "Mra", ENCODER, refused=True),
    text("FNet", "FNet", ENCODER, refused=True),
    text(
        "xLSTM", "xLSTM", {"hidden_size": 32, "num_hidden_layers": 2, "num_heads": 4}, refused=True
    ),
    text(
        "CPM-Ant (tokens of its own)",
        "CpmAnt",
        gpt("hidden_size", "num_hidden_layers", "num_attention_heads", dim_head=8, dim_ff=48),
        refused=True,
    ),
    text("Mamba", "Mamba", {"hidden_size": 32, "num_hidden_layers": 3}, refused=True, quick=True),
    text(
        "Mamba 2",
        "Mamba2",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_heads": 8,
            "head_dim": 8,
            "state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
        },
        refused=True,
    ),
    text(
        "RWKV",
        "Rwkv",
        {"hidden_size": 32, "num_hidden_layers": 3, "context_length": 64},
        refused=True,
    ),
    Architecture(
        "A checkpoint with code of its own",
        lambda folder: fidelity.measure(_foreign, folder),
        refused=True,
    ),
)
