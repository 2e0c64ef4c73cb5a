"""Encoder-decoders of the fidelity table: sources and targets, three stacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from extractor import fidelity, models
from extractor.architecture import DECODER, ENCODER, Architecture

if TYPE_CHECKING:
    from extractor.fidelity import Figures

UNEVEN: Final = {"init_std": 0.5}
"""Makes maps of long texts uneven enough to compare."""


BART: Final = {**models.ENCODER_DECODERS["marian"][2], **UNEVEN}
T5: Final = models.ENCODER_DECODERS["mt5"][2]
_GEMMA: Final = {
    **DECODER,
    "vocab_size": 48,
    "query_pre_attn_scalar": 8,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "initializer_range": 0.5,
}
LED: Final = {
    **BART,
    "attention_window": 8,
    "max_encoder_position_embeddings": models.POSITIONS,
    "max_decoder_position_embeddings": models.POSITIONS,
}
SEAMLESS: Final = {
    **BART,
    "hidden_size": models.WIDTH,
    "initializer_range": 0.4,
    # What it has for sounds is made too, as small as can be.
    "speech_encoder_layers": 1,
    "speech_encoder_attention_heads": 2,
    "speech_encoder_intermediate_size": 32,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feature_projection_input_dim": 16,
    "t2u_vocab_size": 32,
    "t2u_encoder_layers": 1,
    "t2u_encoder_ffn_dim": 32,
    "t2u_encoder_attention_heads": 2,
    "t2u_decoder_layers": 1,
    "t2u_decoder_ffn_dim": 32,
    "t2u_decoder_attention_heads": 2,
    "upsample_initial_channel": 32,
    "unit_hifi_gan_vocab_size": 32,
    "unit_embed_dim": 16,
    "lang_embed_dim": 8,
    "spkr_embed_dim": 8,
    "vocoder_num_langs": 2,
    "vocoder_num_spkrs": 2,
}
T5GEMMA: Final = {
    "encoder": _GEMMA,
    "decoder": {**_GEMMA, "cross_attention_hidden_size": models.WIDTH},
    "initializer_range": 0.5,
}


def pairs(
    title: str, family: str, changes: Mapping[str, Any] = MappingProxyType({}), **flags: bool
) -> Architecture:
    """A row of a model of :data:`models.ENCODER_DECODERS`."""
    return _row(
        title, lambda folder: models.tiny_encoder_decoder(folder, family, **changes), **flags
    )


def built(
    title: str,
    prefix: str,
    settings: Mapping[str, Any],
    *,
    first_is_global: bool = False,
    **flags: bool,
) -> Architecture:
    """A row of the bare model of some classes, by their settings."""

    def make(folder: Path) -> Path:
        models.save(folder, prefix, "Model", dict(settings))
        models.words(folder, single="$A </s>", pair="$A </s> $B </s>")
        return folder

    return _row(title, make, first_is_global=first_is_global, **flags)


def _bert_to_bert(folder: Path) -> Path:
    import torch
    from transformers import BertConfig, EncoderDecoderConfig, EncoderDecoderModel

    from qkvault_extractor.machine import quiet

    models.words(folder, single="$A </s>", pair="$A </s> $B </s>")
    half = {**ENCODER, "initializer_range": 0.6, "vocab_size": 48}
    decoder = BertConfig(
        **{**half, "num_hidden_layers": 2}, is_decoder=True, add_cross_attention=True
    )
    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(**half), decoder)
    config.decoder_start_token_id, config.pad_token_id = 2, 0
    with quiet():
        torch.manual_seed(0)
        EncoderDecoderModel(config).save_pretrained(folder)
    return folder


def _row(
    title: str,
    make: Callable[[Path], Path],
    *,
    first_is_global: bool = False,
    class_name: str = "AutoModel",
    **flags: bool,
) -> Architecture:
    def measure(folder: Path) -> Figures:
        return fidelity.measure(
            make,
            folder,
            has_target=True,
            class_name=class_name,
            first_is_global=first_is_global,
        )

    return Architecture(title, measure, **flags)


ENCODER_DECODERS: Final = (
    pairs("BART (encoder deeper than decoder)", "bart", UNEVEN, quick=True),
    pairs("mBART (starts with its last label)", "mbart", UNEVEN),
    pairs("Marian", "marian", UNEVEN),
    pairs("Pegasus", "pegasus", UNEVEN),
    pairs("T5 (6 and 3 layers, relative bias)", "t5", quick=True),
    pairs("mT5 (2 and 3 layers, relative bias)", "mt5"),
    built("UMT5 (bias of every layer)", "UMT5", T5),
    built("Switch Transformers (experts)", "SwitchTransformers", {**T5, "num_experts": 4}),
    built("M2M-100", "M2M100", BART),
    built("NLLB-MoE (experts)", "NllbMoe", {**BART, "num_experts": 4}),
    built("Blenderbot", "Blenderbot", BART),
    built("Blenderbot Small", "BlenderbotSmall", BART),
    built("PLBart", "PLBart", BART),
    built("MVP", "Mvp", BART),
    built(
        "FSMT",
        "FSMT",
        {
            **BART,
            "init_std": 0.4,
            "langs": ["en", "de"],
            "src_vocab_size": 48,
            "tgt_vocab_size": 48,
        },
    ),
    built(
        "BigBird-Pegasus, full attention",
        "BigBirdPegasus",
        {**BART, "attention_type": "original_full"},
    ),
    built("SeamlessM4T, texts", "SeamlessM4T", SEAMLESS),
    built("SeamlessM4T v2, texts", "SeamlessM4Tv2", SEAMLESS),
    _row("BERT to BERT (any two)", _bert_to_bert, class_name="AutoModelForSeq2SeqLM"),
    built("T5Gemma (windows)", "T5Gemma", T5GEMMA),
    built(
        "ProphetNet (its main stream)",
        "ProphetNet",
        {
            "hidden_size": models.WIDTH,
            "num_encoder_layers": 3,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 2,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": models.POSITIONS,
            "init_std": 0.4,
            "num_buckets": 8,
            "relative_max_distance": 16,
            "decoder_start_token_id": 0,
        },
    ),
    built("LED (windows)", "LED", LED),
    built("LED (windows, first token global)", "LED", LED, first_is_global=True),
    built(
        "LongT5, local (neighbouring blocks, relative bias)",
        "LongT5",
        {**T5, "encoder_attention_type": "local", "local_radius": 7},
        quick=True,
    ),
    built(
        "LongT5, transient-global (summaries of blocks)",
        "LongT5",
        {
            **T5,
            "encoder_attention_type": "transient-global",
            "local_radius": 7,
            "global_block_size": 6,
        },
    ),
    built(
        "Pegasus-X (blocks, every other layer's shifted; global tokens)",
        "PegasusX",
        {**BART, "block_size": 8, "num_global_tokens": 4},
    ),
)
