"""The rows of the fidelity table: architectures, each as a tiny model of fixed random weights.

To add one whose input is not text, give it a ``measure`` of its own; the rest is common.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from extractor import fidelity, models, xl_models

if TYPE_CHECKING:
    from extractor.fidelity import Figures

ENCODER: Final = models.encoder_settings()
DECODER: Final = models.llama_settings()
EXPERTS: Final = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        title: what people call it, and what is special.
        measure: makes the model in an empty folder and measures it.
        refused: whether it cannot be captured.
        quick: whether the quick tests measure it too.
    """

    title: str
    measure: Callable[[Path], Figures]
    refused: bool = False
    quick: bool = False


def text(
    title: str, prefix: str, settings: Mapping[str, Any], suffix: str = "Model", **flags: bool
) -> Architecture:
    """A model of texts.

    Args:
        title: as for :class:`Architecture`.
        prefix: of the names of its classes in transformers.
        settings: of its configuration.
        suffix: of its model class.
        flags: ``refused``, ``quick``.
    """

    def make(folder: Path) -> Path:
        return models.save(folder, prefix, suffix, dict(settings))

    return Architecture(title, lambda folder: fidelity.measure(make, folder), **flags)


def features(title: str, family: str, **flags: bool) -> Architecture:
    """A model of images or sounds.

    Args:
        title: as for :class:`Architecture`.
        family: one of ``FAMILIES`` or ``REFUSED`` of :mod:`extractor.feature_models`.
        flags: ``refused``, ``quick``.
    """
    return Architecture(title, lambda folder: fidelity.measure_features(family, folder), **flags)


