"""The rows of the fidelity table, under their headings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from extractor.decoder_rows import DECODERS
from extractor.dual_rows import DUALS
from extractor.encoder_decoder_rows import ENCODER_DECODERS
from extractor.encoder_rows import ENCODERS
from extractor.expert_rows import EXPERT_DECODERS
from extractor.feature_rows import FEATURES
from extractor.hybrid_rows import HYBRIDS
from extractor.multimodal_rows import MULTIMODAL
from extractor.refused_rows import REFUSED

if TYPE_CHECKING:
    from extractor.architecture import Architecture

GROUPS: Final[dict[str, tuple[Architecture, ...]]] = {
    "Encoders": ENCODERS,
    "Decoders": DECODERS,
    "Decoders with experts": EXPERT_DECODERS,
    "Decoders with layers of other kinds": HYBRIDS,
    "Models of texts and images, over texts": MULTIMODAL,
    "Encoder-decoders": ENCODER_DECODERS,
    "Texts, of models that see or hear too": DUALS,
    "Images and sounds, as features": FEATURES,
    "Refused": REFUSED,
}
"""Headings, and their rows; a row that is refused is listed apart, wherever it stands."""

ARCHITECTURES: Final = tuple(row for rows in GROUPS.values() for row in rows)
