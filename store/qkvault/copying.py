"""Copying a vault, or part of it, into a new one: some examples, layers, heads, arrays; fewer bits.

What is kept at its own precision is copied code by code. Heads of the copy are numbered anew, from
0 in the order given; layers keep the model's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .arrays import copy_codes
from .axes import Lengths
from .blocks import BlockReader
from .chunks import array_paths, is_column, stack_of
from .corpus import chosen_stack, head_places, layer_places
from .errors import InputError, MissingArray, OutOfRange
from .origins import copy_identity, copy_origin
from .precision import MAX_ERROR, decode_attention, encode_attention
from .recipe import pick_heads
from .selection import example_indices
from .spec import ARRAYS, PRECISIONS, VaultSpec
from .store import vault_state
from .vault import Vault
from .writer import VaultWriter, create, resume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .selection import Examples
    from .spec import ArrayName, Precision, Record, Stack
    from .units import UnitBuffer

Progress = Callable[[int, int], None]


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
            and (self.spec.arrays, self.spec.precision) == (source.arrays, source.precision)
            and all(
                list(part.heads) == list(range(part.stack.heads)) for part in self.stacks.values()
            )
        )


def copy(
    source: Vault | Path | str,
    path: Path | str,
    *,
    examples: Examples = None,
    stack: str | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    arrays: Sequence[ArrayName] | None = None,
    precision: Precision | None = None,
    compress: bool = True,
    progress: Progress | None = None,
) -> Vault:
    """Copy a vault, or part of it, into a new vault; run again, it goes on where it stopped.

    Args:
        source: a finished vault, or its path.
        path: an absent or empty folder, or the unfinished copy of the same part.
        examples: a selection, numbers, ids or a mask; all, in their order, if not given.
        stack: the only one to keep; all if not given.
        layers: the model's own numbers; all if not given. Stacks without any of them are left out.
        heads: query heads; all if not given. Keys and values of the heads they use come along.
        arrays: some of attention, query, key, value; all that are kept if not given.
        precision: one that loses more than the source's; the source's own if not given. Errors of
            both add up: the copy's provenance states the sum.
        compress: False stores chunks as they are.
        progress: called with units done and units in all.

    Raises:
        InputError, OutOfRange, MissingArray: what is asked for is not there, or ``path`` is taken.
        PlanMismatch: ``path`` holds an unfinished vault that is not this copy.
        VaultError: the source is damaged.
        ResourceError: the disk refuses.
    """
    vault = source if isinstance(source, Vault) else Vault(source)
    part = choose_part(vault, examples, layers, heads, arrays, precision=precision, stack=stack)
    return copy_part(part, Path(path), compress=compress, progress=progress)


def copy_part(part: Part, folder: Path, *, compress: bool, progress: Progress | None) -> Vault:
    """Copy what was chosen; errors are those of :func:`copy`."""
    return copy_parts([part], part.spec, folder, compress=compress, progress=progress)


def copy_parts(
    parts: Sequence[Part],
    spec: VaultSpec,
    folder: Path,
    *,
    compress: bool,
    progress: Progress | None,
) -> Vault:
    """Copy parts one after the other into one vault, or go on with it; errors as :func:`copy`."""
    if vault_state(folder) == "unfinished":
        writer = resume(folder, spec.identity)
    else:
        writer = create(folder, spec, _records(parts), compress=compress)
    with writer:
        _fill_all(writer, parts, progress)
    return Vault(folder)


def choose_part(
    vault: Vault,
    examples: Examples,
    layers: Sequence[int] | None,
    heads: Sequence[int] | None,
    arrays: Sequence[ArrayName] | None,
    *,
    precision: Precision | None = None,
    stack: str | None = None,
) -> Part:
    """Check a choice; arguments and errors are those of :func:`copy`."""
    indices = example_indices(vault, examples)
    if not len(indices):
        raise InputError(f"no example of {vault.path} was chosen; there would be nothing to keep")
    if len(np.unique(indices)) != len(indices):
        raise InputError("an example was chosen twice; a vault keeps each once")
    wanted = vault.spec.stacks if stack is None else (chosen_stack(vault, stack),)
    stacks: dict[str, _StackPart] = {
        one.name: _stack_part(one, own, heads) for one, own in _own_layers(wanted, layers)
    }
    if not stacks:
        raise OutOfRange(f"no stack of {vault.path} has one of the layers {layers}")
    chosen = _chosen_arrays(vault, arrays)
    head_at = {name: part.heads for name, part in stacks.items()}
    kept = _chosen_precision(vault, precision)
    spec = replace(
        vault.spec,
        stacks=tuple(part.stack for part in stacks.values()),
        arrays=chosen,
        precision=kept,
        attention=vault.spec.attention if {"query", "key"} <= set(chosen) else "stored",
        derived_error=vault.spec.derived_error if kept == vault.spec.precision else None,
        identity={
            **vault.spec.identity,
            "copy": copy_identity(vault, indices, stack, layers, heads),
        },
        provenance={**vault.spec.provenance, "copy": copy_origin(vault, head_at, kept)},
    )
    return Part(vault, indices, stacks, spec)


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
    part = replace(
        stack,
        layers=tuple(stack.layers[place] for place in layer_at),
        scaling=tuple(stack.scaling[place] for place in layer_at),
        recipe=tuple(pick_heads(stack.recipe[place], head_at) for place in layer_at),
        heads=len(head_at),
        key_heads=len(head_at) // per_key_head,
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


def _records(parts: Sequence[Part]) -> Iterator[Record]:
    return (part.source.record(index) for part in parts for index in part.examples.tolist())


def _fill_all(writer: VaultWriter, parts: Sequence[Part], progress: Progress | None) -> None:
    total = len(writer.units)
    pending = writer.pending()
    for done, unit in enumerate(pending, total - len(pending)):
        if progress is not None:
            progress(done, total)
        buffer = writer.begin(unit)
        try:
            first = 0
            for part in parts:
                fill(buffer, part, first)
                first += len(part.examples)
        except BaseException:
            buffer.claim.release()
            raise
        writer.commit(buffer)
    writer.finish()
    if progress is not None:
        progress(total, total)


def fill(buffer: UnitBuffer, part: Part, first: int) -> None:
    """Fill a unit's rows that come from a part, whose first example is the copy's ``first``."""
    chosen = buffer.unit.examples - first
    own = np.flatnonzero((chosen >= 0) & (chosen < len(part.examples)))
    places = part.source.places[part.examples[chosen[own]]]
    for length in np.unique(places[:, 0]).tolist():
        of_length = np.flatnonzero(places[:, 0] == length)
        of_length = of_length[np.argsort(places[of_length, 1])]
        at = own[of_length]
        rows = places[of_length, 1].astype(np.int64)
        for path in array_paths(part.spec):
            target = buffer.arrays[path]
            if is_column(path):
                _copy_column(part, length, path, rows, target, at)
                continue
            codes = _read(part, length, path, rows)
            if codes.dtype != target.dtype:
                codes = _recoded(codes, path, places[of_length, 2:], part.spec)
            tokens, width = map(min, codes.shape[3:], target.shape[3:])
            target[at, :, :, :tokens, :width] = codes[:, :, :, :tokens, :width]


def _copy_column(
    part: Part,
    length: int,
    path: str,
    rows: NDArray[np.int64],
    target: NDArray[Any],
    at: NDArray[np.intp],
) -> None:
    column = part.source.store.column(length, path)
    chosen = part.stacks.get(path.partition("/")[0])
    for place, row in zip(at.tolist(), rows.tolist(), strict=True):
        values = column.row(row)
        target[place] = values if chosen is None else values[chosen.layers][:, chosen.heads]


def _read(part: Part, length: int, path: str, rows: NDArray[np.int64]) -> NDArray[Any]:
    stack, _, name = path.partition("/")
    chosen = part.stacks[stack]
    heads = chosen.key_heads if name in ("key", "value") else chosen.heads
    reader = BlockReader(part.source.store.rows(length, path))
    return reader.read(rows, chosen.layers, heads, reader.meta.dtype, copy_codes)


def _recoded(
    codes: NDArray[Any], path: str, lengths: NDArray[np.int32], spec: VaultSpec
) -> NDArray[Any]:
    """Codes of a lower precision; ``lengths`` are each example's, ``(example, 1 or 2)``."""
    if not path.endswith("/attention"):
        return codes.astype(np.float16)
    stack = stack_of(spec, path.partition("/")[0]).name
    sides = [Lengths(*tokens).sides(spec, stack) for tokens in lengths.tolist()]
    weights = decode_attention(codes, cast("Precision", codes.dtype.name))
    _overwrite_padding(weights, sides, 0.0)  # padding may be NaN, which is no weight
    recoded = encode_attention(weights, spec.precision)
    if recoded.dtype.kind == "f":
        _overwrite_padding(recoded, sides, np.nan)
    return recoded


def _overwrite_padding(maps: NDArray[Any], sides: list[tuple[int, int]], value: float) -> None:
    for row, (queries, keys) in enumerate(sides):
        maps[row, :, :, queries:] = value
        maps[row, :, :, :, keys:] = value
