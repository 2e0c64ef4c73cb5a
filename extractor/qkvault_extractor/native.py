"""A model as it is, run to hold against it what was captured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from qkvault import STACKS
from qkvault_extractor.capture import first_stream
from qkvault_extractor.switching import implementations_of, restore_attention, switch_attention

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault import Record, StackName
    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.stacks import Sides

TOLERANCE: Final = 1e-5
"""Largest difference between captured and eager attention in float32; rounding stays below 5e-6."""


UNSEEN: Final = "no product of queries and keys that becomes weights of values was seen in it"
"""Reason of a :class:`Mismatch` where there was nothing to compare."""


class Mismatch(Exception):
    """What was captured is not what the model does; the message says why."""


def run_eager(loaded: LoadedModel, batch: Sequence[Record]) -> Any:
    """Output of the model's own eager pass, with attention where it reports any."""
    before = implementations_of(loaded.model)
    switch_attention(loaded.model, "eager")
    try:
        return loaded.forward(batch, output_attentions=True)
    finally:
        restore_attention(before)


def reported(eager: object, stack: StackName | None = None, what: str = "attentions") -> list[Any]:
    """Attention that an eager pass reported, of the layers that have any.

    Args:
        eager: its output.
        stack: which of an encoder-decoder's; None for a model that has only one.
        what: ``attentions``, or ``global_attentions`` where a few tokens have those apart.

    Returns:
        A map of tokens for each layer, or of blocks, as :attr:`AttentionCall.blocks` tells.
    """
    name = what if stack is None else f"{stack}_{what}"
    return [a for a in getattr(eager, name, None) or () if a is not None]


def lay_out_reports(
    calls: Sequence[AttentionCall], reports: Sequence[Any], eager: object, stack: StackName | None
) -> list[Tensor]:
    """What an eager pass reported of some calls, as maps of tokens.

    Args:
        calls: all of a stack.
        reports: what :func:`reported` gave of it.
        eager: the output of that pass.
        stack: as for :func:`reported`.
    """
    apart = reported(eager, stack, "global_attentions") or [None] * len(reports)
    return [
        report
        if call.blocks is None
        else call.blocks.read_report(report, of_global, call.weights.shape[-1])
        for call, report, of_global in zip(calls, reports, apart, strict=True)
    ]


def reports_any(eager: object) -> bool:
    """Whether an eager pass reported attention of any stack."""
    return any(reported(eager, stack) for stack in (None, *STACKS))


def compare_attention(
    calls: Sequence[AttentionCall],
    names: Sequence[StackName],
    kept: Sequence[bool],
    eager: object,
    sides: Sides,
    streams: int = 1,
) -> float:
    """Largest difference from what an eager pass reported, over tokens that are not padding.

    Args:
        calls: that were captured.
        names: their stacks.
        kept: which of them are to be kept; those are compared in any case.
        eager: output of the model's own eager pass.
        sides: tokens of the examples.
        streams: of queries in the cross-attention that it reports; the first one is compared.

    Raises:
        Mismatch: it reported other calls, or the difference is too large.
    """
    _refuse_unseen(names, eager, sides)
    parts: list[tuple[Tensor, Tensor]] = []
    for stack in dict.fromkeys(names):
        # Latents that attend to each other have no encoder's or decoder's name where reported.
        side = stack if sides.target and reported(eager, stack) else None
        theirs = reported(eager, side)
        if not theirs:
            raise Mismatch("it reports no attention that what was captured could be held against")
        if stack == "cross" and streams > 1:
            theirs = [first_stream(a, streams) for a in theirs]
        places = [i for i, name in enumerate(names) if name == stack]
        spared = len(places) > len(theirs)
        if spared:  # what is left out may go unreported
            places = [i for i in places if kept[i]]
        pairs = _pair_up([calls[i] for i in places], theirs, eager, side, spared=spared)
        for i, (queries, keys) in enumerate(sides.along(stack)):
            cut = (i, slice(None), slice(queries), slice(keys))
            parts += [_alike(a[cut], b[cut]) for a, b in pairs]
    worst = largest(parts)
    if not worst <= TOLERANCE:
        raise Mismatch(f"captured attention differs from its own by {worst:.1e}")
    return worst


