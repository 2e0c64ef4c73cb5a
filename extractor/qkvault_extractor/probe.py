"""What a model's attention looks like, learnt by one small forward pass, and checked by another.

The first pass tells stacks, layers, heads and widths before anything is planned. The second asks
the model for its own eager ``output_attentions`` on the same input: unless both agree, the model is
refused, because attention that is wrong must not be stored.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from qkvault import InputError, Recipe, Stack, VectorPrecision, token_axes
from qkvault_extractor.capture import Collector
from qkvault_extractor.captured import Captured, capture
from qkvault_extractor.machine import quiet
from qkvault_extractor.masks import see_masks
from qkvault_extractor.native import TOLERANCE, largest_output
from qkvault_extractor.padding import bears_padding
from qkvault_extractor.recipes import derived_difference
from qkvault_extractor.stacks import Sides, Site, describe_stacks
from qkvault_extractor.ways import collect

if TYPE_CHECKING:
    from qkvault import Record
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.unfit import Flaw
    from qkvault_extractor.ways import Way

PROBE_CELLS: Final = 1 << 27
"""Most attention weights of a probe, over all layers and heads (512 MB of float32)."""


@dataclass(frozen=True)
class Probe:
    """What was learnt of a model.

    Attributes:
        stacks: its runs of attention layers.
        sites: one per attention call of a forward pass, in order.
        difference: largest difference found between captured and eager attention.
        derived_error: largest difference found between attention derived from queries and keys as
            they are kept and the model's own; None where derived attention was not asked for.
        way: how its attention is captured.
        left_out: place among all calls of a forward pass, and module, of those that attend to other
            tokens than the example's own (pooled ones, say) in a model where others do not.
        joined: places among all calls of those that are one with the call before: the same
            attention, over more values.
        bears_padding: whether texts of unequal length can share a batch without changing each
            other's attention.
    """

    stacks: tuple[Stack, ...]
    sites: tuple[Site, ...]
    difference: float
    derived_error: float | None = None
    way: Way = "interface"
    left_out: tuple[tuple[int, str], ...] = ()
    joined: tuple[int, ...] = ()
    bears_padding: bool = True

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
            makes sure that it follows, and that the model gives the same without maps of its
            attention, unless its own code makes them.

    Raises:
        InputError: the model's attention cannot be captured, or was captured wrongly; names the
            model and the reason.
    """
    import torch

    batch = loaded.feed.choose_probe(records, _most_tokens(loaded))
    sides = Sides.of(batch)
    with torch.inference_mode(), quiet():
        captured = capture(loaded, batch, spares_maps=derive_from is not None)
        calls = captured.calls
        # Where attention is derived, the longest text is looked at as a whole before the run.
        shown: Mapping[int, torch.Tensor] | None = {} if derive_from is not None else None
        if captured.way == "interface":
            shown = see_masks(loaded, captured, sides, records)
        sites, stacks = describe_stacks(captured.placed, sides, Sides.of(records), shown)
        seen = Probe(
            stacks,
            sites,
            captured.difference,
            way=captured.way,
            left_out=captured.left_out,
            joined=captured.joined,
            bears_padding=bears_padding(loaded, captured, batch),
        )
        if derive_from is None:
            return seen
        _refuse_underivable(loaded, seen)
        if seen.way == "interface":
            _check_tiles(loaded, seen, batch, captured)
        else:
            _check_longest(loaded, seen, records)
        errors = [
            derived_difference(call, sides.along(site.stack)[0], recipe, derive_from)
            for call, site, recipe in zip(calls, sites, seen.recipes, strict=True)
        ]
    return replace(seen, derived_error=max(errors))


def _refuse_underivable(loaded: LoadedModel, seen: Probe) -> None:
    replaced = seen.way == "interface"
    if seen.joined:
        raise InputError(
            f"the attention of model {loaded.name} cannot be derived while it runs: its layers "
            "attend several times with the same queries and keys; use --attention store"
        )
    if replaced and seen.left_out:
        raise InputError(
            f"the attention of model {loaded.name} cannot be derived while it runs: "
            f"{seen.left_out[0][1]} attends to other tokens than the example's own; "
            "use --attention store"
        )
    for site, recipe in zip(seen.sites, seen.recipes, strict=True):
        reason = recipe.unknown
        if replaced and recipe.sinks is not None and recipe.sinks.mode == "gate":
            reason = "its sinks gate the heads' outputs, which only its own attention function does"
        if reason is not None:
            raise InputError(
                f"the attention of model {loaded.name} cannot be derived, layer {site.layer}: "
                f"{reason}; use --attention store"
            )


def _check_tiles(loaded: LoadedModel, seen: Probe, batch: list[Record], captured: Captured) -> None:
    """Run the model on attention in tiles: with padding, and without, where masks are left out.

    Tiles compute in float32. In half precision their output is held against that of the model with
    attention in float32, to which it must be no farther than the model's own output is.
    """
    from qkvault_extractor.tiles import TiledAttention

    for records in (batch, batch[:1]):
        tiled = TiledAttention(seen.recipes, None, seen.axes)
        sources, targets = zip(*Sides.of(records).lengths, strict=True)
        tiled.start(sources, loaded.device, targets)
        with Collector(loaded.model, lambda _: None, tiled):
            found = loaded.forward(records)
        _refuse_flawed(loaded, tiled.finish())
        lengths = [record.lengths[-1] for record in records]
        expected, allowed = captured.output, 100 * TOLERANCE
        if captured.exact_output is not None:
            expected = captured.exact_output
            allowed = max(allowed, largest_output(captured.output, expected, lengths))
        drift = largest_output(found, expected, lengths)
        if not drift <= allowed:
            raise InputError(
                f"model {loaded.name} gives another output when its attention is computed in tiles "
                f"(by {drift:.1e}); use --attention store"
            )


def _check_longest(loaded: LoadedModel, seen: Probe, records: Sequence[Record]) -> None:
    """Run a model that computes its attention itself over the longest text, however long.

    Raises:
        InputError: its attention is not what the recipe says there.
    """
    from qkvault_extractor.watched import WatchedAttention

    longest = loaded.feed.choose_probe(records, sys.maxsize)[:1]
    watched = WatchedAttention(seen.recipes, seen.axes, lambda _: None)
    sources, targets = zip(*Sides.of(longest).lengths, strict=True)
    watched.start(sources, loaded.device, targets)
    left_out = [place for place, _ in seen.left_out]
    with collect(loaded.model, seen.way, watched, left_out=left_out, weigh=False):
        loaded.forward(longest)
    _refuse_flawed(loaded, watched.finish())


def _refuse_flawed(loaded: LoadedModel, flaws: Mapping[int, Flaw]) -> None:
    """Refuse a model that breaks its rule on a text that it is tried on."""
    for flaw in flaws.values():
        raise InputError(
            f"the attention of model {loaded.name} cannot be derived: on the longest text, "
            f"{flaw.reason}; {flaw.remedy}"
        )


def _most_tokens(loaded: LoadedModel) -> int:
    """The longest probe that memory allows: a window shows only on texts longer than it."""
    config = loaded.model.config.get_text_config()
    maps = 6 if loaded.model.config.is_encoder_decoder else 2
    for name in ("num_hidden_layers", "num_attention_heads"):
        count = getattr(config, name, None)  # hierarchies have none, or one per level
        maps *= count if isinstance(count, int) else 1
    return int((PROBE_CELLS / maps) ** 0.5)
