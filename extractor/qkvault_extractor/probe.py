"""What a model's attention looks like, learnt by one small forward pass, and checked by another.

The first pass tells stacks, layers, heads and widths before anything is planned. The second asks
the model for its own eager ``output_attentions`` on the same input: unless both agree, the model is
refused, because attention that is wrong must not be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from qkvault import STACKS, InputError, Recipe, Stack, StackName, VectorPrecision, token_axes
from qkvault_extractor.capture import AttentionCall, Collector
from qkvault_extractor.machine import quiet
from qkvault_extractor.model import SUPPORTED, LoadedModel
from qkvault_extractor.native import (
    TOLERANCE,
    UNSEEN,
    Mismatch,
    compare_attention,
    compare_kernel,
    compare_output,
    differs,
    largest_output,
    reported,
    run_eager,
)
from qkvault_extractor.recipes import derived_difference
from qkvault_extractor.stacks import Sides, Site, check_calls, describe_stacks, name_stacks
from qkvault_extractor.ways import WAYS, Way, collect

if TYPE_CHECKING:
    from qkvault import Record

PROBE_CELLS: Final = 1 << 27
"""Most attention weights of a probe, over all layers and heads (512 MB of float32)."""


@dataclass(frozen=True)
class Probe:
    """What was learnt of a model.

    Attributes:
        stacks: its runs of attention layers.
        sites: one per attention call of a forward pass, in order.
        difference: largest difference found between captured and eager attention.
        sums_to_one: whether the rows of its attention do; not where a sink takes a share.
        derived_error: largest difference found between attention derived from queries and keys as
            they are kept and the model's own; None where derived attention was not asked for.
        way: how its attention is captured.
    """

    stacks: tuple[Stack, ...]
    sites: tuple[Site, ...]
    difference: float
    sums_to_one: bool = True
    derived_error: float | None = None
    way: Way = "interface"

    @property
    def target(self) -> bool:
        """Whether examples have a target: what the decoder of an encoder-decoder reads."""
        return any(stack.name == "cross" for stack in self.stacks)

    @property
    def axes(self) -> list[tuple[str, str]]:
        """Of each call, the sequences of its query tokens and key tokens."""
        return [token_axes(self, site.stack) for site in self.sites]

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipe of each call of a forward pass."""
        found = {
            (stack.name, layer): recipe
            for stack in self.stacks
            for layer, recipe in zip(stack.layers, stack.recipe, strict=True)
        }
        return tuple(found[site.stack, site.layer] for site in self.sites)


def probe(
    loaded: LoadedModel,
    records: Sequence[Record],
    derive_from: tuple[VectorPrecision, VectorPrecision] | None = None,
) -> Probe:
    """Run a model twice on a small batch: captured, and as it is; compare, describe.

    Args:
        loaded: the model.
        records: examples of the data, the longest among them.
        derive_from: how queries and keys will be kept, where attention is to be derived from them:
            makes sure that it follows, and that the model runs without maps of its attention.

    Raises:
        InputError: the model's attention cannot be captured, or was captured wrongly; names the
            model and the reason.
    """
    import torch

    batch = loaded.feed.choose_probe(records, _most_tokens(loaded))
    sides = Sides.of(batch)
    with torch.inference_mode(), quiet():
        captured = _capture(loaded, batch)
        calls = captured.calls
        tells_window = captured.way == "interface"
        sites, stacks = describe_stacks(
            calls, captured.names, sides, Sides.of(records), tells_window=tells_window
        )
        sinks = any({"s_aux", "sinks"} & call.terms.keys() for call in calls)
        seen = Probe(stacks, sites, captured.difference, not sinks, way=captured.way)
        if derive_from is None:
            return seen
        _refuse_underivable(loaded, seen)
        _check_tiles(loaded, seen, batch, captured.output)
        errors = [
            derived_difference(call, sides.along(name)[0], recipe, derive_from)
            for call, name, recipe in zip(calls, captured.names, seen.recipes, strict=True)
        ]
    return replace(seen, derived_error=max(errors))


@dataclass(frozen=True)
class _Captured:
    """A forward pass whose attention is known to be the model's own."""

    way: Way
    calls: list[AttentionCall]
    names: list[StackName]
    output: object
    difference: float