def _pair_up(
    calls: Sequence[AttentionCall],
    reports: Sequence[Any],
    eager: object,
    side: StackName | None,
    *,
    spared: bool,
) -> list[tuple[Tensor, Tensor]]:
    """Maps of some calls, and the same as reported.

    Where a model spares reports of some calls (Swin's stages report their last layer alone), which
    one a report is of is told by its map: the nearest. The others' modules are of its class.

    Raises:
        Mismatch: they are not as many, or of other shapes.
    """
    ours = [call.weights for call in calls]
    shapes = {a.shape for a in ours}
    # Layers of another kind may report what is no map of tokens.
    if spared or len(reports) > len(ours):
        reports = [a for a in reports if getattr(a, "shape", None) in shapes]
    if spared and 0 < len(reports) < len(ours) and _alike_in_kind(calls):
        return [(_nearest(ours, a), a) for a in map(as_weights, reports)]
    if len(ours) != len(reports):
        raise Mismatch(f"{len(ours)} attention calls were captured where it reports {len(reports)}")
    theirs = [as_weights(a) for a in lay_out_reports(calls, reports, eager, side)]
    if any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        raise Mismatch("captured attention has another shape than its own")
    return list(zip(ours, theirs, strict=True))


def _alike_in_kind(calls: Sequence[AttentionCall]) -> bool:
    """Whether calls are of as many modules, all of one class, whose maps are of one shape."""
    kinds = {(type(call.module), call.weights.shape, call.blocks is None) for call in calls}
    return len(kinds) == 1 and len({call.name for call in calls}) == len(calls)


def _nearest(ours: Sequence[Tensor], theirs: Tensor) -> Tensor:
    return min(ours, key=lambda a: float((a - theirs).abs().max()))


def _refuse_unseen(names: Sequence[StackName], eager: object, sides: Sides) -> None:
    """Refuse where an eager pass reported attention of a stack of which no call was captured."""
    unseen = [stack for stack in STACKS if stack not in names and reported(eager, stack)]
    if unseen and sides.target:
        raise Mismatch(f"the attention of its {unseen[0]} was not captured")
    if not sides.target and reported(eager, "decoder"):
        raise Mismatch(
            "it has an encoder and a decoder, but no attention from one to the other that weighs "
            "all tokens was seen in it (deformable attention weighs a few points)"
        )


def _alike(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of one example to be compared, ``(head, query_token, key_token)``: their means over
    heads where one map is reported for all of them, as torch's multi-head attention does."""
    if len(theirs) > 1 and theirs.stride(0) == 0:
        return ours.mean(0), theirs[0]
    return ours, theirs


def as_weights(reported: Tensor) -> Tensor:
    """What a layer reported as attention, after softmax where it reports its scores (SqueezeBERT):
    these have numbers below 0, masked ones at least, and weights have none.

    Args:
        reported: ``(example, head, query_token, key_token)``.
    """
    import torch

    return torch.softmax(reported, -1) if bool((reported < 0).any()) else reported


def compare_kernel(calls: Sequence[AttentionCall]) -> float:
    """Largest difference of attention times values from what torch's fused function gave.

    It is relative to the size of values, and taken of first examples, which have no padding.

    Raises:
        Mismatch: some calls did not go through it, or the difference is too large.
    """
    import torch

    pairs = []
    for call in calls:
        if call.output is None:
            raise Mismatch(
                "its eager attention is not what it runs by default, so that none is known"
            )
        theirs = call.output[0]
        shared = call.query.shape[1] // call.value.shape[1]
        ours = call.weights[0] @ call.value[0].repeat_interleave(shared, 0).to(call.weights.dtype)
        size = theirs.abs().max().clamp(min=1.0)
        pairs.append((ours / size, theirs / size))
    worst = largest(pairs)
    rounding = torch.finfo(theirs.dtype).eps  # what the output of a kernel is rounded to
    if not worst <= max(TOLERANCE, 2 * rounding):
        raise Mismatch(f"attention times values differs from torch's own by {worst:.1e}")
    return worst


def compare_output(ours: object, theirs: object, lengths: Sequence[int], what: str) -> None:
    """Hold one output against another.

    Raises:
        Mismatch: they differ.
    """
    if differs(ours, theirs, lengths):
        raise Mismatch(f"{what} (by {largest_output(ours, theirs, lengths):.1e})")


def differs(ours: object, theirs: object, lengths: Sequence[int]) -> bool:
    """Whether two outputs differ by more than rounding."""
    return not largest_output(ours, theirs, lengths) <= 100 * TOLERANCE


def largest(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Largest absolute difference over pairs of tensors; NaN if any holds one."""
    import torch

    return float(torch.stack([(a - b).abs().max() for a, b in pairs]).max())


def largest_output(ours: object, theirs: object, lengths: Sequence[int]) -> float:
    """Largest difference of logits or last hidden states, relative to their size."""
    for name in ("logits", "last_hidden_state"):
        a, b = getattr(ours, name, None), getattr(theirs, name, None)
        if a is None or b is None:
            continue
        cut = [slice(n) if a.ndim == 3 else slice(None) for n in lengths]
        pairs = [(a[i][tokens], b[i][tokens]) for i, tokens in enumerate(cut)]
        return largest(pairs) / max(1.0, float(b.abs().max()))
    return 0.0
