"""A model made ready for a vault: probed, held to what the vault was planned for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qkvault import METRICS, InputError, PlanMismatch, vector_precision
from qkvault_extractor.batches import default_budget
from qkvault_extractor.global_tokens import GLOBAL_TOKENS, find_rule
from qkvault_extractor.identity import identify_model, tokenizer_hash
from qkvault_extractor.options import DTYPES
from qkvault_extractor.spool import longest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from qkvault import (
        ArrayName,
        AttentionSource,
        Json,
        Place,
        Precision,
        Record,
        VaultSpec,
        VaultWriter,
        VectorPrecision,
    )
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.probe import Probe


def probe_for(
    loaded: LoadedModel,
    records: Sequence[Record],
    attention: AttentionSource,
    precision: Precision,
    vectors: Mapping[ArrayName, VectorPrecision],
) -> Probe:
    """Learn what a model's attention looks like, as a vault is to keep it.

    Args:
        loaded: the model.
        records: examples of the vault, the longest among them.
        attention: whether the vault will store attention or derive it.
        precision, vectors: how it will keep that and queries and keys.

    Raises:
        InputError: the model's attention cannot be captured, or not derived.
    """
    from qkvault_extractor.probe import probe

    derive_from = None
    if attention == "derived":
        derive_from = (
            vector_precision("query", precision, vectors),
            vector_precision("key", precision, vectors),
        )
    return probe(loaded, records, derive_from)


def longest_records(writer: VaultWriter) -> list[Record]:
    """The longest example of a vault, on which a model is tried, and that of the longest target."""
    return [writer.record(number) for number in longest(writer.lengths)]


def refuse_other_attention(path: Place, spec: VaultSpec, loaded: LoadedModel, found: Probe) -> None:
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


def ready_for(
    path: Place, spec: VaultSpec, records: Sequence[Record], model: str | None, device: str
) -> tuple[LoadedModel, Probe]:
    """Load the model that a vault was planned for; nothing is loaded before it is known to be.

    Args:
        path: the vault.
        spec: what it keeps.
        records: examples of it, the longest among them.
        model: local folder or Hub name; where None, the folder that the vault says.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.

    Raises:
        InputError: there is no model where the vault says, or it cannot be used.
        PlanMismatch: it is another model, or this release keeps something else of it.
        ResourceError: no such device, or not enough memory.
    """
    from qkvault_extractor.model import load_config, load_model, load_tokenizer

    if "features" in spec.identity:
        raise InputError(
            f"{path} has units to run whose examples are features, which a vault does not hold: "
            "call extract_features with them again, with another folder if this one was finished"
        )
    name = model or find_model(path, spec)
    config, tokenizer = load_config(name), load_tokenizer(name)
    _refuse_other_model(path, spec, name, config, tokenizer)
    rule = find_rule(name, config, _global_tokens_of(spec))
    loaded = load_model(name, config, tokenizer, device, _dtype_of(spec), rule)
    learnt = probe_for(loaded, records, spec.attention, spec.precision, spec.vectors)
    refuse_other_attention(path, spec, loaded, learnt)
    measured = spec.attention == "derived" or "attention" in spec.arrays
    if loaded.logits != spec.logits or spec.metrics not in ((), METRICS[: 99 * measured]):
        raise PlanMismatch(
            f"{path} keeps other outputs or metrics than this release would write; "
            f"use qkvault {spec.provenance.get('qkvault')!r:.40}"
        )
    return loaded, learnt


def _dtype_of(spec: VaultSpec) -> str:
    """The type of weights that a vault was asked for; float32 for those older than the choice.

    Raises:
        PlanMismatch: one that this release does not know.
    """
    told = spec.identity.get("dtype", "float32")
    if told not in DTYPES:
        raise PlanMismatch(f"the vault asks for weights of type {told!r:.40}; use a newer qkvault")
    return str(told)


def _global_tokens_of(spec: VaultSpec) -> str | None:
    """Which tokens a vault's model is told are global; None where it is told nothing.

    Raises:
        PlanMismatch: ones that this release does not know.
    """
    told = spec.identity.get("global_tokens")
    if told is not None and told not in GLOBAL_TOKENS:
        raise PlanMismatch(f"the vault asks for global tokens {told!r:.40}; use a newer qkvault")
    return None if told is None else str(told)


def find_model(path: Place, spec: VaultSpec) -> str:
    """Where the model lay, if it still does: a folder. A Hub name out of a vault is not followed,
    for the vault may be anybody's.

    Raises:
        InputError: there is no such folder.
    """
    told = spec.provenance.get("location")
    if isinstance(told, str) and Path(told).is_dir():
        return told
    place = f"it was at {told!r:.200}; " if isinstance(told, str) else ""
    raise InputError(
        f"{path} has units to run, which takes the model that it was made with: {place}"
        "say with --model where it is"
    )


def _refuse_other_model(
    path: Place,
    spec: VaultSpec,
    name: str,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    found = {"model": identify_model(name, config), "tokenizer": tokenizer_hash(tokenizer)}
    differing = [
        f"{key} ({value:.80}, not {str(spec.identity.get(key)):.80})"
        for key, value in found.items()
        if spec.identity.get(key) != value
    ]
    if differing:
        raise PlanMismatch(
            f"{path} was not made with {name}; it differs in {'; '.join(differing)}: "
            "give the model that it was made with"
        )


def batch_budget(begun: Mapping[str, Json], device: str, asked: int | None = None) -> int:
    """Tokens per forward pass: what the user asks, else what the vault was begun with.

    A vault that is gone on with on another kind of device takes that one's default.
    """
    usual = begun.get("batch_tokens")
    if begun.get("device") != device or not isinstance(usual, int) or usual < 1:
        usual = default_budget(device)
    return asked or usual
