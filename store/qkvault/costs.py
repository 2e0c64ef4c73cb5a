"""What examples cost the model, up to a factor, so that time left can be told from time spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from .spec import VaultSpec


def forward_cost(spec: VaultSpec, lengths: ArrayLike) -> float:
    """Work of a forward pass over examples, in units that cancel out of ratios.

    For width d it takes ``24 d^2`` operations per token of a layer and ``4 d`` per pair of tokens
    (Kaplan et al. 2020, table 1, the attention term kept): ``n * (6 d + n)`` for n tokens.

    Args:
        spec: of the vault; its widest stack counts.
        lengths: tokens of each example, [N].
    """
    width = max(stack.heads * stack.head_dim for stack in spec.stacks)
    tokens = np.asarray(lengths, np.float64)
    return float((tokens * (6.0 * width + tokens)).sum())
