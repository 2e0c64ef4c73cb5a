"""Joining vaults of one model into a new one. A finished vault never changes: what was appended to
stays as it is, and the new one names it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .copying import copy_parts
from .documents import differing
from .errors import InputError, PlanMismatch
from .origins import attention_error, model_heads
from .parts import choose_part
from .plan import spec_document
from .remote import Place, RemotePath, locate
from .vault import Vault

if TYPE_CHECKING:
    from .copying import Progress
    from .spec import Json, VaultSpec

_NAMED: Final = 5
_LINEAGE: Final = ("append", "copy")
Source = Vault | Place | str


def append(
    base: Source,
    more: Source | Sequence[Source],
    out: Place | str,
    progress: Progress | None = None,
) -> Vault:
    """Make a new vault of the examples of some vaults, one vault after the other.

    Every stored number is copied as it is. Run again after an interruption, it goes on where it
    stopped. The new vault's provenance is the base's; its ``append`` lists the vaults with their
    digests, and where their provenance differs from the base's.

    Args:
        base: a finished vault, or its path.
        more: one or several such vaults, of the same model, with the same arrays.
        out: an absent or empty folder, or the unfinished vault of the same parts; never one of the
            parts.
        progress: called with units done and units in all.

    Raises:
        PlanMismatch: a vault is of another model or tokenizer, or keeps something else, naming each
            difference; ``out`` holds an unfinished vault of something else.
        InputError: nothing to append, an id that stands in two vaults, or ``out`` is taken.
        VaultError: a vault is damaged or unfinished.
        ResourceError: the disk refuses.
    """
    others = [more] if isinstance(more, str | Path | RemotePath | Vault) else list(more)
    if not others:
        raise InputError(f"there is nothing to append to {base}; name at least one more vault")
    with ExitStack() as stack:
        opened = [
            one if isinstance(one, Vault) else stack.enter_context(Vault(one))
            for one in (base, *others)
        ]
        for other in opened[1:]:
            _refuse_another_kind(opened[0], other)
        _refuse_shared_ids(opened)
        parts = [choose_part(vault, None, None, None, None) for vault in opened]
        spec = _join_specs(opened)
        return copy_parts(parts, spec, locate(out), compress=True, progress=progress)


def _refuse_another_kind(base: Vault, other: Vault) -> None:
    found = [
        f"{key} ({theirs}, not {ours})"
        for key, ours, theirs in differing(_kind(base.spec), _kind(other.spec))
    ]
    if found:
        raise PlanMismatch(
            f"{other.path} cannot be appended to {base.path}; it differs in {'; '.join(found)}:"
            " extract it again with the model and the options of the first"
        )


def _kind(spec: VaultSpec) -> dict[str, Json]:
    """What must be equal for examples to stand in one vault."""
    document = spec_document(spec)
    kind = {
        name: document[name]
        for name in ("arrays", "attention", "metrics", "precision", "logits", "label_names")
    }
    kind["target"] = spec.target
    kind["vectors"] = document.get("vectors")
    for name in ("model", "tokenizer"):
        kind[name] = spec.identity.get(name)
    stacks: Any = document["stacks"]
    kind["stacks"] = [stack["name"] for stack in stacks]
    for stack, heads in zip(stacks, model_heads(spec).values(), strict=True):
        facts: dict[str, Json] = {**stack, "heads": list(heads)}
        kind.update((f"{stack['name']} {fact}", value) for fact, value in facts.items())
    return kind


def _refuse_shared_ids(vaults: Sequence[Vault]) -> None:
    """Refuse an id that stands twice; only ids of equal hash are read."""
    hashes = np.concatenate([v.store.examples("id_hash").rows(0, len(v)) for v in vaults])
    rows = np.concatenate([v.store.examples("id_row").rows(0, len(v)) for v in vaults])
    owners = np.repeat(np.arange(len(vaults)), [len(vault) for vault in vaults])
    order = np.argsort(hashes, kind="stable")
    equal = hashes[order][1:] == hashes[order][:-1]
    suspects = order[np.append(equal, False) | np.append(False, equal)]
    suspects = suspects[np.lexsort((rows[suspects], owners[suspects]))]
    seen: dict[str, int] = {}
    shared: list[str] = []
    for owner, row in zip(owners[suspects].tolist(), rows[suspects].tolist(), strict=True):
        found = vaults[owner].record(row).id
        if found in seen:
            one, other = vaults[seen[found]].path, vaults[owner].path
            shared.append(f"{found!r:.80} (of {one} and {other})")
        seen.setdefault(found, owner)
    if shared:
        left = len(shared) - _NAMED
        more = f" and {left} more" if left > 0 else ""
        raise InputError(
            f"{len(shared)} ids stand in more than one vault: {', '.join(shared[:_NAMED])}{more};"
            " leave those examples out (qkvault copy), or extract them with other ids"
        )


def _join_specs(vaults: Sequence[Vault]) -> VaultSpec:
    base = vaults[0].spec
    digests: list[Json] = [vault.digest for vault in vaults]
    identity: dict[str, Json] = {
        key: value
        for key, value in base.identity.items()
        if key not in _LINEAGE
        and all(value == vault.spec.identity.get(key) for vault in vaults[1:])
    }
    provenance: dict[str, Json] = {**base.provenance, "append": [_entry(v, base) for v in vaults]}
    if any("copy" in vault.spec.provenance for vault in vaults):
        heads: dict[str, Json] = {name: [*found] for name, found in model_heads(base).items()}
        error = max(attention_error(vault.spec) for vault in vaults)
        provenance["copy"] = {"heads": heads, "max_error": error}
    errors = [vault.spec.derived_error for vault in vaults]
    known = [error for error in errors if error is not None]
    return replace(
        base,
        thumbnails="pooled",
        identity={**identity, "append": digests},
        provenance=provenance,
        derived_error=max(known) if len(known) == len(errors) else None,
    )


def _entry(vault: Vault, base: VaultSpec) -> dict[str, Json]:
    """A vault's line in the list: its digest, what it was made of, what its provenance says
    otherwise."""
    own = vault.spec.provenance
    entry: dict[str, Json] = {
        key: value
        for key, value in own.items()
        if key not in _LINEAGE and value != base.provenance.get(key)
    }
    entry |= {"vault": vault.digest, "examples": len(vault)}
    parts = own.get("append")
    if isinstance(parts, list):
        entry["append"] = [part.get("vault") for part in parts if isinstance(part, dict)]
    return entry
