"""Tiny models of images and sounds, weights random but fixed, and inputs for them."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from extractor.models import WIDTH
from qkvault import STACKS
from qkvault_extractor.machine import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from qkvault import StackName


class Family(NamedTuple):
    """A tiny model of a family.

    Attributes:
        prefix: of the names of its classes in transformers.
        settings: of its configuration.
        shape: of an example.
        names: of its tokens.
        target: names of the queries that it has learnt.
        suffix: of its model class.
    """

    prefix: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    names: Sequence[str] = ()
    target: Sequence[str] = ()
    suffix: str = "Model"

    def make(self) -> Any:
        return make_model(self.prefix, self.settings, self.suffix)


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
CONFORMER = {
    **SIZES,
    "initializer_range": 0.5,
    "feature_projection_input_dim": 16,
    "conv_depthwise_kernel_size": 3,
    "left_max_position_embeddings": 5,
    "right_max_position_embeddings": 3,
}
GATED = {**SOUNDS, "num_buckets": 16, "max_bucket_distance": 30}
BACKBONE = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
    "out_features": ["stage2"],
}
DETECTOR = {
    "use_timm_backbone": False,
    "backbone": None,
    "backbone_config": BACKBONE,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_queries": 5,
    "init_std": 0.4,
}
POINTS = {**DETECTOR, "num_feature_levels": 1}
LATENTS = {
    "num_latents": 6,
    "d_latents": WIDTH,
    "num_blocks": 2,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 4,
    "num_cross_attention_heads": 2,
    "initializer_range": 0.3,
    "image_size": 4,
}
PATCHES = [f"patch {row},{column}" for row in range(4) for column in range(4)]
VIDEO = [f"patch {time},{place[6:]}" for time in range(2) for place in PATCHES]
FRAMES = [f"frame {number}" for number in range(39)]
QUERIES = [f"query {number}" for number in range(5)]
FAMILIES = {
    "vit": Family("ViT", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "deit": Family("DeiT", IMAGES, (3, 32, 32), ["[CLS]", "[DIST]", *PATCHES]),
    "clip": Family("CLIPVision", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "siglip": Family("SiglipVision", IMAGES, (3, 32, 32), PATCHES),
    "dinov2": Family("Dinov2", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "registers": Family(
        "Dinov2WithRegisters",
        {**IMAGES, "num_register_tokens": 2},
        (3, 32, 32),
        ["[CLS]", "[REG 0]", "[REG 1]", *PATCHES],
    ),
    "dinov3": Family(
        "DINOv3ViT",
        {**IMAGES, "num_register_tokens": 1},
        (3, 32, 32),
        ["[CLS]", "[REG 0]", *PATCHES],
    ),
    "ijepa": Family("IJepa", IMAGES, (3, 32, 32), PATCHES),
    "vitmsn": Family("ViTMSN", IMAGES, (3, 32, 32), ["[CLS]", *PATCHES]),
    "vitdet": Family("VitDet", IMAGES, (3, 32, 32), PATCHES),
    "beit": Family(
        "Beit", {**IMAGES, "use_relative_position_bias": True}, (3, 32, 32), ["[CLS]", *PATCHES]
    ),
    "data2vecvision": Family(
        "Data2VecVision",
        {**IMAGES, "use_shared_relative_position_bias": True},
        (3, 32, 32),
        ["[CLS]", *PATCHES],
    ),
    "yolos": Family(
        "Yolos",
        {**IMAGES, "image_size": [32, 32], "num_detection_tokens": 2},
        (3, 32, 32),
        ["[CLS]", *PATCHES, "[DET 0]", "[DET 1]"],
    ),
    "videomae": Family("VideoMAE", {**IMAGES, "num_frames": 4}, (4, 3, 32, 32), VIDEO),
    "vivit": Family(
        "Vivit",
        {**IMAGES, "num_frames": 4, "tubelet_size": [2, 8, 8]},
        (4, 3, 32, 32),
        ["[CLS]", *VIDEO],
    ),
    "detr": Family("Detr", DETECTOR, (3, 32, 32), PATCHES, QUERIES),
    "table": Family("TableTransformer", DETECTOR, (3, 32, 32), PATCHES, QUERIES),
    "conditional": Family("ConditionalDetr", DETECTOR, (3, 32, 32), PATCHES, QUERIES),
    "dab": Family(
        "DabDetr",
        {**DETECTOR, "hidden_size": WIDTH, "init_std": 0.2},
        (3, 32, 32),
        PATCHES,
        QUERIES,
    ),
    "perceiver": Family(
        "Perceiver",
        LATENTS,
        (3, 4, 4),
        PATCHES,
        [f"latent {number}" for number in range(6)],
        "ForImageClassificationLearned",
    ),
    "whisper": Family("Whisper", WHISPER, (16, 60), FRAMES[:30]),
    "wav2vec2": Family("Wav2Vec2", SOUNDS, (400,), FRAMES),
    "hubert": Family("Hubert", SOUNDS, (400,), FRAMES),
    "unispeech": Family("UniSpeech", SOUNDS, (400,), FRAMES),
    "data2vecaudio": Family("Data2VecAudio", SOUNDS, (400,), FRAMES),
    "w2vbert": Family("Wav2Vec2Bert", CONFORMER, (20, 16), FRAMES[:20]),
    "wavlm": Family("WavLM", GATED, (400,), FRAMES),
    "ast": Family(
        "AST",
        SPECTROGRAMS,
        (48, 32),
        ["[CLS]", "[DIST]", *(f"patch {band},{t}" for band in range(2) for t in range(4))],
    ),
}

REFUSED = {
    "swin": Family("Swin", WINDOWS, (3, 32, 32)),
    "swinv2": Family("Swinv2", WINDOWS, (3, 32, 32)),
    "timesformer": Family("Timesformer", {**IMAGES, "num_frames": 4}, (4, 3, 32, 32)),
    "pvt": Family("PvtV2", PYRAMID, (3, 32, 32)),
    "vitmae": Family("ViTMAE", IMAGES, (3, 32, 32)),
    "siglip2": Family("Siglip2Vision", {**SIZES, "num_patches": 16, "patch_size": 8}, (16, 192)),
    "deformable": Family("DeformableDetr", POINTS, (3, 32, 32)),
}
"""Those that cannot be captured."""


def make_model(prefix: str, settings: dict[str, Any], suffix: str = "Model", **more: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{prefix}Config")(**settings, **more)
    with quiet():
        torch.manual_seed(0)
        model = getattr(transformers, prefix + suffix)(config).eval()
        for name, weights in model.named_parameters():
            if name.endswith("relative_position_bias_table"):  # begins as zeros, which tell nothing
                torch.nn.init.normal_(weights)
    return model


def make_arrays(shape: Sequence[int], count: int = 3) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(5)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]


def own_attention(model: Any, arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The only stack's of :func:`own_stacks`."""
    (attention,) = own_stacks(model, arrays).values()
    return attention


