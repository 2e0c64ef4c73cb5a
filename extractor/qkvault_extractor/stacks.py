"""Which attention calls of a forward pass make which stack, and what each stack is like."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from qkvault import STACKS, Lengths, Stack, StackName
from qkvault_extractor.capture import join_calls, repeats
from qkvault_extractor.native import UNSEEN, Mismatch
from qkvault_extractor.recipes import confirm, find_cross_recipe, find_recipe, fit_rule

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault import Recipe, Record
    from qkvault_extractor.capture import AttentionCall

CROSS: Final = re.compile(r"cross|encoder_attn|encdec", re.IGNORECASE)
"""In the names of modules that attend from a decoder to an encoder, in all of transformers."""

_HALF: Final = re.compile(r"(?:^|[._])(encoder|decoder)\.")


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
    if CROSS.search(calls[0].name):  # latents read the source, in which nothing else attends
        return ["cross" if CROSS.search(call.name) else "decoder" for call in calls]
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


def join_repeats(calls: Sequence[AttentionCall]) -> tuple[list[AttentionCall], list[int]]:
    """Make one call of those that are one attention over several values.

    Args:
        calls: all of a forward pass, as captured.

    Returns:
        The calls, each with the number that the first it was made of had; and the places of those
        that were joined to the one before.
    """
    whole: list[AttentionCall] = []
    joined = [i for i in range(1, len(calls)) if repeats(calls[i - 1], calls[i])]
    for place, call in enumerate(calls):
        if place in joined:
            whole[-1] = join_calls(whole[-1], call)
        else:
            whole.append(call)
    return whole, joined


def find_kept(
    calls: Sequence[AttentionCall], names: Sequence[StackName], sides: Sides
) -> list[bool]:
    """Which calls attend to all tokens of the examples' own sequences, and to none else.

    Raises:
        Mismatch: no call of a stack does, or those that do differ in heads.
    """
    kept = [False] * len(calls)
    for stack in dict.fromkeys(names):
        places = [i for i, name in enumerate(names) if name == stack]
        along = sides.along(stack)
        shape = (len(along), *map(max, zip(*along, strict=True)))
        for i in places:
            kept[i] = _map_shape(calls[i]) == shape
        own = [calls[i] for i in places if kept[i]]
        if not own:
            raise Mismatch(_explain_tokens(calls[places[0]], shape))
        _refuse_uneven([_shape(call)[:2] for call in own])
    return kept


def _refuse_uneven(shapes: Sequence[tuple[int, int]]) -> None:
    """Refuse layers, of so many heads and key heads, that do not fit one stack."""
    heads = {heads for heads, _ in shapes}
    if len(heads) > 1:
        raise Mismatch(f"its layers differ in heads: {sorted(heads)}")
    most = max(key_heads for _, key_heads in shapes)
    for count in (max(heads), *(key_heads for _, key_heads in shapes)):
        whole, part = (count, most) if count >= most else (most, count)
        if whole % part:
            raise Mismatch(f"{whole} heads do not divide among {part} key heads")


def _map_shape(call: AttentionCall) -> tuple[int, ...]:
    """Examples, query tokens and key tokens of its attention; nothing where it has none."""
    attention = call.attention
    return () if attention is None else (attention.shape[0], *attention.shape[2:])


def _explain_tokens(call: AttentionCall, shape: tuple[int, ...]) -> str:
    found, wanted = (" x ".join(map(str, sides)) for sides in (_map_shape(call), shape))
    return (
        f"{call.name} attends to other tokens than the example's own: its attention is of {found} "
        f"(examples, query and key tokens) where {wanted} were given"
    )


class Placed(NamedTuple):
    """A call, where it belongs, and the same with attention of float32 if its own is not."""

    call: AttentionCall
    site: Site
    exact: AttentionCall | None = None


def place_calls(
    calls: Sequence[AttentionCall], names: Sequence[StackName], kept: Sequence[bool]
) -> list[Placed]:
    """Number layers over all calls of a stack; gives the calls that are kept, numbered anew.

    Calls of a module that made several count once, if all but one were left out.
    """
    layers: dict[int, int] = {}
    for stack in dict.fromkeys(names):
        places = [i for i, name in enumerate(names) if name == stack]
        own = {calls[i].name for i in places if kept[i]}
        if len(own) == sum(kept[i] for i in places):
            places = [i for i in places if kept[i] or calls[i].name not in own]
        layers |= zip(places, number_layers([calls[i] for i in places]), strict=True)
    places = [i for i, keep in enumerate(kept) if keep]
    return [
        Placed(replace(calls[i], index=n), Site(names[i], layers[i], calls[i].name))
        for n, i in enumerate(places)
    ]


def describe_stacks(
    placed: Sequence[Placed],
    sides: Sides,
    longest: Sides,
    shown: Mapping[int, Tensor] | None,
) -> tuple[tuple[Site, ...], tuple[Stack, ...]]:
    """Where each call belongs, and what the stacks are like.

    Args:
        placed: calls of a forward pass over a batch whose first example has no padding.
        sides: tokens of the batch.
        longest: tokens of all examples that the stacks have to hold for.
        shown: which keys calls show on the longest text, as far as these tell anything new; None
            where it was not looked at.
    """
    stacks = []
    for stack in STACKS:
        own = [one for one in placed if one.site.stack == stack]
        if not own:
            continue
        first = sides.along(stack)[0]
        most = max(queries for queries, _ in longest.along(stack))
        recipes = []
        for one in own:
            exact = one.exact or one.call
            if stack == "cross":
                found = find_cross_recipe(exact)
            else:
                found = find_recipe(exact, first[0], most, tells_window=shown is not None)
                if shown and one.call.index in shown:
                    found = fit_rule(found, shown[one.call.index], first[0])
            recipes.append(confirm(one.call, first, found))
        layers = tuple(one.site.layer for one in own)
        stacks.append(_make_stack(stack, [one.call for one in own], layers, tuple(recipes)))
    return tuple(one.site for one in placed), tuple(stacks)


def _make_stack(
    name: StackName,
    calls: Sequence[AttentionCall],
    layers: tuple[int, ...],
    recipes: tuple[Recipe, ...],
) -> Stack:
    shapes = [_shape(call) for call in calls]
    heads, key_heads, head_dim, value_dim = map(max, zip(*shapes, strict=True))
    widths = tuple(shape[2:] for shape in shapes)
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
        beside=_find_beside(calls, recipes),
        widths=widths if len(set(widths)) > 1 else (),
    )


def _find_beside(calls: Sequence[AttentionCall], recipes: Sequence[Recipe]) -> str | None:
    """What the calls attend to that is no token and that no recipe states."""
    for call, recipe in zip(calls, recipes, strict=True):
        if call.blocks is not None and call.blocks.beside is not None:
            return call.blocks.beside
        if recipe.unknown is not None and {"s_aux", "sinks"} & call.terms.keys():
            return "sinks"
    return None


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
