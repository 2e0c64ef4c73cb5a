"""The ways by which attention is captured, one after the other until one proves exact."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, Literal

from qkvault_extractor.capture import Attend, AttentionCall, Collector

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Way = Literal["interface", "operations", "kernel"]

WAYS: Final[dict[Way, str]] = {
    "interface": "transformers attention interface, the model's own eager attention",
    "operations": "operations of the model's own eager attention",
    "kernel": "operands of torch's fused attention function",
}
"""In the order they are tried, in words for provenance.

``kernel`` is for models whose eager attention is another than the one they run by default.
"""

DERIVING: Final[dict[Way, str]] = {
    "interface": "transformers attention interface, attention in tiles by the layers' recipes",
    "operations": (
        "operations of the model's own eager attention, which it computes itself: maps exist while "
        "a layer runs, and are not kept"
    ),
    "kernel": "torch's fused attention function as the model runs it, no maps",
}
"""The same where attention is derived."""


def collect(
    model: PreTrainedModel,
    way: Way,
    on_call: Callable[[AttentionCall], None],
    attend: Attend | None = None,
    *,
    left_out: Collection[int] = (),
    joined: Collection[int] = (),
    describe: bool = False,
    weigh: bool = True,
    wide: bool = False,
) -> Collector:
    """Make a collector of a model's attention calls.

    Args:
        model: a transformers model in evaluation mode.
        way: how to capture.
        on_call: called with each call.
        attend: computes attention in place of the model; by the interface only.
        left_out: places of the calls that are not to be handed on.
        joined: places of those that are one with the call before.
        describe: give masks, and what else is added to the scores, with each call.
        weigh: as for :class:`~qkvault_extractor.tap.Tap`.
        wide: compute attention in float32, as :class:`~qkvault_extractor.capture.Collector` does.
    """
    if way == "interface":
        return Collector(model, on_call, attend, left_out, joined, wide=wide)
    from qkvault_extractor.tap import Tap

    assert attend is None, "only the interface lets another function compute attention"
    assert not joined, "operations are followed one by one"
    implementation = "eager" if way == "operations" else None
    return Tap(
        model,
        on_call,
        implementation,
        left_out=left_out,
        describe=describe,
        weigh=weigh,
        wide=wide,
    )
