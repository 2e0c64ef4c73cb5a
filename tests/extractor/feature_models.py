"""Tiny models of images and sounds, weights random but fixed, and inputs for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from extractor.models import WIDTH
from qkvault_extractor.machine import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
IMAGES = {**SIZES, "image_size": 32, "patch_size": 8}
SOUNDS = {
    **SIZES,
    "conv_dim": [16, 16],
    "conv_kernel": [10, 3],
    "conv_stride": [5, 2],
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER = {
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_source_positions": 30,
    "num_mel_bins": 16,
    "vocab_size": 60,
    "init_std": 0.3,
    **{f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")},
}
PYRAMID = {"hidden_sizes": [32] * 4, "num_attention_heads": [2] * 4, "image_size": 32}
WINDOWS = {
    "image_size": 32,
    "patch_size": 4,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [2, 4],
    "window_size": 4,
}
SPECTROGRAMS = {**SIZES, "max_length": 48, "num_mel_bins": 32, "patch_size": 16}
PATCHES = [f"patch {row},{column}" for row in range(4) for column in range(4)]
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[int, ...], list[str]]] = {
    "vit": ("ViT", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "deit": ("DeiT", IMAGES, (3, 32, 32), ["[CLS]", "[DIST]", *PATCHES]),
    "clip": ("CLIPVision", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "siglip": ("SiglipVision", IMAGES, (3, 32, 32), PATCHES),
    "dinov2": ("Dinov2", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "registers": (
        "Dinov2WithRegisters",
        {**IMAGES, "num_register_tokens": 2},
        (3, 32, 32),
        ["[CLS]", "[REG 0]", "[REG 1]", *PATCHES],
    ),
    "yolos": (
        "Yolos",
        {**IMAGES, "image_size": [32, 32], "num_detection_tokens": 2},
        (3, 32, 32),
        ["[CLS]", *PATCHES, "[DET 0]", "[DET 1]"],
    ),
    "videomae": (
        "VideoMAE",
        {**IMAGES, "num_frames": 4},
        (4, 3, 32, 32),
        [f"patch {time},{place[6:]}" for time in range(2) for place in PATCHES],
    ),
    "whisper": ("Whisper", WHISPER, (16, 60), [f"frame {i}" for i in range(30)]),
    "wav2vec2": ("Wav2Vec2", SOUNDS, (400,), [f"frame {i}" for i in range(39)]),
    "ast": (
        "AST",
        SPECTROGRAMS,
        (48, 32),
        ["[CLS]", "[DIST]", *(f"patch {band},{t}" for band in range(2) for t in range(4))],
    ),
}
"""Name -> prefix of its classes, settings, shape of an example, names of its tokens."""

REFUSED: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "swin": ("Swin", WINDOWS, (3, 32, 32)),
    "pvt": ("PvtV2", PYRAMID, (3, 32, 32)),
    "vitmae": ("ViTMAE", IMAGES, (3, 32, 32)),
}
"""The same of those that cannot be captured."""


def make_model(prefix: str, settings: dict[str, Any], suffix: str = "Model", **more: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{prefix}Config")(**settings, **more)
    with quiet():
        torch.manual_seed(0)
        return getattr(transformers, prefix + suffix)(config).eval()


def make_arrays(shape: Sequence[int], count: int = 3) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(5)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]


def own_attention(model: Any, arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The model's own, ``(example, layer, head, query_token, key_token)``."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        batch = {model.main_input_name: torch.from_numpy(np.stack(arrays))}
        found = model(**batch, output_attentions=True).attentions
    model.set_attn_implementation(before)
    return np.asarray(torch.stack(found, 1).numpy())
