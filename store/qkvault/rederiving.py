"""Checking stored attention against what follows from the stored queries and keys.

How far the two may differ is known. Keeping a vector x changes each of its numbers by at most
``r |x[d]| + a(x)``: float16 by ``r = 2**-11`` of it, or ``a = 2**-25`` where it is tiny; int16 by
``a = 1.55e-5`` of the largest of them. A score then changes by at most ::

    e[i] = scaling * max_j sum_d (
        (rq + rk) |q[i, d] k[j, d]| + a(k[j]) |q[i, d]| + a(q[i]) |k[j, d]|)

to first order. Scores that move by at most ``e`` move the odds ``p / (1 - p)`` of a weight by at
most a factor ``exp(2 e)``, and so the weight by at most ``p (1 - p) (exp(2 e) - 1)``. To that come
the error of the code that attention is stored in, and that of the model's arithmetic: of float32,
or, where the plan's provenance says so, of half precision (:mod:`qkvault.arithmetic`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np

from .arithmetic import ARITHMETIC_ERROR, UNIT_ROUNDOFF, bound_derived
from .derived import refuse_underivable
from .errors import MissingArray, VaultError
from .precision import MAX_ERROR, pool_attention
from .recipe import Recipe
from .scores import derive_scores
from .vectors import VECTOR_ERROR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .example import Example
    from .heads import HeadArray
    from .spec import Json, VectorPrecision
    from .stack_view import StackView
    from .vault import Vault

_CELLS_AT_ONCE: Final = 1 << 24
_SECOND_ORDER: Final = 1.001  # what products of two errors add, and stored numbers for true ones
_TINY: Final = 2.0**-25


class Difference(NamedTuple):
    """Stored and derived attention of one layer of one example.

    Attributes:
        array: path within the bucket of the array that was compared.
        example: its place in the dataset's order.
        layer: the model's own number.
        largest: largest absolute difference of a weight.
        excess: by how much a weight is farther off than it may be; 0 where none is.
    """

    array: str
    example: int
    layer: int
    largest: float
    excess: float


def refuse_unverifiable(vault: Vault) -> None:
    """Refuse a vault that has nothing to compare.

    Raises:
        MissingArray: it keeps no queries or keys, no attention, or no layer's recipe is known.
    """
    spec = vault.spec
    refuse_underivable(spec, "attention", vault.path)
    if "attention" not in spec.arrays and spec.attention != "derived":
        raise MissingArray(f"{vault.path} keeps no attention to compare with what can be derived")
    reasons = [r.unknown for stack in spec.stacks for r in stack.recipe]
    if all(reasons):
        raise MissingArray(f"attention of {vault.path} cannot be derived: {reasons[0]}")


def compare_unit(vault: Vault, unit: int) -> Iterator[Difference]:
    """Compare each example and layer of a unit; where attention is derived, the thumbnails.

    Layers whose recipe is unknown are left out. An example whose arrays cannot be read is too: the
    checks of those arrays tell.
    """
    for index in vault.unit_examples(unit).tolist():
        example = vault[index]
        for stack in vault.spec.stacks:
            view = example.stack(stack.name)
            for layer, recipe in zip(stack.layers, stack.recipe, strict=True):
                if recipe.unknown is None:
                    try:
                        yield _compare(example, view, layer)
                    except VaultError:
                        break


def _compare(example: Example, view: StackView, layer: int) -> Difference:
    name = "thumbnail" if example.vault.spec.attention == "derived" else "attention"
    largest = excess = 0.0
    queries, keys = view.attention.shape[2:]
    step = max(1, _CELLS_AT_ONCE // (queries * keys))
    for head in range(0, view.spec.heads, step):
        heads = range(head, min(head + step, view.spec.heads))
        found = view.derive(layer, heads)
        allowed = _allowed(view, layer, heads, found, example.vault.spec.provenance.get("dtype"))
        if name == "thumbnail":
            found, allowed = pool_attention(found), pool_attention(allowed)
            allowed += np.float32(MAX_ERROR["uint8"])
        elif example.vault.spec.precision != "float32":
            allowed += np.float32(MAX_ERROR[example.vault.spec.precision])
        difference = np.abs(found - getattr(view, name)[layer, heads])
        # A NaN compares as no difference at all, so it is made the largest.
        difference = np.nan_to_num(difference, nan=np.inf)
        largest = max(largest, float(difference.max()))
        excess = max(excess, float((difference - allowed).max()))
    return Difference(f"{view.spec.name}/{name}", example.index, layer, largest, excess)


def _allowed(
    view: StackView, layer: int, heads: range, weights: NDArray[np.float32], arithmetic: Json
) -> NDArray[np.float32]:
    """How far derived weights may be from the model's, ``(head, query_token, key_token)``.

    Args:
        view: the stack of an example.
        layer: the model's own number.
        heads: whose weights.
        weights: derived, of the same axes.
        arithmetic: the type that the model computed in, as its vault tells.
    """
    spec, depth = view.spec, view.spec.layers.index(layer)
    shared = spec.heads // spec.key_heads
    key_heads = sorted({head // shared for head in heads})
    query, key = view.query[layer, heads], view.key[layer, key_heads]
    places = [key_heads.index(head // shared) for head in heads]
    moved = _moved(view, query, key, spec.scaling[depth], places)
    if isinstance(arithmetic, str) and arithmetic in UNIT_ROUNDOFF:
        terms = spec.scaling[depth], spec.recipe[depth], weights, arithmetic
        moves = moved[:, :, None]
        allowed = bound_derived(query, key, *terms, moved=moves, key_head=places, heads=heads)
    else:
        allowed = weights * (1 - weights) * np.expm1(2 * moved)[:, :, None]
        allowed += np.float32(ARITHMETIC_ERROR)
    return np.minimum(allowed, np.float32(1.0))


def _moved(
    view: StackView,
    query: NDArray[np.float32],
    key: NDArray[np.float32],
    scaling: float,
    places: list[int],
) -> NDArray[np.float32]:
    """How far the scores of each row may be off since vectors are kept as they are,
    ``(head, query_token)``."""
    if view.query.precision == view.key.precision == "float32":
        return np.zeros(query.shape[:2], np.float32)
    query, key = np.abs(query), np.abs(key)
    sizes = derive_scores(query, key, abs(scaling), Recipe(), key_head=places)
    (of_query, at_query), (of_key, at_key) = _errors(view.query, query), _errors(view.key, key)
    moved: NDArray[np.float32] = (of_query + of_key) * sizes.max(-1)
    moved += abs(scaling) * query.sum(-1) * at_key.max(-1)[places, None]
    moved += abs(scaling) * at_query * key.sum(-1).max(-1)[places, None]
    return moved * np.float32(_SECOND_ORDER)


def _errors(array: HeadArray, sizes: NDArray[np.float32]) -> tuple[np.float32, NDArray[np.float32]]:
    """Largest error of a vector's numbers: relative to each, and absolute ``(head, token)``.

    Args:
        sizes: absolute values, ``(head, token, dim)``.
    """
    if array.precision == "int16":
        return np.float32(0), np.float32(VECTOR_ERROR["int16"]) * sizes.max(-1)
    relative = VECTOR_ERROR[cast("VectorPrecision", array.precision)]
    return np.float32(relative), np.full(sizes.shape[:-1], _TINY if relative else 0, np.float32)
