"""Copying a vault, or part of it, into a new one: some examples, layers, heads, arrays; fewer bits.

What is kept at its own precision is copied code by code. Heads of the copy are numbered anew, from
0 in the order given; layers keep the model's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .axes import Lengths
from .beginning import create, resume
from .chunks import is_column, stack_of
from .corpus import check_places
from .documents import differing
from .encodings import VECTORS
from .errors import PlanMismatch
from .parts import Part, choose_part
from .plan import spec_document
from .precision import decode_attention, encode_attention
from .remote import Place, locate
from .store import vault_state
from .vault import Vault
from .vectors import crop_vectors, decode_vectors, encode_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .selection import Examples
    from .spec import ArrayName, Precision, Record, VaultSpec, VectorPrecision
    from .units import UnitBuffer
    from .writer import VaultWriter

Progress = Callable[[int, int], None]


def copy(
    source: Vault | Place | str,
    path: Place | str,
    *,
    examples: Examples = None,
    stack: str | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    arrays: Sequence[ArrayName] | None = None,
    precision: Precision | None = None,
    vectors: Mapping[ArrayName, VectorPrecision] | None = None,
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
        precision: how to keep attention, at most as exactly as the source does; the source's own if
            not given. Errors of both add up: the copy's provenance states the sum.
        vectors: how to keep queries, keys or values that the source keeps as float32. Others stay
            as they are; those not named go with ``precision`` where that changes.
        compress: False stores chunks as they are.
        progress: called with units done and units in all.

    Raises:
        InputError, OutOfRange, MissingArray: what is asked for is not there, or ``path`` is taken.
        PlanMismatch: ``path`` holds an unfinished vault that is not this copy.
        VaultError: the source is damaged.
        ResourceError: the disk refuses.
    """
    vault = source if isinstance(source, Vault) else Vault(source)
    part = choose_part(
        vault, examples, layers, heads, arrays, precision=precision, vectors=vectors, stack=stack
    )
    return copy_part(part, locate(path), compress=compress, progress=progress)


def copy_part(part: Part, folder: Place, *, compress: bool, progress: Progress | None) -> Vault:
    """Copy what was chosen; errors are those of :func:`copy`."""
    return copy_parts([part], part.spec, folder, compress=compress, progress=progress)


def copy_parts(
    parts: Sequence[Part],
    spec: VaultSpec,
    folder: Place,
    *,
    compress: bool,
    progress: Progress | None,
) -> Vault:
    """Copy parts one after the other into one vault, or go on with it; errors as :func:`copy`."""
    if vault_state(folder) == "unfinished":
        writer = resume(folder, spec.identity)
        _refuse_another_kind(folder, writer.spec, spec)
    else:
        writer = create(folder, spec, _records(parts), compress=compress)
    with writer:
        _fill_all(writer, parts, progress)
    return Vault(folder)


def _refuse_another_kind(folder: Place, begun: VaultSpec, asked: VaultSpec) -> None:
    """The same examples, layers and heads of the same vault, but other arrays or types of them."""
    kept, wanted = (
        {key: value for key, value in spec_document(spec).items() if key != "provenance"}
        for spec in (begun, asked)
    )
    if found := [f"{key} ({was}, not {now})" for key, was, now in differing(kept, wanted)]:
        raise PlanMismatch(
            f"{folder} holds an unfinished copy that differs in {'; '.join(found):.300}; choose"
            " another folder, or ask for what was asked for before"
        )


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
        check_places(part.source, places[of_length])
        of_length = of_length[np.argsort(places[of_length, 1])]
        at = own[of_length]
        rows = places[of_length, 1].astype(np.int64)
        for path, target in buffer.arrays.items():
            if is_column(path):
                _copy_column(part, length, path, rows, target, at)
                continue
            codes = _read(part, length, path, rows)
            if codes.dtype != target.dtype:
                codes = _recoded(codes, path, places[of_length, 2:], part.spec, target.dtype.name)
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
    blocks = part.source.store.rows(length, path).blocks()
    codes = blocks.read(rows, chosen.layers, heads, raw=True)
    if name not in VECTORS:
        return codes
    own = chosen.stack
    return crop_vectors(codes, own.value_dim if name == "value" else own.head_dim)


def _recoded(
    codes: NDArray[Any], path: str, lengths: NDArray[np.int32], spec: VaultSpec, kept: str
) -> NDArray[Any]:
    """Codes of a lower precision; ``lengths`` are each example's, ``(example, 1 or 2)``."""
    if not path.endswith("/attention"):
        return encode_vectors(decode_vectors(codes), cast("VectorPrecision", kept))
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
