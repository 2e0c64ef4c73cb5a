"""Planning an unfinished vault anew without some examples, keeping what is written of others.

What the model cannot be run on, or what it gives no numbers for, shows only while units are run,
when the plan is fixed. The new plan is that of the same data without those rows: places, buckets
and units are what they would have been, and so is every byte that a run over it writes. A unit
whose rows are the same under both plans is taken over with a new tag, and is not run again.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from . import disk
from .claims import take_claim
from .codecs import PlainCodec
from .commits import commit_bytes, commit_path
from .errors import InputError, ResourceError, UnitTaken
from .planning import Planner, planning_folder
from .remote import Place, locate
from .shards import ABSENT, ShardWriter
from .writer import VaultWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .metadata import ArrayMeta
    from .shards import Shard, ShardReceipt
    from .spec import Json, VaultSpec
    from .units import Unit


def leave_out(
    path: Place | str, rejects: Mapping[int, Mapping[str, Json]], spec: VaultSpec
) -> VaultWriter:
    """Plan an unfinished vault anew without some examples.

    Nobody else may be at work on it. It is made beside the old one and then put in its place: what
    stops half-way leaves the old one as it was.

    Args:
        path: the vault's folder.
        rejects: by the example's number, what is noted of each that is left out; with those noted
            before, they are kept in order of their ``row``.
        spec: of the new plan; stacks, arrays and precision are the old one's.

    Raises:
        InputError: the vault is finished or in an object store, or no example would be left.
        ResourceError: another process is at work on the vault, or the disk refuses.
        VaultError: the vault is damaged.
    """
    folder = locate(path)
    if not isinstance(folder, Path):
        raise InputError(
            f"{folder} is in an object store, where a plan cannot be changed: extract to a disk, or"
            " take the rows out of the data"
        )
    with VaultWriter(folder) as old, ExitStack() as claims:
        if old.finished:
            raise InputError(f"{folder} is finished, and a finished vault never changes")
        for unit in old.pending():
            try:
                claims.callback(take_claim(folder, unit.id).release)
            except UnitTaken:
                raise ResourceError(
                    f"{folder}: rows have to be left out, but another process is at work on it; run"
                    " again when it is done"
                ) from None
        with planning_folder(folder) as made:
            _plan_anew(old, made, rejects, spec)
            with disk.writing(folder):
                disk.swap_folders(folder, made)
                disk.sync_folder(folder.parent)
        disk.sweep(made)
    return VaultWriter(folder)


def _plan_anew(
    old: VaultWriter, made: Path, rejects: Mapping[int, Mapping[str, Json]], spec: VaultSpec
) -> None:
    kept = np.setdiff1d(np.arange(old.examples), np.array([*rejects], np.int64))
    if not len(kept):
        raise InputError(f"none of the {old.examples} examples of {old.path} can be kept")
    noted = sorted([*old.rejects(), *rejects.values()], key=_row_of)
    records = (old.record(index) for index in kept.tolist())
    Planner(made, spec, compress=not _is_plain(old)).run(records, noted)
    with VaultWriter(made) as new:
        befores = {int(unit.examples[0]): unit for unit in old.units}
        for unit in new.units:
            before = befores.get(int(kept[unit.examples[0]]))
            if before is not None and np.array_equal(kept[unit.examples], before.examples):
                _take_over(old, before, new, unit, made)


def _row_of(reject: Mapping[str, Json]) -> int:
    row = reject.get("row")
    return row if isinstance(row, int) else -1


def _is_plain(old: VaultWriter) -> bool:
    """Whether the vault is written without compression."""
    return all(isinstance(meta.codec, PlainCodec) for meta in old.metas(old.units[0]).values())


def _take_over(old: VaultWriter, before: Unit, new: VaultWriter, unit: Unit, folder: Path) -> None:
    """Give a unit of the new plan the shards of the same unit of the old one, if they are sound."""
    commit = old.committed(before)
    froms, tos = old.metas(before), new.metas(unit)
    if commit is None or froms.keys() != tos.keys():
        return
    if not all(_is_alike(froms[array], tos[array]) for array in tos):
        return
    receipts = {}
    for array, meta in tos.items():
        number = new.shard_number(unit)
        final = meta.shard_path(number)
        shard = old.shard(before, array)
        receipt = commit.files[froms[array].shard_path(old.shard_number(before))]
        writer = ShardWriter(folder / final, meta.chunks_per_shard, new.plan_hash, final)
        try:
            sound = _copy_chunks(shard, receipt, writer)
            receipts[final] = writer.close()
        finally:
            writer.abandon()
        if not sound:
            return
    data = commit_bytes(new.plan, unit.id, receipts, commit.notes)
    disk.write_file(folder / commit_path(unit.id), data)


def _is_alike(a: ArrayMeta, b: ArrayMeta) -> bool:
    return _shape_of(a) == _shape_of(b) and a.codec.document == b.codec.document


def _shape_of(meta: ArrayMeta) -> tuple[object, ...]:
    return meta.shape[1:], meta.shard, meta.chunk, meta.dtype


def _copy_chunks(shard: Shard, receipt: ShardReceipt, writer: ShardWriter) -> bool:
    """Copy all chunks; whether the old file was the one that was committed, byte for byte."""
    digest = xxhash.xxh3_128()
    for number, (offset, size) in enumerate(shard.index.tolist()):
        if offset != ABSENT:
            chunk = shard.read(offset, size)
            digest.update(chunk)
            writer.add([(number, [chunk])])
    digest.update(shard.read(shard.end, receipt.size - shard.end))
    return digest.hexdigest() == receipt.xxh3_128
