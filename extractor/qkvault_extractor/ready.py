"""A model made ready for a vault: loaded, probed, held to what the vault was planned for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from qkvault import PlanMismatch
from qkvault_extractor.batches import default_budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from qkvault import AttentionSource, Json, Precision, Record, VaultSpec
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.probe import Probe


def load_and_probe(
    name: str,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    device: str,
    records: Sequence[Record],
    attention: AttentionSource,
    precision: Precision,
) -> tuple[LoadedModel, Probe]:
    """Load a model's weights and learn what its attention looks like.

    Args:
        name: local folder or Hub name.
        config: what :func:`qkvault_extractor.model.load_config` returned for it.
        tokenizer: what :func:`qkvault_extractor.model.load_tokenizer` returned for it.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.
        records: examples of the vault, the longest among them.
        attention: whether the vault will store attention or derive it.
        precision: how it will.

    Raises:
        InputError: the weights cannot be used, or the model's attention cannot be captured.
        ResourceError: no such device, or not enough memory.
    """
    from qkvault_extractor.model import load_model
    from qkvault_extractor.probe import probe

    loaded = load_model(name, config, tokenizer, device)
    kept: Literal["half", "single"] | None = None
    if attention == "derived":
        kept = "single" if precision == "float32" else "half"
    return loaded, probe(loaded, records, kept)


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
