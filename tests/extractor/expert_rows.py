"""Decoders of the fidelity table that have experts, and attend in all layers."""

from __future__ import annotations

from typing import Any, Final

from extractor.architecture import DECODER, EXPERTS, LATENT, text

_NARROW: Final = {**DECODER, **EXPERTS, "moe_intermediate_size": 16}


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


EXPERT_DECODERS: Final = (
    text("Mixtral (experts)", "Mixtral", {**DECODER, **EXPERTS}),
    text("Qwen2-MoE", "Qwen2Moe", {**DECODER, **EXPERTS, "moe_intermediate_size": 16}),
    text("Qwen3-MoE", "Qwen3Moe", {**DECODER, **EXPERTS, "moe_intermediate_size": 16}),
    text("Phi-MoE", "Phimoe", {**DECODER, **EXPERTS}),
    text("OLMoE", "Olmoe", {**DECODER, **EXPERTS}),
    text("Granite-MoE", "GraniteMoe", {**DECODER, **EXPERTS}),
    text(
        "GLM-4-MoE",
        "Glm4Moe",
        {**DECODER, **EXPERTS, "n_routed_experts": 4, "moe_intermediate_size": 16},
    ),
    text("JetMoE", "JetMoe", {**DECODER, "kv_channels": 8, "num_local_experts": 4}),
    text("MiniMax-M2", "MiniMaxM2", {**DECODER, **EXPERTS}),
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
    text("DeepSeek-V2 (latent attention)", "DeepseekV2", LATENT),
    text("DeepSeek-V3 (latent attention)", "DeepseekV3", LATENT, quick=True),
    text(
        "DeepSeek-V3.2 (chooses its keys)",
        "DeepseekV32",
        {**LATENT, "index_topk": 8, "index_head_dim": 8, "index_n_heads": 2},
    ),
    text(
        "DBRX",
        "Dbrx",
        {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 160,
            "ffn_config": {
                "hidden_size": 32,
                "ffn_hidden_size": 48,
                "moe_num_experts": 4,
                "moe_top_k": 2,
            },
            "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
            "initializer_range": 0.3,
        },
    ),
    text(
        "AFMoE (windows)",
        "Afmoe",
        {
            **_NARROW,
            "num_dense_layers": 1,
            "sliding_window": 6,
            "global_attn_every_n_layers": 3,
        },
    ),
    text(
        "Aria, text",
        "AriaText",
        {**DECODER, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    ),
    text("Cohere 2 MoE (windows)", "Cohere2Moe", {**_NARROW, "sliding_window": 6}),
    text("dots.llm1", "Dots1", {**LATENT, "num_key_value_heads": 2, "head_dim": 8}),
    text(
        "ERNIE 4.5 MoE",
        "Ernie4_5_Moe",
        {
            **_NARROW,
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
        },
    ),
    text(
        "EXAONE MoE (windows)",
        "ExaoneMoe",
        {**_NARROW, "sliding_window": 6, "sliding_window_pattern": 2},
    ),
    text("FlexOlmo", "FlexOlmo", _NARROW),
    text(
        "Granite-MoE, shared expert",
        "GraniteMoeShared",
        {**_NARROW, "shared_intermediate_size": 16},
    ),
    text("Hunyuan MoE", "HunYuanMoEV1", {**_NARROW, "moe_topk": 2}),
    text("MiMo-V2-Flash (layers of two shapes)", "MiMoV2Flash", {**_NARROW, "sliding_window": 6}),
    text("Hy3", "HYV3", _NARROW),
    text("Mellum 2", "Mellum", _NARROW),
    text("Granite-MoE-SWA (sinks that gate)", "GraniteMoeSWA", {**_NARROW, "sliding_window": 6}),
    text("A.X K1 (latent attention)", "AXK1", LATENT),
    text("A.X K2 (latent attention)", "AXK2", LATENT),
    text("Solar Open", "SolarOpen", {**_NARROW, "n_routed_experts": 4}),
    text("GLM-4-MoE Lite (latent attention)", "Glm4MoeLite", LATENT),
    text("Mistral 4 (latent attention)", "Mistral4", _without(LATENT, "head_dim")),
    text(
        "LongCat-Flash (two attentions a layer)",
        "LongcatFlash",
        {
            **_without(LATENT, "num_hidden_layers"),
            "num_layers": 2,
            "zero_expert_num": 2,
            "moe_topk": 2,
            "expert_ffn_hidden_size": 16,
            "ffn_hidden_size": 48,
        },
    ),
    text(
        "GLM-5 (chooses its keys)",
        "GlmMoeDsa",
        {**LATENT, "index_topk": 8, "index_head_dim": 8, "index_n_heads": 2},
    ),
    text(
        "DeepSeek-V4 (compressed layers left out)",
        "DeepseekV4",
        {
            **_without(LATENT, "num_key_value_heads"),
            "head_dim": 8,
            "partial_rotary_factor": 0.5,
            "o_groups": 2,
            "o_lora_rank": 8,
            "hc_mult": 2,
            "sliding_window": 6,
            "layer_types": [
                "sliding_attention",
                "compressed_sparse_attention",
                "sliding_attention",
            ],
            "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
            "index_topk": 4,
            "index_head_dim": 8,
            "index_n_heads": 2,
        },
    ),
)