def _capture(loaded: LoadedModel, batch: list[Record]) -> _Captured:
    """Capture a forward pass by the first way that proves exact.

    Raises:
        InputError: none does; tells why of each that saw attention.
    """
    eager = _run(loaded, lambda: run_eager(loaded, batch))
    reasons: list[str] = []
    for way in WAYS:
        try:
            return _capture_by(way, loaded, batch, eager)
        except Mismatch as mismatch:
            if str(mismatch) not in reasons:
                reasons.append(str(mismatch))
    seen = [reason for reason in reasons if reason != UNSEEN]
    if not seen and not any(reported(eager, stack) for stack in (None, *STACKS)):
        seen = ["it computes no attention that transformers reports or that could be followed"]
    raise _refuse(loaded, "; ".join(seen or reasons))


def _capture_by(way: Way, loaded: LoadedModel, batch: list[Record], eager: object) -> _Captured:
    sides, lengths = Sides.of(batch), [record.lengths[-1] for record in batch]
    calls: list[AttentionCall] = []
    with collect(loaded.model, way, calls.append, describe=True) as collector:
        output = _run(loaded, lambda: loaded.forward(batch))
    names = name_stacks(calls, sides)
    check_calls(calls, names, sides)
    if way == "interface":
        difference = compare_attention(calls, names, eager, sides)
        compare_output(output, eager, lengths, "its output changes when it is captured")
        return _Captured(way, calls, names, output, difference)
    usual = loaded.forward(batch)
    own = "its eager attention is not what it runs by default"
    if way == "operations":
        compare_output(output, usual, lengths, own)
        difference = compare_attention(calls, names, eager, sides)
        return _Captured(way, calls, names, output, difference)
    compare_output(output, usual, lengths, "its output changes when it is captured")
    difference = compare_kernel(calls, collector.kernel_outputs)
    if not differs(eager, usual, lengths):
        difference = max(difference, compare_attention(calls, names, eager, sides))
    return _Captured(way, calls, names, output, difference)


def _run(loaded: LoadedModel, forward: Callable[[], Any]) -> Any:
    try:
        return forward()
    except InputError:
        raise
    except Exception as error:  # the model's own code; whatever it raises names the reason
        reason = str(error).strip().splitlines()
        raise _refuse(
            loaded, f"it does not run on this input alone ({reason[0] if reason else error!r})"
        ) from error


def _refuse_underivable(loaded: LoadedModel, seen: Probe) -> None:
    if seen.way != "interface":
        raise InputError(
            f"the attention of model {loaded.name} cannot be derived while it runs: it is computed "
            "as a whole by code of the model's own; use --attention store"
        )
    for site, recipe in zip(seen.sites, seen.recipes, strict=True):
        reason = recipe.unknown
        if recipe.sinks is not None and recipe.sinks.mode == "gate":
            reason = "its sinks gate the heads' outputs, which only its own attention function does"
        if reason is not None:
            raise InputError(
                f"the attention of model {loaded.name} cannot be derived, layer {site.layer}: "
                f"{reason}; use --attention store"
            )


def _check_tiles(loaded: LoadedModel, seen: Probe, batch: list[Record], output: object) -> None:
    """Run the model on attention in tiles: with padding, and without, where masks are left out."""
    from qkvault_extractor.tiles import TiledAttention

    for records in (batch, batch[:1]):
        tiled = TiledAttention(seen.recipes, None, seen.axes)
        sources, targets = zip(*Sides.of(records).lengths, strict=True)
        tiled.start(sources, loaded.device, targets)
        with Collector(loaded.model, lambda _: None, tiled):
            found = loaded.forward(records)
        tiled.finish()
        drift = largest_output(found, output, [record.lengths[-1] for record in records])
        if not drift <= 100 * TOLERANCE:
            raise InputError(
                f"model {loaded.name} gives another output when its attention is computed in tiles "
                f"(by {drift:.1e}); use --attention store"
            )


def _most_tokens(loaded: LoadedModel) -> int:
    """The longest probe that memory allows: a window shows only on texts longer than it."""
    config = loaded.model.config.get_text_config()
    maps = 6 if loaded.model.config.is_encoder_decoder else 2
    for name in ("num_hidden_layers", "num_attention_heads"):
        count = getattr(config, name, None)  # hierarchies have none, or one per level
        maps *= count if isinstance(count, int) else 1
    return int((PROBE_CELLS / maps) ** 0.5)


def _refuse(loaded: LoadedModel, reason: str) -> InputError:
    kind = loaded.model.config.model_type
    return InputError(
        f"model {loaded.name} (type {kind}) cannot be captured: {reason}; supported: {SUPPORTED}"
    )
