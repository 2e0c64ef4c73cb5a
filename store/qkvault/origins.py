"""What a vault that is made of others says of them: which heads it has, how exact they are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .precision import MAX_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from .spec import Json, Precision, VaultSpec
    from .vault import Vault


def copy_identity(
    vault: Vault,
    examples: NDArray[np.int64],
    stack: str | None,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
) -> dict[str, Json]:
    """What must be equal for a copy to be gone on with."""
    only: dict[str, Json] = {} if stack is None else {"stack": stack}
    return {
        **only,
        "vault": vault.digest,
        "examples": hashlib.sha256(examples.astype("<i8").tobytes()).hexdigest(),
        "layers": None if layers is None else [int(layer) for layer in layers],
        "heads": None if heads is None else [int(head) for head in heads],
    }


def copy_origin(
    vault: Vault, heads: Mapping[str, Sequence[int]], precision: Precision
) -> dict[str, Json]:
    """Provenance of a copy.

    Args:
        vault: what is copied.
        heads: by stack, the heads of ``vault`` that are.
        precision: how the copy keeps attention.
    """
    own, error = vault.spec.precision, attention_error(vault.spec)
    named = model_heads(vault.spec)
    kept: dict[str, Json] = {name: [named[name][head] for head in heads[name]] for name in heads}
    if precision != own:
        error += MAX_ERROR[precision]
    return {"vault": vault.digest, "precision": own, "max_error": error, "heads": kept}


def model_heads(spec: VaultSpec) -> dict[str, list[int]]:
    """By stack, the model's own number of each head; a copy of some heads numbers them anew."""
    told = _told(spec).get("heads")
    known = told if isinstance(told, dict) else {}
    heads: dict[str, list[int]] = {}
    for stack in spec.stacks:
        found = known.get(stack.name)
        named = [n for n in found if type(n) is int] if isinstance(found, list) else []
        heads[stack.name] = named if len(named) == stack.heads else list(range(stack.heads))
    return heads


def attention_error(spec: VaultSpec) -> float:
    """Largest error of stored attention, with what it lost on the way through other vaults."""
    own = MAX_ERROR[spec.precision]
    told = _told(spec).get("max_error")
    return max(float(told), own) if isinstance(told, int | float) and 0 <= told <= 1 else own


def _told(spec: VaultSpec) -> dict[str, Json]:
    told = spec.provenance.get("copy")
    return told if isinstance(told, dict) else {}
