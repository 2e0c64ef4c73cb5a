"""JSON Schemas of the API's documents; ``docs/viewer-api.md`` says what the entries mean."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

OF_OPERATION: Final = {
    "openapi": "OpenAPI",
    "stores": "Stores",
    "manifest": "Manifest",
    "examples": "Examples",
    "columns": "Columns",
    "position": "Position",
    "find": "Found",
    "example": "Example",
}
"""Schema of what an operation answers, for those that answer JSON."""


def _object(entries: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """An object of these entries and no others."""
    return {
        "type": "object",
        "properties": entries,
        "required": [name for name in entries if name not in optional],
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


_TEXT: Final[Schema] = {"type": "string"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER: Final[Schema] = {"type": "number"}
_FLAG: Final[Schema] = {"type": "boolean"}
_BIT: Final[Schema] = {"enum": [0, 1]}
_ANY: Final[Schema] = {}
_NUMBERS: Final = _list(_NUMBER)
_LABEL: Final[Schema] = {"type": ["null", "boolean", "number", "string"]}
_OUTCOME: Final[Schema] = {"type": ["null", "number"]}
_PLACE: Final = _or_null(_COUNT)
_TOKENS: Final[dict[str, Schema]] = {
    "text": _list(_TEXT),
    "tokens": _list(_TEXT),
    "token_ids": _list({"type": "integer"}),
    "segments": _list(_BIT),
    "special": _list(_BIT),
    "offsets": _list(_list(_COUNT)),
    "words": _list({"type": "integer", "minimum": -1}),
}

_STORE: Final = _object(
    {"name": _TEXT, "title": _TEXT, "examples": _COUNT, "digest": _TEXT, "url": _TEXT}
)
_MASK: Final = _object({"causal": _FLAG, "window": _PLACE, "chunk": _PLACE})
_FORM: Final = _object(
    {
        "mask": _MASK,
        "softcap": _or_null(_NUMBER),
        "slopes": _or_null(_NUMBERS),
        "bias": _or_null(
            _object({"starts": _list({"type": "integer"}), "values": _list(_NUMBERS)})
        ),
        "sinks": _or_null(_object({"values": _NUMBERS, "mode": {"enum": ["softmax", "gate"]}})),
        "unknown": _or_null(_TEXT),
    }
)
_STACK: Final = _object(
    {
        "name": {"enum": ["encoder", "decoder", "cross"]},
        "layers": _list(_COUNT),
        "heads": _COUNT,
        "key_heads": _COUNT,
        "head_dim": _COUNT,
        "value_dim": _COUNT,
        "score": _object(
            {"causal": _FLAG, "scaling": _NUMBERS, "forms": _list(_FORM), "layers": _list(_COUNT)}
        ),
        "beside": _or_null(_TEXT),
    }
)
_ARRAY: Final = _object(
    {
        "precision": _TEXT,
        "max_error": _or_null(_NUMBER),
        "max_relative_error": _or_null(_NUMBER),
        "max_error_of_largest": _or_null(_NUMBER),
        "derived": _FLAG,
    }
)
_ROW: Final = _object(
    {
        "index": _COUNT,
        "id": _TEXT,
        "length": _COUNT,
        "text": _list(_TEXT),
        "target": _TEXT,
        "label": _LABEL,
        "prediction": _OUTCOME,
        "correct": _or_null(_FLAG),
        "columns": _map(_ANY),
        "metrics": _map(_or_null(_NUMBER)),
        "truncated": _list(_TEXT),
    },
    optional=("target", "metrics", "truncated"),
)
_COLUMN: Final = _object(
    {
        "name": _TEXT,
        "type": {"enum": ["integer", "number", "text", "boolean", "json", "mixed", "empty"]},
        "own": _FLAG,
        "present": _COUNT,
        "distinct": _or_null(_list(_list(_ANY))),
        "min": _ANY,
        "max": _ANY,
    }
)

SCHEMAS: Final[dict[str, Schema]] = {
    "Error": _object(
        {
            "error": {
                "type": "object",
                "properties": {
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                    "kind": _TEXT,
                    "message": _TEXT,
                    "base": _TEXT,
                    "reference": _TEXT,
                },
                "required": ["status", "kind", "message"],
                "additionalProperties": False,
            }
        }
    ),
    "OpenAPI": {"type": "object", "required": ["openapi", "info", "paths"]},
    "Stores": _object({"api": {"const": 1}, "version": _TEXT, "stores": _list(_STORE)}),
    "Manifest": _object(
        {
            "name": _TEXT,
            "title": _TEXT,
            "digest": _TEXT,
            "base": _TEXT,
            "format": _TEXT,
            "examples": _COUNT,
            "lengths": _or_null(_object({"min": _COUNT, "max": _COUNT})),
            "model": _map(_ANY),
            "stacks": _list(_STACK),
            "arrays": _map(_ARRAY),
            "metrics": _list(_TEXT),
            "label_names": _list(_TEXT),
            "gold_names": _list(_TEXT),
            "logits": _COUNT,
            "limits": _object({"rows": _COUNT, "body_bytes": _COUNT}),
        }
    ),
    "Examples": _object({"total": _COUNT, "next": _or_null(_TEXT), "rows": _list(_ROW)}),
    "Columns": _object({"columns": _list(_COLUMN)}),
    "Position": _object(
        {"index": _COUNT, "place": _PLACE, "total": _COUNT, "previous": _PLACE, "next": _PLACE}
    ),
    "Found": _object({"index": _COUNT}),
    "Example": _object(
        {
            "index": _COUNT,
            "id": _TEXT,
            "length": _COUNT,
            "previous": _PLACE,
            "next": _PLACE,
            **_TOKENS,
            "target": _or_null(_object(_TOKENS)),
            "label": _LABEL,
            "label_name": _or_null(_TEXT),
            "prediction": _OUTCOME,
            "prediction_name": _or_null(_TEXT),
            "correct": _or_null(_FLAG),
            "logits": _or_null(_list(_or_null(_NUMBER))),
            "columns": _map(_ANY),
        }
    ),
}
