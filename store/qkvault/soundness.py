"""What must hold for the values of a vault, beyond the bytes being those that were committed."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .axes import MAPS, Lengths, own_cells
from .chunks import stack_of
from .codecs import DamagedChunk
from .errors import VaultError
from .precision import decode_attention, row_sum_bound
from .records import id_hash
from .vectors import decode_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .metadata import ArrayMeta
    from .shards import Shard
    from .spec import Precision, Stack
    from .vault import Vault

MODEL_ROW_SUM_ERROR: Final = 2.0**-8
"""Attention of a model that ran in bfloat16 sums to one only up to its own rounding."""

_OFFSETS_AT_ONCE: Final = 1 << 16


def check_examples(vault: Vault) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Places, offsets, records and ids: (array, what is wrong, examples)."""
    places = vault.places
    for bucket in vault.store.plan.buckets:
        rows = np.flatnonzero(places[:, 0] == bucket.length)
        if not np.array_equal(places[rows, 1], np.arange(bucket.rows)):
            yield "place", f"rows of bucket {bucket.length} are not in the dataset's order", ()
    offsets = vault.store.examples("offset").rows(0, len(vault) + 1)
    size = vault.store.examples("records").meta.shape[0]
    if offsets[0] != 0 or int(offsets[-1]) != size or (np.diff(offsets.astype(np.int64)) < 1).any():
        yield "offset", "it does not part the records", ()
        return
    hashes: NDArray[np.uint64] = np.empty(len(vault), np.uint64)
    for index, record in enumerate(vault.iter_records()):
        hashes[index] = id_hash(record.id)
        if list(record.lengths) != places[index, 2:].tolist():
            yield "records", "its tokens are not as many as its length", (index,)
    order = vault.store.examples("id_row").rows(0, len(vault))
    if not np.array_equal(np.sort(order), np.arange(len(vault))):
        yield "id_row", "it does not name every example once", ()
    elif not np.array_equal(vault.store.examples("id_hash").rows(0, len(vault)), hashes[order]):
        yield "id_hash", "it does not match the records", ()
    elif (hashes[order][1:] < hashes[order][:-1]).any():
        yield "id_hash", "it is not sorted", ()


def check_shard(
    vault: Vault, shard: Shard, meta: ArrayMeta, array: str, examples: NDArray[np.int64]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Decode every chunk of a unit's shard: (what is wrong, examples), at most once per example."""
    lengths = [Lengths(*tokens) for tokens in vault.places[examples, 2:].tolist()]
    told: set[int] = set()
    for place, codes in _chunks(shard, meta, len(examples)):
        first = place[0] * meta.chunk[0]
        if codes is None:
            rows = set(range(first, min(first + meta.chunk[0], len(examples)))) - told
            if rows:
                told |= rows
                touched = examples[sorted(rows)].tolist()
                yield "a chunk is missing or does not unpack", tuple(touched)
            continue
        for row in range(first, min(first + meta.chunk[0], len(examples))):
            problem = _problem(vault, array, codes[row - first], place, meta, lengths[row])
            if problem and row not in told:
                told.add(row)
                yield problem, (int(examples[row]),)


def _chunks(
    shard: Shard, meta: ArrayMeta, rows: int
) -> Iterator[tuple[tuple[int, ...], NDArray[Any] | None]]:
    """Coordinates of each chunk that holds rows, and its codes, or None where it is damaged."""
    buffer = np.empty(meta.chunk, meta.dtype)
    used = (-(-rows // meta.chunk[0]), *meta.grid[1:])
    for place in product(*map(range, used)):
        number = 0
        for at, size in zip(place, meta.grid, strict=True):
            number = number * size + at
        try:
            meta.codec.decode(shard.read(*shard.entry(number)), buffer)
        except (DamagedChunk, VaultError):
            yield place, None
        else:
            yield place, buffer


def _problem(
    vault: Vault,
    array: str,
    codes: NDArray[Any],
    place: tuple[int, ...],
    meta: ArrayMeta,
    lengths: Lengths,
) -> str | None:
    """What is wrong with one row's part of a chunk."""
    stack_name, _, name = array.rpartition("/")
    if name == "logits":
        return None if np.isfinite(codes).all() else "an output is not finite"
    if name == "metrics":  # NaN says that an example has no such number, but it has some
        known = ~np.isnan(codes)
        sound = known.any(axis=-1).all() and np.isfinite(codes[known]).all()
        return None if sound else "a metric is not finite"
    stack = stack_of(vault.spec, stack_name)
    tokens, width = own_cells(name, *lengths.sides(vault.spec, stack.name))
    first = place[3] * meta.chunk[3]
    rows = codes[:, :, : max(tokens.stop - first, 0), width]  # (layer, head, token, width)
    if not rows.size:
        return None
    if name not in MAPS:
        values = decode_vectors(rows)
        if not np.isfinite(values).all():
            return "a value is not finite"
        first_layer = place[1] * meta.chunk[1]
        widths = stack.widths_of(name)[first_layer : first_layer + len(values)]
        beyond = any(layer[..., w:].any() for layer, w in zip(values, widths, strict=False))
        return "a value beyond its layer's width is not 0" if beyond else None
    precision: Precision = "uint8" if name == "thumbnail" else vault.spec.precision
    return _attention_problem(rows, precision, stack, name == "attention", first)


def _attention_problem(
    codes: NDArray[Any],
    precision: Precision,
    stack: Stack,
    full_size: bool,
    first: int,
) -> str | None:
    side = codes.shape[3]
    weights = decode_attention(codes, precision)
    if not np.isfinite(weights).all():
        return "a weight is not finite"
    bound = row_sum_bound(precision, side) + MODEL_ROW_SUM_ERROR
    errors = weights.sum(axis=-1, dtype=np.float64) - 1.0
    error = np.abs(errors).max() if stack.sums_to_one else errors.max()
    if error > bound:
        return f"an attention row sums to 1 only within {error:.2g}; {bound:.2g} is the bound"
    if full_size and stack.causal:
        tokens = first + np.arange(codes.shape[2])
        ahead = np.arange(side) > tokens[:, None]
        if weights[..., ahead].any():
            return "a token attends to one after it"
    return None
