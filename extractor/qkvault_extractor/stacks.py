"""Which attention calls of a forward pass make which stack, and what each stack is like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkvault import STACKS, Lengths, Stack, StackName
from qkvault_extractor.native import UNSEEN, Mismatch
from qkvault_extractor.recipes import find_cross_recipe, find_recipe

if TYPE_CHECKING:
    from qkvault import Recipe, Record
    from qkvault_extractor.capture import AttentionCall

CROSS: Final = re.compile(r"cross|encoder_attn|encdec", re.IGNORECASE)
"""In the names of modules that attend from a decoder to an encoder, in all of transformers."""

_HALF: Final = re.compile(r"(?:^|\.)(encoder|decoder)\.")


@dataclass(frozen=True)
class Site:
    """Where one attention call of a forward pass belongs."""

    stack: StackName
    layer: int
    module: str


@dataclass(frozen=True)
class Sides:
    """Tokens of the examples of a batch, by axis.

    Attributes:
        lengths: of each example.
    """

    lengths: tuple[Lengths, ...]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Sides:
        """Those of some records."""
        return cls(tuple(Lengths(*record.lengths) for record in records))

    @property
    def target(self) -> bool:
        """Whether there are targets."""
        return any(lengths.target for lengths in self.lengths)

    def along(self, stack: StackName) -> list[tuple[int, int]]:
        """Query tokens and key tokens of each example in a stack."""
        return [lengths.sides(self, stack) for lengths in self.lengths]


def name_stacks(calls: Sequence[AttentionCall], sides: Sides) -> list[StackName]:
    """The stack of each call; without targets all calls are of one, named by its masks.

    Raises:
        Mismatch: a call's module tells neither encoder nor decoder.
    """
    if not calls:
        raise Mismatch(UNSEEN)
    if not sides.target:
        seen = [_looks_back(call, *sides.along("encoder")[0]) for call in calls]
        return ["decoder" if all(seen) else "encoder"] * len(calls)
    return [_name_stack(call) for call in calls]


def _name_stack(call: AttentionCall) -> StackName:
    if CROSS.search(call.name):
        return "cross"
    half = _HALF.search(call.name)
    if half is None:
        raise Mismatch(f"{call.name} is neither of an encoder nor of a decoder by its name")
    return "encoder" if half[1] == "encoder" else "decoder"


def _looks_back(call: AttentionCall, queries: int, keys: int) -> bool:
    attention = call.attention
    return attention is not None and not bool(attention[0, :, :queries, :keys].triu(1).any())


def check_calls(calls: Sequence[AttentionCall], names: Sequence[StackName], sides: Sides) -> None:
    """Refuse calls that do not make stacks of attention over the examples' own tokens.

    Raises:
        Mismatch: says what is in the way.
    """
    for stack in dict.fromkeys(names):
        own = [call for call, name in zip(calls, names, strict=True) if name == stack]
        shapes = {_shape(call) for call in own}
        if len(shapes) > 1:
            raise Mismatch(f"its layers differ in heads or widths: {sorted(shapes)}")
        heads, key_heads, _, _ = shapes.pop()
        if heads % key_heads:
            raise Mismatch(f"{heads} heads do not divide among {key_heads} key heads")
        along = sides.along(stack)
        shape = (len(along), heads, *map(max, zip(*along, strict=True)))
        for call in own:
            _check_tokens(call, shape, own=stack != "cross")


def _check_tokens(call: AttentionCall, shape: tuple[int, ...], *, own: bool) -> None:
    """Hold a call's attention against the ``shape`` it should have; ``own``: queries attend to
    tokens of their own sequence."""
    examples, heads, queries, keys = shape
    sides = (call.query.shape[2], call.query.shape[2] if own else call.key.shape[2])
    if call.attention is None or call.attention.shape[2:] != sides:
        raise Mismatch(f"{call.name} attends to other tokens than the example's own")
    if tuple(call.attention.shape) != shape:
        found = " x ".join(map(str, call.attention.shape))
        raise Mismatch(
            f"{call.name} works on {found} (examples, heads, query and key tokens) where"
            f" {examples} x {heads} x {queries} x {keys} were given: its layers have tokens of"
            " their own"
        )


def describe_stacks(
    calls: Sequence[AttentionCall],
    names: Sequence[StackName],
    sides: Sides,
    longest: Sides,
    *,
    tells_window: bool,
) -> tuple[tuple[Site, ...], tuple[Stack, ...]]:
    """Where each call belongs, and what the stacks are like.

    Args:
        calls: those of a forward pass over a batch whose first example has no padding.
        names: their stacks.
        sides: tokens of the batch.
        longest: tokens of all examples that the stacks have to hold for.
        tells_window: as :func:`qkvault_extractor.recipes.find_recipe` takes it.
    """
    sites: dict[int, Site] = {}
    stacks = []
    for stack in (name for name in STACKS if name in names):
        own = [call for call, name in zip(calls, names, strict=True) if name == stack]
        layers = number_layers(own)
        recipes: list[Recipe] = []
        for call, layer in zip(own, layers, strict=True):
            tokens = sides.along(stack)[0][0]
            most = max(queries for queries, _ in longest.along(stack))
            recipes.append(
                find_cross_recipe(call)
                if stack == "cross"
                else find_recipe(call, tokens, most, tells_window=tells_window)
            )
            sites[call.index] = Site(stack, layer, call.name)
        stacks.append(_make_stack(stack, own, layers, tuple(recipes)))
    return tuple(sites[call.index] for call in calls), tuple(stacks)


def _make_stack(
    name: StackName,
    calls: Sequence[AttentionCall],
    layers: tuple[int, ...],
    recipes: tuple[Recipe, ...],
) -> Stack:
    heads, key_heads, head_dim, value_dim = _shape(calls[0])
    return Stack(
        name=name,
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        head_dim=head_dim,
        value_dim=value_dim,
        causal=all(recipe.mask.causal for recipe in recipes),
        scaling=tuple(call.scaling for call in calls),
        recipe=recipes,
    )


def _shape(call: AttentionCall) -> tuple[int, int, int, int]:
    """Heads, key heads, head width, value width."""
    return (call.query.shape[1], call.key.shape[1], call.query.shape[3], call.value.shape[3])


def number_layers(calls: Sequence[AttentionCall]) -> tuple[int, ...]:
    """Give the model's own layer number of every call of a stack.

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
