"""Encoder-decoders of the fidelity table: sources and targets, three stacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from extractor import fidelity, models
from extractor.architecture import Architecture

if TYPE_CHECKING:
    from extractor.fidelity import Figures

UNEVEN: Final = {"init_std": 0.5}
"""Makes maps of long texts uneven enough to compare."""


def pairs(
    title: str, family: str, changes: Mapping[str, Any] = MappingProxyType({}), **flags: bool
) -> Architecture:
    """A row of a model of :data:`models.ENCODER_DECODERS`."""

    def make(folder: Path) -> Path:
        return models.tiny_encoder_decoder(folder, family, **changes)

    def measure(folder: Path) -> Figures:
        return fidelity.measure(make, folder, has_target=True)

    return Architecture(title, measure, **flags)


ENCODER_DECODERS: Final = (
    pairs("BART (encoder deeper than decoder)", "bart", UNEVEN, quick=True),
    pairs("mBART (starts with its last label)", "mbart", UNEVEN),
    pairs("Marian", "marian", UNEVEN),
    pairs("Pegasus", "pegasus", UNEVEN),
    pairs("T5 (6 and 3 layers, relative bias)", "t5", quick=True),
    pairs("mT5 (2 and 3 layers, relative bias)", "mt5"),
)
