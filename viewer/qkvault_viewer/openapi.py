"""The API in OpenAPI 3.1, made from the table that its routes are made from."""

from __future__ import annotations

from typing import Any, Final

import qkvault

from . import parameters, schemas
from .documents import ROWS_LIMIT
from .operations import OPERATIONS, Operation

JsonSchema = dict[str, Any]

_NUMBER: Final[JsonSchema] = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_RANGE: Final[JsonSchema] = {
    "type": "string",
    "pattern": f"^{parameters.NUMBER}:{parameters.NUMBER}$",
}
_VECTORS: Final = "query|key|value"

PATH: Final[dict[str, tuple[str, JsonSchema]]] = {
    "store": ("a name that /stores gives", {"type": "string", "minLength": 1}),
    "tag": (
        "of the vault's state: the end of the manifest's base",
        {"type": "string", "minLength": 1},
    ),
    "index": ("number of an example, from 0", _NUMBER),
    "stack": ("attention run", {"type": "string", "enum": ["encoder", "decoder", "cross"]}),
    "layer": ("the model's own layer number", _NUMBER),
    "head": ("from 0", _NUMBER),
    "query": ("attending token, from 0", _NUMBER),
    "key": ("attended token, from 0", _NUMBER),
}
QUERY: Final[dict[str, tuple[str, JsonSchema]]] = {
    "q": ("words that must all occur", {"type": "string", "maxLength": parameters.QUERY_LIMIT}),
    "where": (
        "a JSON object from a column to what it must be",
        {"type": "string", "maxLength": parameters.WHERE_LIMIT},
    ),
    "sort": (
        "a column, or a head metric such as entropy[0,3]",
        {"type": "string", "minLength": 1, "maxLength": parameters.NAME_LIMIT, "default": "index"},
    ),
    "order": ("", {"type": "string", "enum": ["asc", "desc"], "default": "asc"}),
    "cursor": ("next of the page before", {"type": "string", "pattern": "^[0-9A-Za-z_=-]{1,200}$"}),
    "limit": (
        "rows wanted",
        {
            "type": "integer",
            "minimum": 1,
            "maximum": ROWS_LIMIT,
            "default": parameters.DEFAULT_ROWS,
        },
    ),
    "id": ("of the example", {"type": "string"}),
    "layers": ("half-open range of positions in the manifest's layers", _RANGE),
    "rows": ("half-open range of query tokens", _RANGE),
    "as": (
        "u8 square-root codes, or float32",
        {"type": "string", "enum": ["u8", "f32"], "default": "u8"},
    ),
    "parts": (
        "some of query, key, value, each once",
        {
            "type": "string",
            "pattern": f"^({_VECTORS})(,({_VECTORS})){{0,2}}$",
            "default": "query,key",
        },
    ),
}

NEEDED: Final = ("id",)
"""Query parameters that may not be left out."""


def openapi_document(root: str) -> dict[str, Any]:
    """The document.

    Args:
        root: start of every address of the API.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "QKVault's viewer",
            "version": qkvault.__version__,
            "summary": "Attention, queries, keys and values of a corpus, as one view needs them",
        },
        "paths": {root + each.path: {"get": _operation(each)} for each in OPERATIONS},
        "components": {
            "schemas": schemas.SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described = [(name, "path", *PATH[name]) for name in operation.parts]
    described += [(name, "query", *QUERY[name]) for name in operation.query]
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [_parameter(*each) for each in described],
        "responses": {
            "200": {"description": operation.summary, "content": _content(operation)},
            "304": {"description": "the client has this answer already"},
            "default": {
                "description": "why there is no answer",
                "content": {"application/json": {"schema": _reference("Error")}},
            },
        },
    }


def _parameter(name: str, place: str, about: str, schema: JsonSchema) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path" or name in NEEDED,
        **({"description": about} if about else {}),
        "schema": schema,
    }


def _content(operation: Operation) -> dict[str, Any]:
    if operation.body == "frames":
        return {"application/octet-stream": {}}
    return {"application/json": {"schema": _reference(schemas.OF_OPERATION[operation.name])}}


def _reference(name: str) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{name}"}
