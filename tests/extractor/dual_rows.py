"""Models of texts beside images or sounds, of the fidelity table: the half that reads texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from extractor import models
from extractor.architecture import text

if TYPE_CHECKING:
    from extractor.architecture import Architecture

_SIZES: Final = {
    "hidden_size": models.WIDTH,
    "num_hidden_layers": models.DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
_TEXT: Final = {
    **_SIZES,
    "vocab_size": 48,
    "max_position_embeddings": models.POSITIONS,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "pad_token_id": 0,
}
_IMAGES: Final = {
    "vision_config": {**_SIZES, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8}
}
_WIDE: Final = {"initializer_factor": 8.0}  # CLIP's range follows from its width alone


def _dual(title: str, prefix: str, other: dict[str, Any] = _IMAGES, **changes: Any) -> Architecture:
    """A model with a configuration for its texts, and one for what is beside them."""
    return text(f"{title}, texts", prefix, {"text_config": {**_TEXT, **changes}, **other})


DUALS: Final = (
    _dual("CLIP", "CLIP", **_WIDE),
    _dual("CLIPSeg", "CLIPSeg", **_WIDE),
    _dual("MetaCLIP 2", "MetaClip2", **_WIDE),
    _dual("X-CLIP", "XCLIP", **_WIDE),
    _dual("OWL-ViT", "OwlViT", **_WIDE),
    _dual("GroupViT", "GroupViT", {}),
    _dual("AIMv2", "Aimv2"),
    _dual("SigLIP", "Siglip"),
    _dual("SigLIP 2", "Siglip2"),
    _dual("AltCLIP", "AltCLIP"),
    _dual("Chinese CLIP", "ChineseCLIP"),
    _dual("ALIGN", "Align", {}),
    _dual("BLIP", "Blip"),
    _dual("FLAVA", "Flava"),
    _dual("CLAP", "Clap", {}, initializer_factor=8.0),
)
