"""Torch's multi-head attention, opened to those who watch operations.

Torch shows a ``TorchFunctionMode`` its ``multi_head_attention_forward`` as one operation, though it
is written in Python and made of products and a softmax like any model's own attention. A copy of it
that does not ask for modes shows these operations one by one, and computes the same.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable


def open_up(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Give a function that computes the same, operation by operation.

    Args:
        function: one that a mode was shown.

    Returns:
        None for all but torch's multi-head attention.
    """
    return _multi_head() if function is functional.multi_head_attention_forward else None


@cache
def _multi_head() -> Callable[..., Any]:
    original = functional.multi_head_attention_forward
    known = {**original.__globals__, "has_torch_function": lambda inputs: False}
    copy = FunctionType(original.__code__, known, original.__name__, original.__defaults__)
    copy.__kwdefaults__ = original.__kwdefaults__
    return copy
