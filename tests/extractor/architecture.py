"""A row of the fidelity table: an architecture as a tiny model of fixed random weights.

To add one whose input is not text, give it a ``measure`` of its own; the rest is common.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from extractor import fidelity, models

if TYPE_CHECKING:
    from extractor.fidelity import Figures

ENCODER: Final = models.encoder_settings()
DECODER: Final = models.llama_settings()
EXPERTS: Final = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        title: what people call it, and what is special.
        measure: makes the model in an empty folder and measures it.
        refused: whether it cannot be captured.
        quick: whether the quick tests measure it too.
    """

    title: str
    measure: Callable[[Path], Figures]
    refused: bool = False
    quick: bool = False


def text(
    title: str, prefix: str, settings: Mapping[str, Any], suffix: str = "Model", **flags: bool
) -> Architecture:
    """A model of texts.

    Args:
        title: as for :class:`Architecture`.
        prefix: of the names of its classes in transformers.
        settings: of its configuration.
        suffix: of its model class.
        flags: ``refused``, ``quick``.
    """

    classifies = suffix == "ForSequenceClassification"

    def make(folder: Path) -> Path:
        return models.save(folder, prefix, suffix, dict(settings), labels=2 * classifies)

    def measure(folder: Path) -> Figures:
        heads = {"ForConditionalGeneration": "ForImageTextToText"}
        name = f"AutoModel{heads.get(suffix, suffix)}" if suffix.startswith("For") else "AutoModel"
        return fidelity.measure(make, folder, class_name=name)

    return Architecture(title, measure, **flags)


def features(title: str, family: str, **flags: bool) -> Architecture:
    """A model of images or sounds.

    Args:
        title: as for :class:`Architecture`.
        family: one of ``FAMILIES``, ``MORE`` or ``REFUSED`` of :mod:`extractor.feature_families`.
        flags: ``refused``, ``quick``.
    """
    return Architecture(title, lambda folder: fidelity.measure_features(family, folder), **flags)


def gpt(width: str, depth: str, heads: str, **settings: Any) -> dict[str, Any]:
    """Settings of a model that names width, depth and heads in its own way."""
    return {
        width: models.WIDTH,
        depth: models.DEPTH,
        heads: 4,
        "initializer_range": 0.3,
        **settings,
    }


LATENT: Final = {
    **DECODER,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "head_dim": 4,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
