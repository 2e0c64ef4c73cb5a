"""An example as an ``xarray.Dataset``: named axes, with layers, heads and tokens on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .axes import token_axes
from .chunks import row_dims
from .corpus import chosen_stack, head_places, layer_places
from .errors import ResourceError

if TYPE_CHECKING:
    from .corpus import ScanArray
    from .example import Example
    from .spec import Stack


def to_xarray(
    example: Example,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    arrays: Sequence[ScanArray] | None = None,
    stack: str | None = None,
) -> Any:
    """Read an example's arrays into a dataset.

    Args:
        example: which.
        layers: the model's own numbers; all that are kept if not given.
        heads: query heads; all if not given. Keys and values are those of the key heads they use.
        arrays: all that are kept, but thumbnails, if not given.
        stack: the first one if not given.

    Returns:
        An ``xarray.Dataset`` of float32 variables named as the arrays, with axes ``layer``,
        ``head``, ``key_head``, ``query_token``, ``key_token``, ``head_dim``, ``value_dim``; where
        there are any, ``logits`` along ``class`` and head ``metrics`` along ``metric``. Layers
        and heads carry their numbers, tokens their positions and, as ``query_text`` and
        ``key_text``, their strings.

    Raises:
        ResourceError: xarray is not installed.
        InputError, OutOfRange, MissingArray: the vault has no such stack, layer, head or array.
        VaultError: what is stored is missing or damaged.
    """
    try:
        xarray: Any = import_module("xarray")
    except ImportError:
        raise ResourceError(
            "to_xarray needs xarray, which is not installed: pip install 'qkvault[interop]'"
        ) from None
    chosen = chosen_stack(example.vault, stack)
    layer_at = layer_places(chosen, layers)[0]
    head_at = head_places(chosen, heads)[0]
    numbers = [chosen.layers[place] for place in layer_at]
    key_heads = sorted({head * chosen.key_heads // chosen.heads for head in head_at})
    variables: dict[str, Any] = {}
    for name in _kept(example) if arrays is None else arrays:
        view = getattr(example.stack(chosen.name), name)
        values = view[numbers, key_heads if name in ("key", "value") else list(head_at)]
        known = {"precision": view.precision, "max_error": view.max_error}
        attributes = {key: value for key, value in known.items() if value is not None}
        variables[name] = (row_dims(name), values, attributes)
    if arrays is None and example.vault.spec.metrics:
        metrics = example.stack(chosen.name).metrics.array[layer_at][:, head_at]
        variables["metrics"] = (("layer", "head", "metric"), metrics)
    if example.logits is not None:
        variables["logits"] = (("class",), example.logits)
    used = {dim for variable in variables.values() for dim in variable[0]}
    coordinates = _coordinates(example, chosen, numbers, list(head_at), key_heads)
    kept = {name: value for name, value in coordinates.items() if value[0] in used}
    return xarray.Dataset(variables, kept, _attributes(example, chosen))


def _kept(example: Example) -> list[str]:
    spec = example.vault.spec
    return [*(["attention"] if spec.attention == "derived" else []), *spec.arrays]


def _coordinates(
    example: Example, stack: Stack, layers: list[int], heads: list[int], key_heads: list[int]
) -> dict[str, tuple[str, Any]]:
    view = example.stack(stack.name)
    sequences = token_axes(example.vault.spec, stack.name)
    sides = zip(("query", "key"), (view.query_tokens, view.key_tokens), sequences, strict=True)
    coordinates: dict[str, tuple[str, Any]] = {
        "layer": ("layer", layers),
        "head": ("head", heads),
        "key_head_used": ("head", [head * stack.key_heads // stack.heads for head in heads]),
        "key_head": ("key_head", key_heads),
    }
    for axis, tokens, sequence in sides:
        dim = f"{axis}_token"
        coordinates[dim] = (dim, list(range(len(tokens))))
        coordinates[f"{axis}_text"] = (dim, list(tokens))
        if sequence == "source":  # a target is one text
            coordinates[f"{axis}_segment"] = (dim, example.segments)
    spec = example.vault.spec
    if spec.label_names:
        coordinates["class"] = ("class", list(spec.label_names))
    if spec.metrics:
        coordinates["metric"] = ("metric", list(spec.metrics))
    return coordinates


def _attributes(example: Example, stack: Stack) -> dict[str, Any]:
    known = {
        "id": example.id,
        "index": example.index,
        "text": list(example.text),
        "target": None if example.target is None else example.target.text,
        "stack": stack.name,
        "label": example.label,
        "prediction": example.prediction,
        "columns": json.dumps(example.columns, ensure_ascii=False),
        "vault": example.vault.digest,
    }
    return {name: value for name, value in known.items() if value is not None}
