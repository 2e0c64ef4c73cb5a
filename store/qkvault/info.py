"""What a vault holds, in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .chunks import is_column
from .encodings import encoding_of, stored_dtype
from .plan import spec_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .spec import Json
    from .vault import Vault


def describe(vault: Vault) -> dict[str, Json]:
    """Describe a vault, JSON-ready; sizes are known once it is complete."""
    plan, manifest = vault.store.plan, vault.store.manifest
    spec = spec_document(vault.spec)
    stored = dict(manifest.bytes) if manifest else {}
    records = sum(receipt.size for receipt in plan.shards.values())
    return {
        "path": str(vault.path),
        "format": vault.spec.format,
        "digest": vault.digest,
        "complete": vault.complete,
        "examples": len(vault),
        "rejects": plan.rejects[0],
        "units": plan.units,
        "buckets": [
            {
                "length": b.length,
                **({} if b.target_length is None else {"target_length": b.target_length}),
                "examples": b.rows,
                "units": b.units,
            }
            for b in plan.buckets
        ],
        "model": spec["provenance"],
        "identity": spec["identity"],
        "stacks": spec["stacks"],
        "precision": vault.spec.precision,
        "attention": vault.spec.attention,
        "capture": vault.spec.provenance.get("capture"),
        "metrics": spec["metrics"],
        "arrays": [
            *_derived(vault),
            *(_array(vault, path, stored) for path in plan.array_paths),
        ],
        "logits": vault.spec.logits,
        "label_names": spec["label_names"],
        "bytes": {"examples": records, "arrays": sum(stored.values())} if manifest else None,
    }


def _derived(vault: Vault) -> list[dict[str, Json]]:
    """Attention that is not stored: its error is the largest that was met, not a bound."""
    if vault.spec.attention != "derived":
        return []
    return [
        {
            "path": f"{stack.name}/attention",
            "stack": stack.name,
            "name": "attention",
            "precision": "float32",
            "encoding": "derived",
            "max_error": vault.spec.derived_error,
            "max_relative_error": None,
            "max_error_of_largest": None,
            "bound": _derived_bound(vault.spec.derived_error),
            "bytes": 0,
        }
        for stack in vault.spec.stacks
    ]


def _derived_bound(error: float | None) -> str:
    return "not measured" if error is None else f"{error:.1e}, the largest met when planned"


def _bound(encoding: Mapping[str, Json]) -> str:
    """The largest error of a value, in words."""
    for key, of in (
        ("max_error", ""),
        ("max_relative_error", " of the value"),
        ("max_error_of_largest", " of the vector's largest value"),
    ):
        error = encoding.get(key)
        if isinstance(error, float) and error:
            return f"{error:.2e}{of}"
    return "exact"


def _array(vault: Vault, path: str, stored: dict[str, int]) -> dict[str, Json]:
    stack, _, name = path.rpartition("/")
    encoding: dict[str, Json] = {} if is_column(path) else encoding_of(vault.spec, name)
    return {
        "path": path,
        "stack": stack or None,
        "name": name,
        "precision": stored_dtype(vault.spec, name),
        "encoding": encoding.get("name", "identity"),
        "max_error": encoding.get("max_error"),
        "max_relative_error": encoding.get("max_relative_error"),
        "max_error_of_largest": encoding.get("max_error_of_largest"),
        "bound": _bound(encoding),
        "bytes": stored.get(path),
    }
