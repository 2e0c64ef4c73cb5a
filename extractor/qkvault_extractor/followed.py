"""Scores on their way from a product to a softmax: what they were multiplied by, what was added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

HIDDEN: Final = -1e4
"""Additive masks hide by at least this much (the least number of float16 is -65504)."""

_KEEPS: Final = {
    *("view", "reshape", "contiguous", "flatten", "unflatten", "squeeze", "unsqueeze", "expand"),
    *("to", "type", "type_as", "float", "double", "half", "bfloat16"),
    *("clone", "detach", "dropout", "getitem"),
}


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores, or the attention weights made of them.

    Attributes:
        module: the module that multiplied queries and keys.
        query: ``(..., query_token, dim)``.
        key: ``(..., key_token, dim)``.
        scaling: what their product was multiplied by since.
        added: what was added, each with a factor, broadcast against the scores.
        hidden: where scores were replaced by the least number, bool, broadcast against the scores.
        plain: whether that is all that happened to them.
        softened: whether a softmax made them weights.
        ended: whether the weights met their values, as a list that copies share.
    """

    module: nn.Module
    query: Tensor
    key: Tensor
    scaling: float = 1.0
    added: tuple[tuple[Tensor, float], ...] = ()
    hidden: tuple[Tensor, ...] = ()
    plain: bool = True
    softened: bool = False
    ended: list[bool] = field(default_factory=list)

    def scaled(self, factor: float) -> Scores:
        """Multiplied by a number."""
        if factor == 1.0:
            return self
        added = tuple((part, own * factor) for part, own in self.added)
        return replace(self, scaling=self.scaling * factor, added=added)

    def plus(self, part: tuple[Tensor, float] | None, output: Tensor) -> Scores:
        """With something added; axes in front are filled up to those of the scores."""
        if part is None or part[1] == 0.0:
            return self
        return replace(self, added=(*self.added, (_widen(part[0], output.ndim), part[1])))

    def weighed(self) -> Scores:
        """After the softmax."""
        return replace(self, softened=True)

    def after(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        place: int,
        output: Tensor,
    ) -> Scores | None:
        """After an operation that keeps their shape.

        Args:
            name: the operation's, without underscores.
            args, kwargs: its inputs.
            place: of the scores among them.
            output: its result.
        """
        base = name.removeprefix("i").removesuffix("_")
        others = [x for i, x in enumerate((*args, *kwargs.values())) if i != place]
        if name in _KEEPS:
            return self
        if base in ("add", "radd") or (base in ("sub", "subtract") and place == 0):
            sign = 1.0 if "add" in base else -1.0
            factor = float(kwargs.get("alpha", 1.0)) * sign
            return self._plus_any(others[0], factor, output)
        number = _number(others[0]) if others else None
        if base in ("mul", "multiply", "rmul") and number is not None:
            return self.scaled(number)
        if base in ("div", "divide", "truediv", "true_divide") and number and place == 0:
            return self.scaled(1.0 / number)
        if base == "masked_fill" and place == 0 and _hides(others[1]):
            return self._without(others[0], output)
        if base == "where" and len(args) == 3 and place in (1, 2) and _hides(args[3 - place]):
            return self._without(~args[0] if place == 1 else args[0], output)
        if base in ("maximum", "max") and others and _hides(others[0]):
            return self
        return replace(self, plain=False)

    def _plus_any(self, other: Any, factor: float, output: Tensor) -> Scores:
        if isinstance(other, torch.Tensor):
            if other.ndim == 0:
                return self  # a constant: softmax does not see it
            return self.plus((other, factor), output)
        return self

    def _without(self, hidden: Tensor, output: Tensor) -> Scores:
        return replace(self, hidden=(*self.hidden, _widen(hidden, output.ndim)))


def add_terms(
    scores: Scores, query: Tensor, scaling: float, mask: Tensor | None, causal: bool
) -> Scores:
    """Scores as torch's fused attention function makes them."""
    scores = scores.scaled(scaling)
    if causal:
        rows, columns = query.shape[-2], scores.key.shape[-2]
        later = torch.ones(rows, columns, dtype=torch.bool, device=query.device).triu(1)
        scores = replace(scores, hidden=(*scores.hidden, _widen(later, query.ndim)))
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return replace(scores, hidden=(*scores.hidden, _widen(~mask, query.ndim)))
    return scores.plus((mask, 1.0), query)


