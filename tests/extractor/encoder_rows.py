"""Encoders of the fidelity table."""

from __future__ import annotations

from typing import Final

from extractor import models
from extractor.architecture import DECODER, ENCODER, gpt, text

_DISENTANGLED: Final = {
    **ENCODER,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "max_relative_positions": 20,
}
_XLM: Final = {
    "emb_dim": models.WIDTH,
    "n_layers": models.DEPTH,
    "n_heads": 4,
    "max_position_embeddings": models.POSITIONS,
    "init_std": 0.3,
    "embed_init_std": 0.3,
}

PERCEIVER: Final = {
    "num_latents": 6,
    "d_latents": models.WIDTH,
    "d_model": 24,
    "qk_channels": 16,
    "v_channels": 32,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 2,
    "initializer_range": 0.3,
    "max_position_embeddings": models.POSITIONS,
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
    text("XLNet", "XLNet", gpt("d_model", "n_layer", "n_head", d_inner=48), quick=True),
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
    text(
        "XLM-R with languages (X-MOD)",
        "Xmod",
        {**ENCODER, "languages": ["en_XX"], "default_language": "en_XX"},
    ),
    text("RoBERTa-PreLayerNorm", "RobertaPreLayerNorm", ENCODER),
    text("LUKE", "Luke", {**ENCODER, "entity_vocab_size": 10, "entity_emb_size": 8}),
    text("TAPAS", "Tapas", ENCODER),
    text("GTE", "Gte", ENCODER),
    text("Jina embeddings v3", "JinaEmbeddingsV3", ENCODER),
    text("BigBird, full attention", "BigBird", {**ENCODER, "attention_type": "original_full"}),
    text("Longformer (windows)", "Longformer", {**ENCODER, "attention_window": 8}),
    text(
        "Longformer (windows unequal by layer)",
        "Longformer",
        {**ENCODER, "attention_window": [4, 8, 24]},
    ),
    text(
        "Longformer, classifier (first token global)",
        "Longformer",
        {**ENCODER, "attention_window": 8},
        suffix="ForSequenceClassification",
        quick=True,
    ),
    text("Perceiver, texts (latents)", "Perceiver", PERCEIVER, suffix="ForMaskedLM"),
    text(
        "Perceiver, classifier (latents)",
        "Perceiver",
        PERCEIVER,
        suffix="ForSequenceClassification",
        quick=True,
    ),
    text("CANINE (character layers)", "Canine", ENCODER),
    text("XLM", "XLM", _XLM),
    text("FlauBERT", "Flaubert", _XLM),
    text("BERT generation, encoder", "BertGeneration", ENCODER, "Encoder"),
    text(
        "RoCBert",
        "RoCBert",
        {**ENCODER, "pronunciation_vocab_size": 48, "shape_vocab_size": 48},
    ),
    text("ESM C", "Esmc", ENCODER),
    text(
        "SqueezeBERT",
        "SqueezeBert",
        {**ENCODER, "embedding_size": 32, "initializer_range": 0.8},
        quick=True,
    ),
)
