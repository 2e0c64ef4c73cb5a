"""Products of batches of matrices in their several spellings, read as attention's two products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Product(NamedTuple):
    """A product over the last axis of two batches of vectors.

    Attributes:
        query: ``(..., query_token, dim)``.
        key: ``(..., key_token, dim)``.
        factor: what the product was multiplied by.
        added: what was added, with its own factor.
    """

    query: Tensor
    key: Tensor
    factor: float = 1.0
    added: tuple[Tensor, float] | None = None


def product_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Product | None:
    """Read an operation as query times key; None where it cannot be.

    Args:
        name: ``matmul``, ``bmm``, ``baddbmm`` or ``einsum``.
        args, kwargs: the operation's.
    """
    if name == "einsum":
        return _einsum_product(args)
    if name == "baddbmm":
        given = dict(zip(("input", "batch1", "batch2"), args, strict=False)) | dict(kwargs)
        added = (given["input"], float(given.get("beta", 1.0)))
        key = given["batch2"].transpose(-1, -2)
        return Product(given["batch1"], key, float(given.get("alpha", 1.0)), added)
    left, right = _operands(name, args, kwargs)
    if left is None or right is None or left.ndim != right.ndim or left.ndim < 2:
        return None
    return Product(left, right.transpose(-1, -2))


def value_of(name: str, place: int, args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    """Read an operation as attention times value; None where it cannot be.

    Args:
        name: as for :func:`product_of`.
        place: of the attention among the operation's arguments.
        args: the operation's.

    Returns:
        Attention ``(..., query_token, key_token)`` and value ``(..., key_token, value_dim)``.
    """
    if name == "einsum":
        return _einsum_value(place, args)
    if name == "baddbmm" or place != 0 or len(args) < 2 or args[1].ndim != args[0].ndim:
        return None
    return args[0], args[1]


def _operands(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor | None, Tensor | None]:
    given = (*args, *kwargs.values())
    if len(given) < 2:
        return None, None
    return (given[1], given[0]) if name == "rmatmul" else (given[0], given[1])


def _parse(args: tuple[Any, ...]) -> tuple[str, str, str, Tensor, Tensor] | None:
    """Indices of left, right and result, and the operands, of an einsum of two."""
    equation, *operands = args
    if not isinstance(equation, str) or len(operands) != 2 or "->" not in equation:
        return None
    inputs, _, output = equation.replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    if "." in equation or any(len(set(x)) < len(x) for x in (left, right)):
        return None
    return left, right, output, operands[0], operands[1]


def _einsum_product(args: tuple[Any, ...]) -> Product | None:
    if (parsed := _parse(args)) is None:
        return None
    left, right, output, a, b = parsed
    summed = [i for i in left if i in right and i not in output]
    free_left = [i for i in left if i not in right]
    free_right = [i for i in right if i not in left]
    if not len(summed) == len(free_left) == len(free_right) == 1 or len(output) < 3:
        return None
    if output[-2:] == free_right[0] + free_left[0]:
        left, right, a, b = right, left, b, a
    elif output[-2:] != free_left[0] + free_right[0]:
        return None
    batch = output[:-2]
    return Product(
        _order(a, left, f"{batch}{output[-2]}{summed[0]}"),
        _order(b, right, f"{batch}{output[-1]}{summed[0]}"),
    )


def _einsum_value(place: int, args: tuple[Any, ...]) -> tuple[Tensor, Tensor] | None:
    if (parsed := _parse(args)) is None:
        return None
    left, right, output, a, b = parsed
    if place != 1:
        left, right, a, b = right, left, b, a
    summed, width = left[-1], [i for i in right if i not in left]
    if summed in output or summed not in right or len(width) != 1:
        return None
    if sorted(right) != sorted(left[:-2] + summed + width[0]):
        return None
    return a, _order(b, right, f"{left[:-2]}{summed}{width[0]}")


def _order(x: Tensor, indices: str, wanted: str) -> Tensor:
    return x.permute([indices.index(i) for i in wanted])