def _foreign(folder: Path) -> Path:
    """A checkpoint of a type that transformers does not know, which brings code along."""
    models.words(folder)
    config = {"model_type": "novelty", "auto_map": {"AutoModel": "modeling_novelty.NoveltyModel"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _gpt(width: str, depth: str, heads: str, **settings: Any) -> dict[str, Any]:
    return {
        width: models.WIDTH,
        depth: models.DEPTH,
        heads: 4,
        "initializer_range": 0.3,
        **settings,
    }


_DISENTANGLED: Final = {
    **ENCODER,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "max_relative_positions": 20,
}
_FALCON: Final = _gpt("hidden_size", "num_hidden_layers", "num_attention_heads")
_XLM: Final = {
    "emb_dim": models.WIDTH,
    "n_layers": models.DEPTH,
    "n_heads": 4,
    "max_position_embeddings": models.POSITIONS,
    "init_std": 0.3,
    "embed_init_std": 0.3,
}
_LATENT: Final = {
    **DECODER,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "head_dim": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_SPLIT: Final = {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
_MAMBA: Final = {
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}

ENCODERS: Final = (
    text("BERT", "Bert", ENCODER, quick=True),
    text("RoBERTa", "Roberta", ENCODER),
    text("XLM-RoBERTa", "XLMRoberta", ENCODER),
    text("XLM-RoBERTa-XL", "XLMRobertaXL", ENCODER),
    text("CamemBERT", "Camembert", ENCODER),
    text("ELECTRA", "Electra", {**ENCODER, "embedding_size": 16}),
    text(
        "DistilBERT",
        "DistilBert",
        {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "initializer_range": 0.3},
    ),
    text("ALBERT (one shared layer)", "Albert", {**ENCODER, "embedding_size": 16}),
    text(
        "ModernBERT (windows)",
        "ModernBert",
        {
            **ENCODER,
            "initializer_range": 0.3,
            "local_attention": 12,
            "global_attn_every_n_layers": 2,
        },
        quick=True,
    ),
    text("MPNet (relative bias)", "MPNet", ENCODER, quick=True),
    text("DeBERTa (disentangled)", "Deberta", _DISENTANGLED),
    text("DeBERTa-v2 (disentangled)", "DebertaV2", _DISENTANGLED),
    text(
        "DeBERTa-v3 (disentangled, buckets)",
        "DebertaV2",
        {
            **_DISENTANGLED,
            "position_buckets": 8,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
        },
        quick=True,
    ),
    text("XLNet", "XLNet", _gpt("d_model", "n_layer", "n_head", d_inner=48), quick=True),
    text(
        "Funnel (blocks 2 and 2)",
        "Funnel",
        {
            "d_model": 32,
            "block_sizes": [2, 2],
            "n_head": 4,
            "d_head": 8,
            "d_inner": 48,
            "num_decoder_layers": 2,
            "initializer_range": 0.3,
        },
    ),
    text(
        "RemBERT", "RemBert", {**ENCODER, "input_embedding_size": 16, "output_embedding_size": 16}
    ),
    text("RoFormer (rotary)", "RoFormer", ENCODER),
    text("ConvBERT", "ConvBert", {**ENCODER, "embedding_size": 32}),
    text(
        "MobileBERT",
        "MobileBert",
        {
            **ENCODER,
            "embedding_size": 16,
            "intra_bottleneck_size": 32,
            "true_hidden_size": 32,
            "normalization_type": "layer_norm",
        },
    ),
    text("I-BERT", "IBert", ENCODER),
    text(
        "ESM (rotary)",
        "Esm",
        {**ENCODER, "position_embedding_type": "rotary", "mask_token_id": 4},
    ),
    text("Megatron-BERT", "MegatronBert", ENCODER),
    text("ERNIE", "Ernie", ENCODER),
    text("Data2Vec text", "Data2VecText", ENCODER),
    text("Splinter", "Splinter", ENCODER),
    text("EuroBERT", "EuroBert", DECODER),
    text("NomicBERT", "NomicBert", ENCODER),
    text("BigBird, full attention", "BigBird", {**ENCODER, "attention_type": "original_full"}),
    text("CANINE (character layers)", "Canine", ENCODER),
    text("XLM", "XLM", _XLM),
    text("FlauBERT", "Flaubert", _XLM),
)

DECODERS: Final = (
    text("GPT-2 (scaled by layer)", "GPT2", models.FAMILIES["gpt2"][2], quick=True),
    text("OpenAI GPT", "OpenAIGPT", _gpt("n_embd", "n_layer", "n_head")),
    text(
        "GPT-Neo (local and global)",
        "GPTNeo",
        {
            "hidden_size": 32,
            "num_layers": 4,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 5,
            "max_position_embeddings": models.POSITIONS,
            "initializer_range": 0.3,
        },
    ),
    text("GPT-J", "GPTJ", _gpt("n_embd", "n_layer", "n_head", rotary_dim=4)),
    text("CodeGen", "CodeGen", _gpt("n_embd", "n_layer", "n_head", rotary_dim=4)),
    text("GPT-NeoX", "GPTNeoX", ENCODER),
    text("GPT-BigCode (one key head)", "GPTBigCode", _gpt("n_embd", "n_layer", "n_head")),
    text("CTRL", "CTRL", _gpt("n_embd", "n_layer", "n_head", dff=48)),
    text("OPT", "OPT", models.FAMILIES["opt"][2]),
    text("BioGPT", "BioGpt", ENCODER),
    text(
        "XGLM",
        "XGLM",
        {
            "d_model": 32,
            "num_layers": 3,
            "attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": models.POSITIONS,
            "init_std": 0.3,
        },
    ),
    text("BLOOM (ALiBi)", "Bloom", _gpt("hidden_size", "n_layer", "n_head"), quick=True),
    text("Falcon (one key head)", "Falcon", _FALCON),
    text(
        "Falcon (grouped keys)",
        "Falcon",
        {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True},
    ),
    text("Falcon (ALiBi)", "Falcon", {**_FALCON, "alibi": True, "multi_query": False}, quick=True),
    text("MPT (ALiBi)", "Mpt", _gpt("d_model", "n_layers", "n_heads", expansion_ratio=2)),
    text("Llama (grouped keys)", "Llama", DECODER, quick=True),
    text("Mistral (window)", "Mistral", {**DECODER, "sliding_window": 5}),
    text("Mixtral (experts)", "Mixtral", {**DECODER, **EXPERTS}),
    text("Qwen2", "Qwen2", DECODER),
    text(
        "Qwen2 (windows from layer 1 on)",
        "Qwen2",
        {**DECODER, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    text("Qwen2-MoE", "Qwen2Moe", {**DECODER, **EXPERTS, "moe_intermediate_size": 16}),
    text("Qwen3", "Qwen3", DECODER),
    text("Qwen3-MoE", "Qwen3Moe", {**DECODER, **EXPERTS, "moe_intermediate_size": 16}),
    text(
        "Qwen3-Next (attention in some layers)",
        "Qwen3Next",
        {
            **DECODER,
            **EXPERTS,
            **_SPLIT,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        quick=True,
    ),
    text("Gemma", "Gemma", DECODER),
    text(
        "Gemma 2 (softcap, windows)",
        "Gemma2",
        {**DECODER, "sliding_window": 6, "attn_logit_softcapping": 3.0},
    ),
    text(
        "Gemma 3 (windows)",
        "Gemma3Text",
        {**DECODER, "sliding_window": 6, "sliding_window_pattern": 2},
        "Model",
    ),
    text("Phi", "Phi", DECODER),
    text("Phi-3", "Phi3", {**DECODER, "original_max_position_embeddings": models.POSITIONS}),
    text("Phi-MoE", "Phimoe", {**DECODER, **EXPERTS}),
    text("OLMo", "Olmo", DECODER),
    text("OLMo 2", "Olmo2", DECODER),
    text("OLMoE", "Olmoe", {**DECODER, **EXPERTS}),
    text("Cohere", "Cohere", DECODER),
    text("Cohere 2 (windows)", "Cohere2", {**DECODER, "sliding_window": 6}),
    text("Granite", "Granite", DECODER),
    text("Granite-MoE", "GraniteMoe", {**DECODER, **EXPERTS}),
    text("StableLM", "StableLm", DECODER),
    text("StarCoder 2", "Starcoder2", DECODER),
    text("Persimmon", "Persimmon", DECODER),
    text("Nemotron", "Nemotron", DECODER),
    text("GLM", "Glm", DECODER),
    text("Helium", "Helium", DECODER),
    text("SmolLM 3", "SmolLM3", DECODER),
    text(
        "gpt-oss (sinks, windows)",
        "GptOss",
        {**DECODER, **EXPERTS, "sliding_window": 7},
        quick=True,
    ),
    text(
        "Llama 4 text (chunks)",
        "Llama4Text",
        {
            **DECODER,
            **EXPERTS,
            "attention_chunk_size": 7,
            "no_rope_layers": [1, 1, 0],
            "intermediate_size_mlp": 48,
        },
        quick=True,
    ),
    text("DeepSeek-V2 (latent attention)", "DeepseekV2", _LATENT),
    text("DeepSeek-V3 (latent attention)", "DeepseekV3", _LATENT, quick=True),
    text(
        "Jamba (attention in some layers)",
        "Jamba",
        {
            **DECODER,
            **EXPERTS,
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "use_mamba_kernels": False,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    text(
        "Bamba (attention in some layers)",
        "Bamba",
        {**DECODER, **_MAMBA, "num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    ),
    text(
        "Zamba 2 (attention in some layers)",
        "Zamba2",
        {
            **DECODER,
            **_MAMBA,
            "num_key_value_heads": 4,
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "use_mamba_kernels": False,
            "n_mamba_heads": 4,
            "mamba_ngroups": 1,
            "chunk_size": 8,
            "num_mem_blocks": 1,
            "mamba_headdim": 16,
        },
    ),
    text(
        "Falcon-H1 (attention beside Mamba)", "FalconH1", {**DECODER, **_MAMBA, "mamba_d_ssm": 64}
    ),
    text(
        "LFM2 (attention in some layers)",
        "Lfm2",
        {**DECODER, "num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
    ),
    text(
        "RecurrentGemma (attention in some layers)",
        "RecurrentGemma",
        {**DECODER, "lru_width": 32, "attention_window_size": 6},
    ),
    Architecture(
        "Transformer-XL (memory; QKVault's own module)",
        lambda folder: fidelity.measure(xl_models.save, folder),
    ),
)

FEATURES: Final = (
    features("ViT", "vit", quick=True),
    features("DeiT", "deit"),
    features("CLIP, vision", "clip"),
    features("SigLIP, vision", "siglip"),
    features("DINOv2", "dinov2"),
    features("DINOv2 with registers", "registers"),
    features("YOLOS", "yolos"),
    features("VideoMAE", "videomae"),
    features("Whisper, encoder", "whisper"),
    features("wav2vec 2.0", "wav2vec2"),
    features("Audio Spectrogram Transformer", "ast"),
)

REFUSED: Final = (
    features("Swin (windows)", "swin", refused=True),
    features("PVT v2 (fewer keys than queries)", "pvt", refused=True),
    features("ViTMAE (masks at random)", "vitmae", refused=True),
    text("Longformer", "Longformer", {**ENCODER, "attention_window": 8}, refused=True, quick=True),
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
    text("DiffLlama (differential)", "DiffLlama", DECODER, refused=True),
    text("YOSO", "Yoso", ENCODER, refused=True),
    text("FNet", "FNet", ENCODER, refused=True),
    text("SqueezeBERT", "SqueezeBert", {**ENCODER, "embedding_size": 32}, refused=True),
    text("Mamba", "Mamba", {"hidden_size": 32, "num_hidden_layers": 3}, refused=True, quick=True),
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

GROUPS: Final = {
    "Encoders": ENCODERS,
    "Decoders": DECODERS,
    "Images and sounds, as features": FEATURES,
    "": REFUSED,
}
"""Headings of the table, and their rows; a refused row is listed apart from them."""

ARCHITECTURES: Final = tuple(row for rows in GROUPS.values() for row in rows)
