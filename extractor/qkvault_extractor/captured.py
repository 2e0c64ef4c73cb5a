"""A forward pass captured by the first way that proves to be the model's own attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from qkvault import InputError, NotFinite, ResourceError
from qkvault_extractor.model import SUPPORTED, LoadedModel
from qkvault_extractor.native import (
    UNSEEN,
    Mismatch,
    compare_attention,
    compare_kernel,
    compare_output,
    differs,
    reports_any,
    run_eager,
)
from qkvault_extractor.stacks import (
    Placed,
    Sides,
    find_kept,
    join_repeats,
    name_stacks,
    place_calls,
)
from qkvault_extractor.unfit import OVERFLOW
from qkvault_extractor.ways import WAYS, Way, collect

if TYPE_CHECKING:
    from qkvault import Record
    from qkvault_extractor.capture import AttentionCall


@dataclass(frozen=True)
class Captured:
    """A forward pass whose attention is known to be the model's own.

    Attributes:
        way: how it was captured.
        placed: the calls kept, numbered anew, with stack and layer.
        left_out: place among all calls, and module, of the others.
        joined: place among all calls of those that are one with the call before.
        output: the model's.
        exact_output: what it is if attention is computed in float32, from operands of half
            precision; None of a model of float32, or where its code does not run so.
        difference: largest difference of attention found in the comparison.
    """

    way: Way
    placed: list[Placed]
    left_out: tuple[tuple[int, str], ...]
    joined: tuple[int, ...]
    output: object
    difference: float
    exact_output: object = None

    @property
    def calls(self) -> list[AttentionCall]:
        """The calls kept."""
        return [placed.call for placed in self.placed]


def capture(loaded: LoadedModel, batch: list[Record], *, spares_maps: bool = False) -> Captured:
    """Capture a forward pass by the first way that proves exact.

    Args:
        loaded: the model.
        batch: its examples.
        spares_maps: maps of attention are not wanted: the way that makes none goes before the one
            that does, where it sees all of the model's attention.

    Raises:
        InputError: none does; tells why of each that saw attention.
    """
    eager = _run(loaded, batch, lambda: run_eager(loaded, batch))
    reasons: list[str] = []
    for way in ("interface", "kernel", "operations") if spares_maps else WAYS:
        try:
            found = _capture_by(way, loaded, batch, eager)
            if spares_maps and way == "kernel" and any(call.output is None for call in found.calls):
                raise Mismatch(UNSEEN)
            return _add_exact(found, loaded, batch)
        except Mismatch as mismatch:
            # Ways that fail alike differ in figures only: one of them is enough.
            kind = str(mismatch).partition(":")[0].partition(" (by")[0]
            if not any(reason.startswith(kind) for reason in reasons):
                reasons.append(str(mismatch))
    seen = [reason for reason in reasons if reason != UNSEEN]
    if not seen and not reports_any(eager):
        seen = ["it computes no attention that transformers reports or that could be followed"]
    kind = loaded.model.config.model_type
    raise InputError(
        f"model {loaded.name} (type {kind}) cannot be captured: {'; '.join(seen or reasons)}; "
        f"supported: {SUPPORTED}"
    )


def _capture_by(way: Way, loaded: LoadedModel, batch: list[Record], eager: object) -> Captured:
    sides, lengths = Sides.of(batch), [record.lengths[-1] for record in batch]
    made: list[AttentionCall] = []
    with collect(loaded.model, way, made.append, describe=True) as collector:
        output = _run(loaded, batch, lambda: loaded.forward(batch))
    calls, joined = join_repeats(made)
    names = name_stacks(calls, sides)
    kept = find_kept(calls, names, sides)
    placed = place_calls(calls, names, kept)
    _refuse_overflow(loaded, placed, sides)
    if way == "interface":
        difference = compare_attention(calls, names, kept, eager, sides, collector.streams)
        compare_output(output, eager, lengths, "its output changes when it is captured")
    else:
        # What was followed is held against the eager pass where that is what the model runs by
        # default, and else against what torch's fused function gave.
        usual = loaded.forward(batch)
        compare_output(output, usual, lengths, "its eager attention is not what it runs by default")
        unreported = not reports_any(eager) and all(call.output is not None for call in made)
        if differs(eager, usual, lengths) or (way == "kernel" and unreported):
            difference = compare_kernel(made)
        else:
            difference = compare_attention(calls, names, kept, eager, sides, collector.streams)
    left_out = tuple((calls[i].index, calls[i].name) for i, keep in enumerate(kept) if not keep)
    return Captured(way, placed, left_out, tuple(joined), output, difference)


def _refuse_overflow(loaded: LoadedModel, placed: list[Placed], sides: Sides) -> None:
    """Refuse attention that is not finite, of which no comparison could tell anything.

    Raises:
        NotFinite: naming the layer.
    """
    for place in placed:
        for weights, (queries, keys) in zip(
            place.call.weights, sides.along(place.site.stack), strict=True
        ):
            if not bool(weights[:, :queries, :keys].isfinite().all()):
                reason = f"the attention of layer {place.site.layer} is not finite"
                raise NotFinite(
                    f"model {loaded.name}: {reason} on the longest text; {OVERFLOW}", reason
                )


def _add_exact(found: Captured, loaded: LoadedModel, batch: list[Record]) -> Captured:
    """Run a model of half precision again, with attention in float32: rounding hides its rule."""
    import torch

    if all(call.weights.dtype == torch.float32 for call in found.calls):
        return found
    calls: list[AttentionCall] = []
    left_out = [place for place, _ in found.left_out]
    wide = collect(
        loaded.model,
        found.way,
        calls.append,
        left_out=left_out,
        joined=found.joined,
        describe=True,
        wide=True,
    )
    try:
        with wide:
            output = loaded.forward(batch)
    except Exception:  # the model's own code; it does without, and its recipes stay unknown
        return found
    if len(calls) != len(found.placed):
        return found
    placed = [one._replace(exact=exact) for one, exact in zip(found.placed, calls, strict=True)]
    return replace(found, placed=placed, exact_output=output)


def _run(loaded: LoadedModel, batch: list[Record], forward: Callable[[], Any]) -> Any:
    import torch

    try:
        return forward()
    except (InputError, Mismatch):
        raise
    except torch.OutOfMemoryError:
        raise ResourceError(
            f"{loaded.device} has not the memory to try model {loaded.name} on"
            f" {len(batch[0].tokens)} tokens; use another device"
        ) from None
    except Exception as error:  # the model's own code; whatever it raises names the reason
        told = (str(error).strip().splitlines() or [repr(error)])[0]
        kind = loaded.model.config.model_type
        # Some weights may stay float32 where others do not (XLNet's): then its code fails.
        kinds = {weights.dtype for weights in loaded.model.parameters()} - {torch.float32}
        if kinds:
            precision = str(kinds.pop()).removeprefix("torch.")
            raise InputError(
                f"model {loaded.name} (type {kind}) does not run on this input in {precision} "
                f"({told}); use --dtype float32"
            ) from error
        raise InputError(
            f"model {loaded.name} (type {kind}) cannot be captured: it does not run on this input "
            f"alone ({told}); supported: {SUPPORTED}"
        ) from error
