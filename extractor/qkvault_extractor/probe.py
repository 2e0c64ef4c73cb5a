"""What a model's attention looks like, learnt by one small forward pass, and checked by another.

The first pass tells stacks, layers, heads and widths before anything is planned. The second asks
the model for its own eager ``output_attentions`` on the same input: unless both agree, the model is
refused, because attention that is wrong must not be stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from qkvault import InputError, Recipe, Stack, StackName
from qkvault_extractor.capture import AttentionCall, Collector
from qkvault_extractor.machine import quiet
from qkvault_extractor.model import SUPPORTED, LoadedModel
from qkvault_extractor.recipes import derived_difference, find_recipe

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault import Record

TOLERANCE: Final = 1e-5
"""Largest difference between captured and eager attention in float32; rounding stays below 5e-6."""

PROBE_CELLS: Final = 1 << 27
"""Most attention weights of a probe, over all layers and heads (512 MB of float32)."""


@dataclass(frozen=True)
class Site:
    """Where one attention call of a forward pass belongs."""

    stack: StackName
    layer: int
    module: str


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
    """

    stacks: tuple[Stack, ...]
    sites: tuple[Site, ...]
    difference: float
    sums_to_one: bool = True
    derived_error: float | None = None

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
    derive: Literal["half", "single"] | None = None,
) -> Probe:
    """Run a model twice on a small batch: captured, and as it is; compare, describe.

    Args:
        loaded: the model.
        records: examples of the data, the longest among them.
        derive: make sure that attention follows from queries and keys kept in half or single
            precision, and that the model runs without maps of its attention.

    Raises:
        InputError: the model's attention cannot be captured, or was captured wrongly; names the
            model and the reason.
    """
    import torch

    batch = loaded.feed.choose_probe(records, _most_tokens(loaded))
    tokens, longest = len(batch[0].tokens), max(len(record.tokens) for record in records)
    with torch.inference_mode(), quiet():
        calls, output = _run_captured(loaded, batch)
        _check_calls(loaded, calls)
        difference = _compare(loaded, batch, calls, output)
        sites, stacks = _describe(loaded, calls, tokens, longest)
        sinks = any({"s_aux", "sinks"} & call.terms.keys() for call in calls)
        seen = Probe(stacks, sites, difference, not sinks)
        if derive is None:
            return seen
        _refuse_underivable(loaded, seen)
        _check_tiles(loaded, seen, batch, output)
        errors = [
            derived_difference(call, tokens, recipe, half=derive == "half")
            for call, recipe in zip(calls, seen.recipes, strict=True)
        ]
    return replace(seen, derived_error=max(errors))


def _refuse_underivable(loaded: LoadedModel, seen: Probe) -> None:
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
        tiled = TiledAttention(seen.recipes, None)
        lengths = [len(record.tokens) for record in records]
        tiled.start(lengths, loaded.device)
        with Collector(loaded.model, lambda _: None, tiled):
            found = loaded.forward(records)
        tiled.finish()
        drift = _largest_output(found, output, lengths)
        if not drift <= 100 * TOLERANCE:
            raise InputError(
                f"model {loaded.name} gives another output when its attention is computed in tiles "
                f"(by {drift:.1e}); use --attention store"
            )


def _most_tokens(loaded: LoadedModel) -> int:
    """The longest probe that memory allows: a window shows only on texts longer than it."""
    config = loaded.model.config.get_text_config()
    maps = 2 * config.num_hidden_layers * config.num_attention_heads
    return int((PROBE_CELLS / maps) ** 0.5)


def _run_captured(loaded: LoadedModel, batch: list[Record]) -> tuple[list[AttentionCall], object]:
    calls: list[AttentionCall] = []
    with Collector(loaded.model, calls.append):
        try:
            output = loaded.forward(batch)
        except InputError:
            raise
        except Exception as error:  # the model's own code; whatever it raises names the reason
            reason = str(error).strip().splitlines()
            raise _refuse(
                loaded, f"it does not run on token ids alone ({reason[0] if reason else error!r})"
            ) from error
    return calls, output


def _check_calls(loaded: LoadedModel, calls: list[AttentionCall]) -> None:
    """Refuse calls that do not make one stack of self-attention."""
    if not calls:
        raise _refuse(loaded, "it computes attention in code of its own")
    shapes = {_shape(call) for call in calls}
    if len(shapes) > 1:
        raise _refuse(loaded, f"its layers differ in heads or widths: {sorted(shapes)}")
    heads, key_heads, _, _ = shapes.pop()
    if heads % key_heads:
        raise _refuse(loaded, f"{heads} heads do not divide among {key_heads} key heads")
    for call in calls:
        tokens = call.query.shape[2]
        if call.attention is None or call.attention.shape[2:] != (tokens, tokens):
            raise _refuse(loaded, f"{call.name} attends to other tokens than the text's own")