def own_stacks(
    model: Any, arrays: Sequence[NDArray[np.float32]], latents: int = 0
) -> dict[StackName, NDArray[np.float32]]:
    """A model's own attention by stack, ``(example, layer, head, query_token, key_token)``, as a
    twin of it reports that was built to compute eagerly.

    Args:
        model: the model.
        arrays: examples of one shape.
        latents: how many a Perceiver has; its decoder, whose queries are others, is left out.
    """
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    with quiet():
        twin = type(model)(config).eval()
    twin.load_state_dict(model.state_dict())
    name = next(n for n in ("pixel_values", twin.main_input_name) if n in _arguments(twin))
    with torch.inference_mode(), _PerHead() as per_head:
        output = twin(**{name: torch.from_numpy(np.stack(arrays))}, output_attentions=True)
    found = {stack: getattr(output, f"{stack}_attentions", None) for stack in STACKS}
    if one := output.get("attentions"):
        averaged = one[0].stride(1) == 0  # one map for all heads
        found["decoder" if latents else "encoder"] = per_head.maps if averaged else one
    return {
        stack: torch.stack([a for a in own if not latents or a.shape[2] == latents], 1).numpy()
        for stack, own in found.items()
        if own
    }


def _arguments(model: Any) -> Sequence[str]:
    return tuple(inspect.signature(model.forward).parameters)


class _PerHead:
    """Keeps what torch's multi-head attention computes before it is averaged over heads."""

    def __init__(self) -> None:
        self.maps: list[torch.Tensor] = []
        self._own = torch.nn.functional.multi_head_attention_forward
        self._patch = mock.patch.object(
            torch.nn.functional, "multi_head_attention_forward", self._attend
        )

    def __enter__(self) -> _PerHead:
        self._patch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._patch.stop()

    def _attend(self, *args: Any, **kwargs: Any) -> Any:
        output, weights = self._own(*args, **{**kwargs, "average_attn_weights": False})
        self.maps.append(weights)
        return output, weights.mean(1)
