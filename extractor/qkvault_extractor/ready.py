"""A model made ready for a vault: probed, held to what the vault was planned for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qkvault import PlanMismatch
from qkvault_extractor.batches import default_budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from qkvault import AttentionSource, Json, Precision, Record, VaultSpec
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.probe import Probe


def probe_for(
    loaded: LoadedModel,
    records: Sequence[Record],
    attention: AttentionSource,
    precision: Precision,
) -> Probe:
    """Learn what a model's attention looks like, as a vault is to keep it.

    Args:
        loaded: the model.
        records: examples of the vault, the longest among them.
        attention: whether the vault will store attention or derive it.
        precision: how it will.

    Raises:
        InputError: the model's attention cannot be captured, or not derived.
    """
    from qkvault_extractor.probe import probe

    kept: Literal["half", "single"] | None = None
    if attention == "derived":
        kept = "single" if precision == "float32" else "half"
    return probe(loaded, records, kept)


def refuse_other_attention(path: Path, spec: VaultSpec, loaded: LoadedModel, found: Probe) -> None:
    """Refuse to go on with a vault that was planned for attention of another shape.

    Raises:
        PlanMismatch: naming the versions to use.
    """
    if found.stacks != spec.stacks:
        version = spec.provenance.get("transformers")
        raise PlanMismatch(
            f"{path} was begun with attention of another shape than model {loaded.name} has here; "
            f"use the versions it was begun with: transformers {version}"
        )


def batch_budget(begun: Mapping[str, Json], device: str, asked: int | None = None) -> int:
    """Tokens per forward pass: what the user asks, else what the vault was begun with.

    A vault that is gone on with on another kind of device takes that one's default.
    """
    usual = begun.get("batch_tokens")
    if begun.get("device") != device or not isinstance(usual, int) or usual < 1:
        usual = default_budget(device)
    return asked or usual
