"""Decoders of the fidelity table that attend in all layers, and have no experts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from extractor import fidelity, models, xl_models
from extractor.architecture import DECODER, ENCODER, LATENT, Architecture, gpt, text

_FALCON: Final = gpt("hidden_size", "num_hidden_layers", "num_attention_heads")
GEMMA_4: Final = {
    **DECODER,
    "sliding_window": 6,
    "global_head_dim": 16,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 48,
}


def _trained_doge(folder: Path) -> Path:
    """Doge as training leaves it: what its values add to the scores is no constant any more."""
    import torch
    from transformers import DogeModel

    from qkvault_extractor.machine import quiet

    models.save(folder, "Doge", "Model", dict(DECODER))
    with quiet():
        network = DogeModel.from_pretrained(folder)
        for layer in network.layers:
            torch.nn.init.constant_(layer.self_attn.A, 1.0)
        network.save_pretrained(folder)
    return folder


DECODERS: Final = (
    text("GPT-2 (scaled by layer)", "GPT2", models.FAMILIES["gpt2"][2], quick=True),
    text("OpenAI GPT", "OpenAIGPT", gpt("n_embd", "n_layer", "n_head")),
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
    text("GPT-J", "GPTJ", gpt("n_embd", "n_layer", "n_head", rotary_dim=4)),
    text("CodeGen", "CodeGen", gpt("n_embd", "n_layer", "n_head", rotary_dim=4)),
    text("GPT-NeoX", "GPTNeoX", ENCODER),
    text("GPT-NeoX Japanese", "GPTNeoXJapanese", {**ENCODER, "intermediate_multiple_size": 2}),
    text("BERT as decoder", "Bert", {**ENCODER, "is_decoder": True}),
    text(
        "ModernBERT decoder (windows)",
        "ModernBertDecoder",
        {**ENCODER, "local_attention": 12, "global_attn_every_n_layers": 2},
    ),
    text("GPT-BigCode (one key head)", "GPTBigCode", gpt("n_embd", "n_layer", "n_head")),
    text("CTRL", "CTRL", gpt("n_embd", "n_layer", "n_head", dff=48)),
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
    text("BLOOM (ALiBi)", "Bloom", gpt("hidden_size", "n_layer", "n_head"), quick=True),
    text("Falcon (one key head)", "Falcon", _FALCON),
    text(
        "Falcon (grouped keys)",
        "Falcon",
        {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True},
    ),
    text("Falcon (ALiBi)", "Falcon", {**_FALCON, "alibi": True, "multi_query": False}, quick=True),
    text("MPT (ALiBi)", "Mpt", gpt("d_model", "n_layers", "n_heads", expansion_ratio=2)),
    text("Llama (grouped keys)", "Llama", DECODER, quick=True),
    text("Mistral (window)", "Mistral", {**DECODER, "sliding_window": 5}),
    text("Qwen2", "Qwen2", DECODER),
    text(
        "Qwen2 (windows from layer 1 on)",
        "Qwen2",
        {**DECODER, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    text("Qwen3", "Qwen3", DECODER),
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
    text(
        "Gemma 3n (windows)",
        "Gemma3nText",
        {
            **DECODER,
            "sliding_window": 6,
            "num_kv_shared_layers": 1,
            "laurel_rank": 4,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 48,
            "altup_num_inputs": 2,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    text("Gemma 4 (layers of two widths)", "Gemma4Text", GEMMA_4, quick=True),
    text(
        "Gemma 4 (fewer key heads in some layers)",
        "Gemma4Text",
        {
            **GEMMA_4,
            "num_key_value_heads": 4,
            "num_global_key_value_heads": 2,
            "attention_k_eq_v": True,
            "num_kv_shared_layers": 0,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    text("VaultGemma (softcap)", "VaultGemma", DECODER),
    text("Phi", "Phi", DECODER),
    text("Phi-3", "Phi3", {**DECODER, "original_max_position_embeddings": models.POSITIONS}),
    text("OLMo", "Olmo", DECODER),
    text("OLMo 2", "Olmo2", DECODER),
    text("OLMo 3 (windows)", "Olmo3", {**DECODER, "sliding_window": 6}),
    text("Cohere", "Cohere", DECODER),
    text("Cohere 2 (windows)", "Cohere2", {**DECODER, "sliding_window": 6}),
    text("Granite", "Granite", DECODER),
    text("StableLM", "StableLm", DECODER),
    text("StarCoder 2", "Starcoder2", DECODER),
    text("Persimmon", "Persimmon", DECODER),
    text("Nemotron", "Nemotron", DECODER),
    text("GLM", "Glm", DECODER),
    text("Helium", "Helium", DECODER),
    text("SmolLM 3", "SmolLM3", DECODER),
    text("ERNIE 4.5", "Ernie4_5", DECODER),
    text(
        "EXAONE 4 (windows)",
        "Exaone4",
        {**DECODER, "sliding_window": 6, "sliding_window_pattern": 2},
    ),
    text("Apertus", "Apertus", DECODER),
    text("Seed-OSS", "SeedOss", DECODER),
    text("Arcee", "Arcee", DECODER),
    text("BitNet", "BitNet", DECODER),
    text("Ministral (windows)", "Ministral", {**DECODER, "sliding_window": 6}),
    text("Ministral 3", "Ministral3", DECODER),
    text("GLM-4", "Glm4", DECODER),
    text("Hunyuan", "HunYuanDenseV1", DECODER),
    text("HyperCLOVA X", "HyperCLOVAX", DECODER),
    text("Jais 2", "Jais2", DECODER),
    text("nanochat", "NanoChat", DECODER),
    text("MiniCPM 3 (latent attention)", "MiniCPM3", LATENT),
    text("Youtu (latent attention)", "Youtu", LATENT),
    text("Moshi, text", "Moshi", {**DECODER, "ffn_dim": 48}),
    text("BERT generation, decoder", "BertGeneration", {**ENCODER, "is_decoder": True}, "Decoder"),
    text(
        "CWM (windows)",
        "Cwm",
        {
            **DECODER,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    text("DiffLlama (both maps of its differences)", "DiffLlama", DECODER),
    Architecture(
        "Doge (values choose its keys)", lambda folder: fidelity.measure(_trained_doge, folder)
    ),
    text("Granite-SWA (sinks that gate)", "GraniteSWA", {**DECODER, "sliding_window": 6}),
    Architecture(
        "Transformer-XL (memory; QKVault's own module)",
        lambda folder: fidelity.measure(xl_models.save, folder),
    ),
)
