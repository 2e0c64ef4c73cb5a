"""Attention that a model computes in blocks or bands, laid out as maps of an example's tokens.

Each layout is known by the first product of its module, not by the model: what multiplies blocks in
that way is laid out in that way, and held against what the model reports like any other call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from qkvault_extractor.layouts import local, parted, sliding

if TYPE_CHECKING:
    from qkvault_extractor.layouts.steps import LaidOut, Steps

LAYOUTS: Final[Mapping[str, Callable[[Steps, int, bool, bool], LaidOut]]] = {
    sliding.QUERY_KEY: sliding.lay_out,
    local.QUERY_KEY: local.lay_out,
    parted.FIRST: parted.lay_out,
}
"""Equation of a module's first product -> what lays its attention out, given its steps, how many
tokens there are, whether to describe masks, and whether the weights are to be seen."""
