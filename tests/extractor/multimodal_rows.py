"""Models of texts and images in the fidelity table, run over texts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from extractor.architecture import DECODER, EXPERTS, text
from extractor.decoder_rows import GEMMA_4
from extractor.hybrid_rows import LINEAR, SPLIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extractor.architecture import Architecture

_IDS: Final = {"vocab_size": 48, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_PATCHES: Final = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
_DEEP: Final = {
    "depth": 1,
    "hidden_size": 32,
    "num_heads": 4,
    "out_hidden_size": 32,
    "intermediate_size": 48,
}
_ROPE: Final = {"rope_type": "default", "rope_theta": 10000.0}
_ROPE_OF_IMAGES: Final = {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}}
_BY_LAYER: Final = {"sliding_window": 6, "sliding_window_pattern": 2}


def _model(
    title: str,
    prefix: str,
    of_text: Mapping[str, Any],
    of_images: Mapping[str, Any] = _PATCHES,
    suffix: str = "Model",
    *,
    quick: bool = False,
    **settings: Any,
) -> Architecture:
    """A row of a model with a decoder of texts and an encoder of images."""
    parts = {
        "text_config": {**DECODER, **_IDS, **of_text},
        "vision_config": dict(of_images),
        "initializer_range": 0.3,
    }
    return text(title, prefix, {**parts, **settings}, suffix, quick=quick)


MULTIMODAL: Final = (
    _model("Gemma 3, multimodal (windows)", "Gemma3", _BY_LAYER, mm_tokens_per_image=4),
    _model(
        "Gemma 4, multimodal (layers of two widths)",
        "Gemma4",
        {name: value for name, value in GEMMA_4.items() if name not in DECODER},
        audio_config=None,
    ),
    _model(
        "Llama 4 (chunks)",
        "Llama4",
        {
            **EXPERTS,
            "attention_chunk_size": 7,
            "no_rope_layers": [1, 1, 0],
            "intermediate_size_mlp": 48,
        },
        {
            **_PATCHES,
            "vision_output_dim": 32,
            "projector_input_dim": 32,
            "projector_output_dim": 32,
        },
        suffix="ForConditionalGeneration",
        quick=True,
    ),
    _model(
        "Llama 3.2 Vision (layers over images left out)",
        "Mllama",
        {
            "model_type": "mllama_text_model",
            "cross_attention_layers": [1],
            "rope_parameters": _ROPE,
        },
        {
            **_PATCHES,
            "num_global_layers": 1,
            "vision_output_dim": 64,
            "attention_heads": 4,
            "max_num_tiles": 2,
            "intermediate_layers_indices": [0],
            "supported_aspect_ratios": [[1, 1]],
        },
    ),
    _model(
        "Mistral Small 3.1",
        "Mistral3",
        {"model_type": "mistral"},
        {**_PATCHES, "model_type": "pixtral", "head_dim": 8},
    ),
    _model(
        "LLaVA",
        "Llava",
        {"model_type": "llama"},
        {**_PATCHES, "model_type": "clip_vision_model"},
    ),
    _model(
        "LLaVA-NeXT",
        "LlavaNext",
        {"model_type": "mistral"},
        {**_PATCHES, "model_type": "clip_vision_model"},
    ),
    _model("Qwen2-VL", "Qwen2VL", _ROPE_OF_IMAGES, {**_DEEP, "embed_dim": 32}),
    _model("Qwen2.5-VL", "Qwen2_5_VL", _ROPE_OF_IMAGES, _DEEP),
    _model("Qwen3-VL", "Qwen3VL", _ROPE_OF_IMAGES, {**_DEEP, "deepstack_visual_indexes": [0]}),
    _model("Qwen3.5, multimodal (attention in some layers)", "Qwen3_5", {**SPLIT, **LINEAR}, _DEEP),
    _model("GLM-4.1V", "Glm4v", _ROPE_OF_IMAGES, {**_PATCHES, **_DEEP}),
    _model("Idefics2", "Idefics2", {"model_type": "mistral"}),
    _model("Idefics3", "Idefics3", {"model_type": "llama"}),
    _model("SmolVLM", "SmolVLM", {"model_type": "llama"}),
    _model(
        "InternVL",
        "InternVL",
        {"model_type": "qwen2"},
        {**_PATCHES, "image_size": [32, 32], "patch_size": [8, 8]},
    ),
    _model(
        "Aya Vision (windows)",
        "AyaVision",
        {"model_type": "cohere2", "sliding_window": 6},
        {**_PATCHES, "model_type": "siglip_vision_model"},
    ),
)
