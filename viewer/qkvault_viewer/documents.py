"""What is said about vaults and examples in JSON; ``docs/viewer-api.md`` shows each document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import numpy as np

import qkvault
from qkvault import Example, Stack, Target, Vault

from .failures import hide_paths
from .stores import API_VERSION, Store

ROWS_LIMIT: Final = 200
BODY_LIMIT: Final = 64 << 20
MODEL_FACTS: Final = ("name", "type", "class", "parameters", "dtype", "score_terms")
CELL_LIMIT: Final = 400
"""Characters of one string in the corpus table."""


def store_list(stores: Iterable[Store]) -> dict[str, Any]:
    """The vaults being served."""
    return {
        "api": API_VERSION,
        "version": qkvault.__version__,
        "stores": [
            {
                "name": store.name,
                "title": store.title,
                "examples": len(store.vault),
                "digest": store.vault.digest,
                "url": store.url,
            }
            for store in stores
        ],
    }


def manifest(store: Store) -> dict[str, Any]:
    """A vault's shape: all that a front-end has to know before it asks for data."""
    vault = store.vault
    lengths, facts = vault.lengths, vault.info()
    return {
        "name": store.name,
        "title": store.title,
        "digest": vault.digest,
        "base": store.base,
        "format": facts["format"],
        "examples": len(vault),
        "lengths": {"min": int(lengths.min()), "max": int(lengths.max())} if len(vault) else None,
        "model": _model(vault),
        "stacks": [_stack(stack) for stack in vault.spec.stacks],
        "arrays": _arrays(facts),
        "metrics": list(vault.spec.metrics),
        "label_names": list(vault.spec.label_names),
        "gold_names": gold_names(vault),
        "logits": vault.spec.logits,
        "limits": {"rows": ROWS_LIMIT, "body_bytes": BODY_LIMIT},
    }


def gold_names(vault: Vault) -> list[str]:
    """Names of the gold labels' numbers: the data's own, else the names of the model's classes."""
    noted = vault.spec.provenance.get("data_label_names")
    if isinstance(noted, list) and noted and all(isinstance(name, str) for name in noted):
        return cast("list[str]", noted)
    return list(vault.spec.label_names)


def example_document(example: Example) -> dict[str, Any]:
    """All that is known of one example besides its arrays."""
    index, count = example.index, len(example.vault)
    label_names = example.vault.spec.label_names
    return {
        "index": index,
        "id": example.id,
        "length": example.length,
        "previous": index - 1 if index > 0 else None,
        "next": index + 1 if index + 1 < count else None,
        "text": list(example.text),
        "tokens": list(example.tokens),
        "token_ids": plain(example.token_ids),
        "segments": plain(example.segments),
        "special": [int(special) for special in example.special],
        "offsets": plain(example.offsets),
        "words": plain(example.words),
        "target": _target(example.target),
        "label": plain(example.label),
        "label_name": class_name(example.label, gold_names(example.vault)),
        "prediction": plain(example.prediction),
        "prediction_name": class_name(example.prediction, label_names),
        "correct": example.correct,
        "logits": plain(example.logits),
        "columns": plain(example.columns),
    }


def _target(target: Target | None) -> dict[str, Any] | None:
    """What a decoder reads beside an encoder, in the fields of the example's own tokens."""
    if target is None:
        return None
    return {
        "text": [target.text],
        "tokens": list(target.tokens),
        "token_ids": plain(target.token_ids),
        "segments": [0] * len(target.tokens),
        "special": [int(special) for special in target.special],
        "offsets": plain(target.offsets),
        "words": plain(target.words),
    }


def column_document(column: Any) -> dict[str, Any]:
    """A column of the corpus table: what it may be filtered by."""
    return {
        "name": column.name,
        "type": column.type,
        "own": not column.user,
        "present": column.present,
        "distinct": plain(column.distinct),
        "min": plain(column.minimum),
        "max": plain(column.maximum),
    }


def position_document(position: Any) -> dict[str, Any]:
    """Where an example stands in a list."""
    return {
        "index": position.index,
        "place": position.place,
        "total": position.total,
        "previous": position.previous,
        "next": position.next,
    }


def table_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the corpus table, its long strings cut and named in ``truncated``."""
    shown: dict[str, Any] = plain(row)
    cut: list[str] = []
    if any(len(text) > CELL_LIMIT for text in shown["text"]):
        shown["text"] = [text[:CELL_LIMIT] for text in shown["text"]]
        cut.append("text")
    if len(shown.get("target", "")) > CELL_LIMIT:
        shown["target"] = shown["target"][:CELL_LIMIT]
        cut.append("target")
    for name, value in shown["columns"].items():
        spelled = value if isinstance(value, str) else str(value)
        if len(spelled) > CELL_LIMIT:
            shown["columns"][name] = spelled[:CELL_LIMIT]
            cut.append(f"columns.{name}")
    return {**shown, "truncated": cut} if cut else shown


def class_name(label: object, names: Sequence[str]) -> str | None:
    """Name of a class number; None if it is no class number or has no name."""
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return names[label]
    return None


def plain(value: Any) -> Any:
    """``value`` in types that JSON has: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _stack(stack: Stack) -> dict[str, Any]:
    return {
        "name": stack.name,
        "layers": list(stack.layers),
        "heads": stack.heads,
        "key_heads": stack.key_heads,
        "head_dim": stack.head_dim,
        "value_dim": stack.value_dim,
        "score": {
            "causal": stack.causal,
            "scaling": plain(stack.scaling),
            **_score_terms(stack),
        },
        "beside": stack.beside,
    }


def _score_terms(stack: Stack) -> dict[str, Any]:
    """The distinct recipes of a stack's layers, and which of them each layer has."""
    forms = list(dict.fromkeys(stack.recipe))
    return {
        "forms": [plain(asdict(form)) for form in forms],
        "layers": [forms.index(recipe) for recipe in stack.recipe],
    }


def _arrays(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept, at which precision; stacks are kept alike."""
    told = ("precision", "max_error", "max_relative_error", "max_error_of_largest")
    return {
        array["name"]: {
            **{fact: plain(array[fact]) for fact in told},
            "derived": array["encoding"] == "derived",
        }
        for array in facts["arrays"]
        if array["stack"] is not None
    }


def _model(vault: Vault) -> dict[str, Any]:
    """What the extractor noted of the model. It is free text, so paths are looked for in it."""
    noted = vault.spec.provenance
    return {name: _pathless(noted[name]) for name in MODEL_FACTS if name in noted}


def _pathless(fact: Any) -> Any:
    return hide_paths(fact) if isinstance(fact, str) else plain(fact)
