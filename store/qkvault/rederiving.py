"""Checking stored attention against what follows from the stored queries and keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from .derived import refuse_underivable
from .errors import MissingArray, VaultError
from .precision import MAX_ERROR, make_thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .example import Example, StackView
    from .spec import Precision, VaultSpec
    from .vault import Vault

DERIVED_ERROR: Final[dict[str, float]] = {"float16": 2e-3, "float32": 5e-6}
"""Largest error of attention derived from queries and keys kept so, for models run in float32."""

_CELLS_AT_ONCE: Final = 1 << 24


class Difference(NamedTuple):
    """Stored and derived attention of one layer of one example.

    Attributes:
        array: path within the bucket of the array that was compared.
        example: its place in the dataset's order.
        layer: the model's own number.
        largest: largest absolute difference of a weight.
        bound: what it may be.
    """

    array: str
    example: int
    layer: int
    largest: float
    bound: float


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
    spec = example.vault.spec
    name = "thumbnail" if spec.attention == "derived" else "attention"
    largest = 0.0
    step = max(1, _CELLS_AT_ONCE // example.length**2)
    for head in range(0, view.spec.heads, step):
        heads = slice(head, head + step)
        found = view.derive(layer, heads)
        if name == "thumbnail":
            found = _pooled(found)
        stored = getattr(view, name)[layer, heads]
        # NaN compares as no difference at all, so it is told apart.
        difference = np.abs(found - stored)
        largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
    path = f"{view.spec.name}/{name}"
    return Difference(path, example.index, layer, largest, derived_bound(spec))


def _pooled(attention: NDArray[np.float32]) -> NDArray[np.float32]:
    codes = make_thumbnail(attention).astype(np.float32)
    weights: NDArray[np.float32] = (codes / np.float32(255.0)) ** 2
    return weights


def derived_bound(spec: VaultSpec) -> float:
    """How far derived attention may be from the stored one, rounding of both included."""
    vectors = DERIVED_ERROR["float32" if spec.precision == "float32" else "float16"]
    if spec.attention == "derived":
        return 2.0 * (MAX_ERROR["uint8"] + vectors)
    precision: Precision = spec.precision
    return MAX_ERROR[precision] + vectors
