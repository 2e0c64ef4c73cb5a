"""The operations of one module that computes attention in blocks, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from qkvault_extractor.native import Mismatch

if TYPE_CHECKING:
    from torch import Tensor

KEPT: Final = frozenset({"einsum", "matmul", "bmm", "softmax", "add", "iadd", "nonzero"})
"""Operations that tell how a module lays its attention out."""


@dataclass(frozen=True)
class Blocks:
    """What is known of an attention call whose model computes it in blocks of tokens.

    Attributes:
        read_report: lays out as a map of tokens what the model itself reports of such a call. It
            takes the layer's entry of ``attentions``, that of ``global_attentions`` (None where
            there is none) and how many tokens there are; it gives ``(example, head, query_token,
            key_token)``. Written by what transformers documents, and not by how calls are captured.
        window: most tokens away that a key may stand, where that is the rule.
        unknown: why attention does not follow from the call's queries and keys, where it does not.
        beside: what else than tokens it attends to, which takes the rest of a row's weight.
    """

    read_report: Callable[[Any, Tensor | None, int], Tensor]
    window: int | None = None
    unknown: str | None = None
    beside: str | None = None


class LaidOut(NamedTuple):
    """An attention call as a map of the example's own tokens.

    Attributes:
        query: ``(example, head, token, dim)``, as scored; the model has scaled it.
        key, value: the same axes.
        attention: ``(example, head, query_token, key_token)``; 0 where the model's rule hides keys.
            None where nobody wants to see it and ``output`` is there instead.
        mask: what is added to the scores, of the same axes (1 head, where all share it); None where
            it was not asked for.
        blocks: what else is known.
        output: attention times values, ``(example, head, token, value_dim)``, where attention is
            not laid out.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    attention: Tensor | None
    mask: Tensor | None
    blocks: Blocks
    output: Tensor | None = None


class Step(NamedTuple):
    """An operation: its name without underscores, its equation if it has one, inputs, result."""

    name: str
    equation: str
    inputs: tuple[Any, ...]
    output: Any


class Steps:
    """The operations of a module's forward pass, in order, from its first product on."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def take(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        """Keep an operation, if it is one of :data:`KEPT`."""
        if name not in KEPT:
            return
        equation, inputs = (str(args[0]), args[1:]) if name == "einsum" else ("", args)
        self._steps.append(Step(name, equation, inputs, output))

    def product(self, equation: str, place: int = 0) -> Step:
        """One of the products of an equation, by its place among them."""
        return self._pick([step for step in self._steps if step.equation == equation], place)

    def named(self, name: str, place: int = 0) -> Step:
        """One of the operations of a name, by its place among them."""
        return self._pick([step for step in self._steps if step.name == name], place)

    def sum_with(self, part: Tensor) -> Step:
        """The sum that a tensor is a part of, or is."""
        sums = [step for step in self._steps if step.name in ("add", "iadd")]
        return self._pick([s for s in sums if part is s.inputs[0] or part is s.output], 0)

    @staticmethod
    def _pick(found: Sequence[Step], place: int) -> Step:
        if len(found) <= place:
            raise Mismatch("its attention in blocks takes other steps than are known")
        return found[place]


def spread(blocks: Tensor, fill: float = 0.0) -> Tensor:
    """Put blocks of rows side by side, each one block's length further to the right.

    Args:
        blocks: ``(example, head, block, row, column)``.
        fill: what stands elsewhere.

    Returns:
        ``(example, head, block * row, column + (block - 1) * row)``.
    """
    examples, heads, count, rows, columns = blocks.shape
    width = columns + (count - 1) * rows
    wide = blocks.new_full((examples, heads, count * rows, width), fill)
    first, second, line, _ = wide.stride()
    wide.as_strided(blocks.shape, (first, second, rows * line + rows, line, 1)).copy_(blocks)
    return wide
