"""Models of images and sounds of the fidelity table."""

from __future__ import annotations

from typing import Final

from extractor.architecture import features

FEATURES: Final = (
    features("ViT", "vit", quick=True),
    features("DeiT", "deit"),
    features("CLIP, vision", "clip"),
    features("SigLIP, vision", "siglip"),
    features("SigLIP 2, NaFlex, vision", "siglip2"),
    features("DINOv2", "dinov2"),
    features("DINOv2 with registers", "registers"),
    features("DINOv3", "dinov3"),
    features("I-JEPA", "ijepa"),
    features("ViT-MSN", "vitmsn"),
    features("ViTDet (all tokens)", "vitdet"),
    features("BEiT (relative bias)", "beit"),
    features("Data2Vec vision (relative bias)", "data2vecvision"),
    features("YOLOS", "yolos"),
    features("Pixtral, vision (joins a batch)", "pixtral"),
    features("DPT", "dpt"),
    features("OWL-ViT, vision", "owlvit"),
    features("BLIP, vision", "blip"),
    features("AIMv2, vision", "aimv2"),
    features("VideoMAE", "videomae"),
    features("ViViT", "vivit"),
    features("DETR (object queries)", "detr"),
    features("Table Transformer (object queries)", "table"),
    features("Conditional DETR (object queries)", "conditional"),
    features("DAB-DETR (object queries)", "dab"),
    features("Perceiver, images (latents)", "perceiver"),
    features("Whisper, encoder", "whisper"),
    features("wav2vec 2.0", "wav2vec2"),
    features("HuBERT", "hubert"),
    features("UniSpeech", "unispeech"),
    features("UniSpeech-SAT", "unispeechsat"),
    features("SEW", "sew"),
    features("SEW-D (disentangled)", "sewd"),
    features("Wav2Vec2-Conformer (relative keys)", "conformer"),
    features("Parakeet, encoder (relative keys)", "parakeet"),
    features("Speech2Text, encoder", "speech2text"),
    features("Moonshine, encoder", "moonshine"),
    features("Data2Vec audio", "data2vecaudio"),
    features("Wav2Vec2-BERT (relative keys)", "w2vbert"),
    features("WavLM (gated relative bias)", "wavlm"),
    features("Audio Spectrogram Transformer", "ast"),
)
