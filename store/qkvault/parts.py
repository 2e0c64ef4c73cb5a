"""Which part of a vault is to be copied: examples, layers, heads, arrays, and in how many bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from .corpus import chosen_stack, head_places, layer_places
from .encodings import stored_dtype
from .errors import InputError, MissingArray, OutOfRange
from .origins import copy_identity, copy_origin
from .precision import MAX_ERROR
from .recipe import pick_heads
from .selection import example_indices
from .spec import ARRAYS, PRECISIONS, VECTOR_PRECISIONS, VaultSpec, choose_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .selection import Examples
    from .spec import ArrayName, AttentionSource, Precision, Stack, VectorPrecision
    from .vault import Vault


@dataclass(frozen=True)
class _StackPart:
    """Of one stack of the source: positions of what is kept, and the stack that results."""

    stack: Stack
    layers: Sequence[int]
    heads: Sequence[int]
    key_heads: Sequence[int]


@dataclass(frozen=True, eq=False)
class Part:
    """What is copied.

    Attributes:
        source: the vault.
        examples: int64 ``(example,)``, in the copy's order.
        stacks: by name.
        spec: of the copy.
    """

    source: Vault
    examples: NDArray[np.int64]
    stacks: dict[str, _StackPart]
    spec: VaultSpec

    @property
    def whole(self) -> bool:
        """Whether it is all of the source, unchanged and in order."""
        source = self.source.spec
        return (
            len(self.examples) == len(self.source)
            and bool((np.diff(self.examples) == 1).all())
            and self.spec.stacks == source.stacks
            and self.spec.arrays == source.arrays
            and all(stored_dtype(self.spec, n) == stored_dtype(source, n) for n in source.arrays)
            and all(
                list(part.heads) == list(range(part.stack.heads)) for part in self.stacks.values()
            )
        )


def choose_part(
    vault: Vault,
    examples: Examples,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    arrays: Sequence[ArrayName] | None,
    *,
    precision: Precision | None = None,
    vectors: Mapping[ArrayName, VectorPrecision] | None = None,
    stack: str | None = None,
) -> Part:
    """Check a choice; arguments and errors are those of :func:`copy`."""
    indices = _chosen_examples(vault, examples)
    wanted = vault.spec.stacks if stack is None else (chosen_stack(vault, stack),)
    stacks: dict[str, _StackPart] = {
        one.name: _stack_part(one, own, heads) for one, own in _own_layers(wanted, layers)
    }
    if not stacks:
        raise OutOfRange(f"no stack of {vault.path} has one of the layers {layers}")
    chosen = _chosen_arrays(vault, arrays)
    head_at = {name: part.heads for name, part in stacks.items()}
    kept = _chosen_precision(vault, precision)
    source = vault.spec.attention if {"query", "key"} <= set(chosen) else "stored"
    types = _chosen_vectors(vault.spec, chosen, kept, source, vectors or {})
    spec = replace(
        vault.spec,
        stacks=tuple(part.stack for part in stacks.values()),
        arrays=chosen,
        precision=kept,
        vectors=types,
        attention=source,
        thumbnails="pooled",
        identity={
            **vault.spec.identity,
            "copy": copy_identity(vault, indices, stack, layers, heads),
        },
        provenance={**vault.spec.provenance, "copy": copy_origin(vault, head_at, kept)},
    )
    same = all(stored_dtype(spec, name) == stored_dtype(vault.spec, name) for name in chosen)
    return Part(vault, indices, stacks, spec if same else replace(spec, derived_error=None))


def _chosen_examples(vault: Vault, examples: Examples) -> NDArray[np.int64]:
    indices = example_indices(vault, examples)
    if not len(indices):
        raise InputError(f"no example of {vault.path} was chosen; there would be nothing to keep")
    if len(np.unique(indices)) != len(indices):
        raise InputError("an example was chosen twice; a vault keeps each once")
    return indices


def _own_layers(
    stacks: Sequence[Stack], layers: Sequence[int] | None
) -> Iterator[tuple[Stack, Sequence[int] | None]]:
    """The stacks to copy, with the layers to look for in each: all, where it is the only one."""
    if layers is None or len(stacks) == 1:
        yield from ((stack, layers) for stack in stacks)
        return
    for stack in stacks:
        if own := [number for number in layers if number in stack.layers]:
            yield stack, own


def _stack_part(
    stack: Stack, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> _StackPart:
    layer_at = sorted(layer_places(stack, layers)[0])
    head_at = list(head_places(stack, heads)[0])
    for what, places in (("layer", layer_at), ("head", head_at)):
        if not places or len(set(places)) != len(places):
            raise InputError(f"each {what} may be chosen once, and one at least must be")
    key_heads, per_key_head = _key_heads(stack, head_at)
    widths = [stack.widths[place] for place in layer_at if stack.widths]
    head_dim, value_dim = map(max, zip(*widths or [(stack.head_dim, stack.value_dim)], strict=True))
    part = replace(
        stack,
        layers=tuple(stack.layers[place] for place in layer_at),
        scaling=tuple(stack.scaling[place] for place in layer_at),
        recipe=tuple(pick_heads(stack.recipe[place], head_at) for place in layer_at),
        heads=len(head_at),
        key_heads=len(head_at) // per_key_head,
        head_dim=head_dim,
        value_dim=value_dim,
        widths=tuple(widths) if len(set(widths)) > 1 else (),
    )
    return _StackPart(part, layer_at, head_at, key_heads)


def _key_heads(stack: Stack, heads: list[int]) -> tuple[list[int], int]:
    """Key heads to copy, and how many of the chosen heads share each."""
    used = [head * stack.key_heads // stack.heads for head in heads]
    distinct = list(dict.fromkeys(used))
    shared = len(used) // len(distinct)
    # Head h of the copy uses key head h // shared: true of equal groups in order, else each head
    # gets a key head of its own.
    if used == [key_head for key_head in distinct for _ in range(shared)]:
        return distinct, shared
    return used, 1


def _chosen_arrays(vault: Vault, arrays: Sequence[ArrayName] | None) -> tuple[ArrayName, ...]:
    if arrays is None:
        return vault.spec.arrays
    names = (arrays,) if isinstance(arrays, str) else tuple(arrays)
    if not names or any(name not in ARRAYS for name in names):
        raise InputError(f"arrays are some of {', '.join(ARRAYS)}; found {names!r:.100}")
    for name in names:
        if name not in vault.spec.arrays:
            kept = ", ".join(vault.spec.arrays)
            raise MissingArray(f"{name} was not kept in {vault.path} (kept: {kept})")
    return tuple(name for name in ARRAYS if name in names)


def _chosen_precision(vault: Vault, precision: Precision | None) -> Precision:
    own = vault.spec.precision
    if precision is None:
        return own
    if precision not in PRECISIONS:
        raise InputError(f"precision is one of {', '.join(PRECISIONS)}; found {precision!r:.40}")
    if MAX_ERROR[precision] < MAX_ERROR[own]:
        raise InputError(
            f"{vault.path} keeps attention as {own}; what that lost cannot be regained as"
            f" {precision}: extract again with --precision {precision}"
        )
    return precision


def _chosen_vectors(
    spec: VaultSpec,
    arrays: Sequence[ArrayName],
    precision: Precision,
    attention: AttentionSource,
    wanted: Mapping[ArrayName, VectorPrecision],
) -> dict[ArrayName, VectorPrecision]:
    """What :attr:`VaultSpec.vectors` of the copy names."""
    types = dict(wanted)
    for name in arrays:
        own = cast("VectorPrecision", stored_dtype(spec, name))
        if name == "attention" or (own == "float32" and precision != spec.precision):
            continue
        if types.setdefault(name, own) != own and own != "float32":
            raise InputError(
                f"{name} is kept as {own}; what that lost cannot be regained as {types[name]}:"
                f" extract again with --precision {name}={types[name]}"
            )
    unknown = [name for name in types if name not in arrays or name == "attention"]
    if unknown or any(kept not in VECTOR_PRECISIONS for kept in types.values()):
        raise InputError(
            f"vectors are kept as one of {', '.join(VECTOR_PRECISIONS)}, and they are query, key"
            f" and value where they are copied; found {dict(wanted)!r:.100}"
        )
    return choose_vectors(arrays, precision, attention, types)
