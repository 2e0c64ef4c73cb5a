"""Models of images and sounds of the fidelity table."""

from __future__ import annotations

from typing import Final

from extractor.architecture import features

FEATURES: Final = (
    features("ViT", "vit", quick=True),
    features("DeiT", "deit"),
    features("CLIP, vision", "clip"),
    features("SigLIP, vision", "siglip"),
    features("DINOv2", "dinov2"),
    features("DINOv2 with registers", "registers"),
    features("YOLOS", "yolos"),
    features("VideoMAE", "videomae"),
    features("Whisper, encoder", "whisper"),
    features("wav2vec 2.0", "wav2vec2"),
    features("Audio Spectrogram Transformer", "ast"),
)
