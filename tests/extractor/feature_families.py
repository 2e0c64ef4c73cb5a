"""Families of images and sounds: tiny models, what they are given, what its tokens are called."""

from __future__ import annotations

from extractor.feature_models import Family
from extractor.models import WIDTH

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
    "window_size": 2,
}
LAST_WHOLE = {**WINDOWS, "depths": [2, 2], "window_size": 4}
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
MOONSHINE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "vocab_size": 60,
    "initializer_range": 0.3,
    **{f"{half}_num_hidden_layers": 2 for half in ("encoder", "decoder")},
    **{f"{half}_num_attention_heads": 4 for half in ("encoder", "decoder")},
    **{f"{half}_num_key_value_heads": 4 for half in ("encoder", "decoder")},
}
SEGMENTER = {
    **SIZES,
    "initializer_range": 0.15,
    "mlp_dim": 48,
    "image_size": 32,
    "patch_size": 8,
    "output_channels": 16,
    "window_size": 2,
    "global_attn_indexes": [1],
}
STAGES = {
    "depths": [1, 1],
    "hidden_sizes": [16, 32],
    "num_encoder_blocks": 2,
    "num_attention_heads": [2, 4],
    "sr_ratios": [4, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
}
CLIPS = {
    **SIZES,
    "mlp_ratio": 1.5,
    "crop_size": 32,
    "patch_size": 8,
    "frames_per_clip": 4,
    "pred_hidden_size": WIDTH,
    "pred_num_attention_heads": 4,
    "pred_num_hidden_layers": 1,
    "pred_num_mask_tokens": 2,
}
VOXTRAL = {
    **SIZES,
    "d_model": WIDTH,
    "num_mel_bins": 16,
    "max_source_positions": 30,
    "init_std": 0.3,
    "initializer_range": 0.3,
}
LEVELS = {
    "image_size": 64,
    "hidden_sizes": [32, 64, 64],
    "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
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
    "siglip2": Family(
        "Siglip2Vision",
        {**SIZES, "num_patches": 16, "patch_size": 8},
        (12, 192),
        [f"patch {row},{column}" for row in range(2) for column in range(6)],
        arguments={"spatial_shapes": (2, 6), "pixel_attention_mask": (1,) * 12},
    ),
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
    "pixtral": Family(
        "PixtralVision",
        {**SIZES, "image_size": 32, "patch_size": 8, "head_dim": 8},
        (3, 32, 32),
        PATCHES,
        alone=True,
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
    "swin": Family("Swin", LAST_WHOLE, (3, 32, 32), PATCHES, hooked="SwinAttention"),
    "swinv2": Family("Swinv2", LAST_WHOLE, (3, 32, 32), PATCHES, hooked="Swinv2SelfAttention"),
    "sam": Family("SamVision", SEGMENTER, (3, 32, 32), PATCHES, hooked="SamVisionAttention"),
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

MORE = {
    "dpt": Family("DPT", IMAGES, (3, 32, 32)),
    "owlvit": Family("OwlViTVision", IMAGES, (3, 32, 32)),
    "blip": Family("BlipVision", IMAGES, (3, 32, 32)),
    "aimv2": Family("Aimv2Vision", IMAGES, (3, 32, 32)),
    "git": Family("GitVision", IMAGES, (3, 32, 32)),
    "blip2": Family("Blip2Vision", IMAGES, (3, 32, 32)),
    "flava": Family("FlavaImage", IMAGES, (3, 32, 32)),
    "chinese": Family("ChineseCLIPVision", IMAGES, (3, 32, 32)),
    "idefics3": Family("Idefics3Vision", IMAGES, (3, 32, 32), suffix="Transformer"),
    "janus": Family("JanusVision", IMAGES, (3, 32, 32)),
    "internvl": Family(
        "InternVLVision", {**IMAGES, "image_size": [32, 32], "patch_size": [8, 8]}, (3, 32, 32)
    ),
    "vjepa2": Family("VJEPA2", CLIPS, (4, 3, 32, 32)),
    "voxtral": Family("VoxtralEncoder", VOXTRAL, (16, 60), suffix=""),
    "unispeechsat": Family("UniSpeechSat", SOUNDS, (400,)),
    "conformer": Family("Wav2Vec2Conformer", {**SOUNDS, "conv_depthwise_kernel_size": 3}, (400,)),
    "sew": Family("SEW", {**SOUNDS, "squeeze_factor": 2}, (400,)),
    "sewd": Family("SEWD", {**SOUNDS, "squeeze_factor": 2}, (400,)),
    "parakeet": Family(
        "ParakeetEncoder",
        {**SIZES, "num_mel_bins": 16, "subsampling_conv_channels": 8},
        (64, 16),
        suffix="",
    ),
    "speech2text": Family(
        "Speech2Text", {**WHISPER, "input_feat_per_channel": 16, "conv_channels": 32}, (60, 16)
    ),
    "moonshine": Family("Moonshine", MOONSHINE, (8000,)),
}
"""More of them, for the fidelity table alone."""

REFUSED = {
    "swin in windows": Family("Swin", WINDOWS, (3, 32, 32)),
    "sam in windows": Family("SamVision", {**SEGMENTER, "global_attn_indexes": []}, (3, 32, 32)),
    "timesformer": Family("Timesformer", {**IMAGES, "num_frames": 4}, (4, 3, 32, 32)),
    "pvt": Family("PvtV2", PYRAMID, (3, 32, 32)),
    "segformer": Family("Segformer", STAGES, (3, 32, 32)),
    "levit": Family("Levit", LEVELS, (3, 64, 64)),
    "swiftformer": Family(
        "SwiftFormer", {"depths": [1] * 4, "embed_dims": [8, 16, 16, 16]}, (3, 64, 64)
    ),
    "vitmae": Family("ViTMAE", IMAGES, (3, 32, 32)),
    "deformable": Family("DeformableDetr", POINTS, (3, 32, 32)),
}
"""Those that cannot be captured."""