def to_heads(x: Tensor, batch: int) -> Tensor:
    """Part the axis in front into examples and heads, or join axes of heads.

    Args:
        x: ``(example * head, a, b)``, ``(example, head, a, b)`` or
            ``(example, key_head, group, a, b)``.
        batch: examples.

    Returns:
        ``(example, head, a, b)``.
    """
    if x.ndim == 3:
        return x.reshape(batch, -1, *x.shape[1:]) if x.shape[0] % batch == 0 else x[None]
    return x.flatten(1, -3) if x.ndim > 4 else x


def describe(scores: Scores, batch: int, heads: int) -> tuple[Tensor | None, Tensor | None]:
    """What was added to scores, parted into a mask and the rest.

    Args:
        scores: of a call.
        batch: examples.
        heads: heads.

    Returns:
        Additive mask ``(example, 1 or head, query_token, key_token)`` and bias of the same axes,
        0 where the mask hides; None for nothing.
    """

    def part_heads(part: Tensor) -> Tensor:
        return _part_heads(_join_windows(part, scores, heads), batch, heads)

    parts = [part_heads(part) * factor for part, factor in scores.added]
    covers = [part_heads(part) for part in scores.hidden]
    if not parts and not covers:
        return None, None
    total = torch.zeros(1, 1, scores.query.shape[-2], scores.key.shape[-2])
    total = total.to(scores.query.device)
    for part in parts:
        total = total + part
    hidden = total <= HIDDEN
    for cover in covers:
        hidden = hidden | cover
    least = torch.finfo(torch.float32).min
    mask = torch.zeros_like(hidden, dtype=torch.float32).masked_fill(hidden, least)
    bias = total.expand_as(hidden).masked_fill(hidden, 0.0)
    return mask if bool(hidden.any()) else None, bias if bool(bias.any()) else None


def weigh(
    query: Tensor, key: Tensor, scaling: float, mask: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Attention in float32, ``(example, head, query_token, key_token)``.

    Args:
        query, key: ``(example, head, token, dim)``, key heads not repeated.
        scaling: factor of their products.
        mask, bias: of :func:`describe`.
    """
    wide = key.float().repeat_interleave(query.shape[1] // key.shape[1], 1)
    scores = torch.matmul(query.float(), wide.transpose(-1, -2)) * scaling
    for part in (bias, mask):
        scores = scores if part is None else scores + part
    return torch.softmax(scores, -1)


def _join_windows(part: Tensor, scores: Scores, heads: int) -> Tensor:
    """Join the axes of examples and of windows within them, if scores of one axis for both were
    parted so when this was added (Swin v2), and if these axes cannot be heads and their groups."""
    if part.ndim != 5 or scores.query.ndim != 4:
        return part
    rows, windows = len(scores.query), part.shape[1]
    if windows * part.shape[2] in (1, heads) or rows % windows:
        return part
    return part.expand(rows // windows, *part.shape[1:]).flatten(0, 1)


def _part_heads(part: Tensor, batch: int, heads: int) -> Tensor:
    """Broadcastable to ``(example, head, query_token, key_token)``."""
    if part.ndim == 3:
        return part[None] if part.shape[0] == 1 else part.reshape(batch, heads, *part.shape[1:])
    return part.flatten(1, -3) if part.ndim > 4 else part


def _widen(x: Tensor, axes: int) -> Tensor:
    return x[(None,) * (axes - x.ndim)] if x.ndim < axes else x


def _number(x: Any) -> float | None:
    if isinstance(x, torch.Tensor):
        return float(x) if x.numel() == 1 else None
    return float(x) if isinstance(x, (int, float)) else None


def _hides(x: Any) -> bool:
    """Whether a fill is so low that softmax leaves nothing."""
    if isinstance(x, torch.Tensor):
        return bool((x <= HIDDEN).all())
    return isinstance(x, (int, float)) and x <= HIDDEN