def _describe(
    loaded: LoadedModel, calls: list[AttentionCall], tokens: int, longest: int
) -> tuple[tuple[Site, ...], tuple[Stack, ...]]:
    heads, key_heads, head_dim, value_dim = _shape(calls[0])
    recipes = tuple(find_recipe(call, tokens, longest) for call in calls)
    causal = all(recipe.mask.causal for recipe in recipes)
    name: StackName = "decoder" if causal else "encoder"
    layers = number_layers(calls)
    sites = tuple(Site(name, n, c.name) for n, c in zip(layers, calls, strict=True))
    scaling = tuple(call.scaling for call in calls)
    stack = Stack(
        name, layers, heads, key_heads, head_dim, value_dim, causal, scaling, recipe=recipes
    )
    return sites, (stack,)


def _shape(call: AttentionCall) -> tuple[int, int, int, int]:
    """Heads, key heads, head width, value width."""
    return (call.query.shape[1], call.key.shape[1], call.query.shape[3], call.value.shape[3])


def number_layers(calls: Sequence[AttentionCall]) -> tuple[int, ...]:
    """Give the model's own layer number of every call.

    Its ``layer_idx`` where it has one, else the first number in its name
    (``encoder.layer.3.attention``); both must rise from call to call. A module called several times
    (ALBERT shares one) is numbered by the order of calls.
    """
    by_order = tuple(range(len(calls)))
    if len({call.name for call in calls}) < len(calls):
        return by_order
    own = [getattr(call.module, "layer_idx", None) for call in calls]
    named = [re.search(r"(?:^|\.)(\d+)(?:\.|$)", call.name) for call in calls]
    for numbers in (own, [int(found[1]) if found else None for found in named]):
        found = tuple(n for n in numbers if isinstance(n, int))
        if len(found) == len(calls) and all(a < b for a, b in zip(found, found[1:], strict=False)):
            return found
    return by_order


def _compare(
    loaded: LoadedModel, batch: list[Record], calls: list[AttentionCall], output: object
) -> float:
    """Largest difference from the model's own eager pass, over the tokens that are not padding."""
    before = loaded.model.config._attn_implementation
    loaded.model.set_attn_implementation("eager")
    try:
        eager = loaded.forward(batch, output_attentions=True)
    finally:
        loaded.model.set_attn_implementation(before)
    own = [a for a in getattr(eager, "attentions", None) or () if a is not None]
    if len(own) != len(calls):
        raise _refuse(
            loaded, f"{len(calls)} attention calls were captured where it reports {len(own)}"
        )
    pairs = [(call.weights, theirs) for call, theirs in zip(calls, own, strict=True)]
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        raise _refuse(loaded, "captured attention has another shape than its own")
    lengths = [len(record.tokens) for record in batch]
    worst = _largest(
        [
            (ours[i, :, :n, :n], theirs[i, :, :n, :n])
            for ours, theirs in pairs
            for i, n in enumerate(lengths)
        ]
    )
    drift = _largest_output(output, eager, lengths)
    if not (worst <= TOLERANCE and drift <= 100 * TOLERANCE):
        raise _refuse(
            loaded,
            f"captured attention differs from its own by {worst:.1e}, its output by {drift:.1e}",
        )
    return worst


def _largest(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Largest absolute difference over pairs of tensors; NaN if any holds one."""
    import torch

    return float(torch.stack([(a - b).abs().max() for a, b in pairs]).max())


def _largest_output(ours: object, theirs: object, lengths: list[int]) -> float:
    """Largest difference of logits or last hidden states, relative to their size."""
    for name in ("logits", "last_hidden_state"):
        a, b = getattr(ours, name, None), getattr(theirs, name, None)
        if a is None or b is None:
            continue
        cut = [slice(n) if a.ndim == 3 else slice(None) for n in lengths]
        pairs = [(a[i][tokens], b[i][tokens]) for i, tokens in enumerate(cut)]
        return _largest(pairs) / max(1.0, float(b.abs().max()))
    return 0.0


def _refuse(loaded: LoadedModel, reason: str) -> InputError:
    kind = loaded.model.config.model_type
    return InputError(
        f"model {loaded.name} (type {kind}) cannot be captured: {reason}; supported: {SUPPORTED}"
    )
