"""Decoders of the fidelity table that have other layers than those of attention."""

from __future__ import annotations

from typing import Final

from extractor.architecture import DECODER, EXPERTS, LATENT, text

SPLIT: Final = {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
LINEAR: Final = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA: Final = {
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}

HYBRIDS: Final = (
    text(
        "Qwen3-Next (attention in some layers)",
        "Qwen3Next",
        {
            **DECODER,
            **EXPERTS,
            **SPLIT,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            **LINEAR,
        },
        quick=True,
    ),
    text("Qwen3.5 (attention in some layers)", "Qwen3_5Text", {**DECODER, **SPLIT, **LINEAR}),
    text(
        "Qwen3.5-MoE (attention in some layers)",
        "Qwen3_5MoeText",
        {
            **DECODER,
            **EXPERTS,
            **SPLIT,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            **LINEAR,
        },
    ),
    text("OLMo Hybrid (attention in some layers)", "OlmoHybrid", {**DECODER, **SPLIT, **LINEAR}),
    text(
        "Zamba (attention in some layers)",
        "Zamba",
        {
            **DECODER,
            "num_key_value_heads": 4,
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "use_mamba_kernels": False,
            "n_mamba_heads": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "attention_head_dim": 16,
            "attention_hidden_size": 64,
        },
    ),
    text(
        "MiniMax (attention in some layers)",
        "MiniMax",
        {**DECODER, **EXPERTS, **SPLIT, "block_size": 8},
    ),
    text(
        "Nemotron-H (attention in some layers)",
        "NemotronH",
        {
            **DECODER,
            "hybrid_override_pattern": "M*M*",
            "num_hidden_layers": 4,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
        },
    ),
    text(
        "Granite 4 (attention in some layers)",
        "GraniteMoeHybrid",
        {
            **DECODER,
            **_MAMBA,
            **EXPERTS,
            "num_hidden_layers": 4,
            "layer_types": ["mamba", "attention"] * 2,
            "shared_intermediate_size": 16,
        },
    ),
    text(
        "LFM2-MoE (attention in some layers)",
        "Lfm2Moe",
        {
            **DECODER,
            **EXPERTS,
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention"] * 2,
            "moe_intermediate_size": 16,
            "num_dense_layers": 1,
        },
    ),
    text("Kimi Linear (latent, attention in some layers)", "KimiLinear", {**LATENT, **SPLIT}),
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
        "LFM3 (attention in some layers)",
        "Lfm3",
        {**DECODER, "num_hidden_layers": 4, "layer_types": ["conv", "full_attention"] * 2},
    ),
    text(
        "Ling 3 (latent, attention in some layers)", "BailingHybrid", {**LATENT, **EXPERTS, **SPLIT}
    ),
    text(
        "RecurrentGemma (attention in some layers)",
        "RecurrentGemma",
        {**DECODER, "lru_width": 32, "attention_window_size": 6},
    ),
)
