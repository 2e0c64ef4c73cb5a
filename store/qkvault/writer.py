"""Filling a vault unit by unit, so that it can stop at any moment and go on."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from . import disk
from .chunks import group_name
from .claims import PARTIAL, take_claim
from .commits import (
    COMMITS,
    MANIFEST,
    Commit,
    commit_bytes,
    commit_path,
    commits_digest,
    manifest_bytes,
)
from .errors import PlanMismatch, ResourceError, UnitTaken, VaultError
from .lazy_records import LazyRecords
from .planning import sweep_dead_plans
from .remote import Place, RemotePath
from .store import PLAN, Store
from .unit_files import write_unit
from .unit_memory import UnitMemory
from .units import Receipt, Unit, UnitBuffer
from .vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from .metadata import ArrayMeta
    from .packing import Watch
    from .plan import Plan
    from .shards import Shard
    from .spec import Json, Record, VaultSpec


class VaultWriter:
    """Writes the units of a vault; several threads or processes may share the work.

    Attributes:
        path: the vault's folder.
        spec: what is kept.
        watch: told of each stretch of compressing ("compress") and writing ("write"), as a context
            around it, in the thread that does it; may be set to what counts them.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        self.watch: Watch = _ignore
        self._memory = UnitMemory()
        self._row_bytes: dict[int, int] = {}
        self._seen = disk.look_at(path / PLAN)
        self._store = Store(path)
        self.spec: VaultSpec = self._store.plan.spec
        self._reader = Vault.over(self._store)

    def __enter__(self) -> VaultWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of open files; what is committed stays."""
        self._store.close()

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """All units, by number; buckets ascend in length."""
        plan = self._store.plan
        places = self._reader.places
        order = np.argsort(places[:, 0], kind="stable").astype(np.int64)
        starts: dict[int, int] = {}
        total = 0
        for bucket in plan.buckets:
            starts[bucket.length] = total
            total += bucket.rows
        units = []
        for number in range(plan.units):
            bucket, first, last = plan.unit_rows(number)
            base = starts[bucket.length]
            examples = order[base + first : base + last]
            group = group_name(bucket.length)
            lengths = places[examples, 2]
            targets = places[examples, 3] if self.spec.target else np.zeros_like(lengths)
            units.append(Unit(number, group, bucket.length, examples, lengths, targets))
        return tuple(units)

    @property
    def plan(self) -> Plan:
        """The vault's plan."""
        return self._store.plan

    @property
    def plan_hash(self) -> str:
        """The plan's hash: equal for all who write one vault."""
        return self.plan.hash

    @property
    def examples(self) -> int:
        """How many there are."""
        return self.plan.examples

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each example, and of its target: int32 ``(example, 1)`` or ``(example, 2)``."""
        return self._reader.places[:, 2:]

    @property
    def finished(self) -> bool:
        """Whether the vault has its manifest."""
        return disk.look_at(self.path / MANIFEST) is not None

    def rejects(self) -> list[dict[str, Json]]:
        """Rows that were left out, as :meth:`qkvault.Vault.rejects` gives them."""
        return self._store.rejects()

    def pending(self, among: Sequence[Unit] | None = None) -> list[Unit]:
        """Units without a valid commit, by number. Other processes' commits are seen.

        Args:
            among: look only at these.
        """
        if self.finished:
            return []
        names = disk.list_times(self.path / COMMITS).keys()
        size_of = disk.size_lookup(self.path)
        return [
            unit
            for unit in (self.units if among is None else among)
            if commit_path(unit.id).rpartition("/")[2] not in names
            or self.committed(unit, size_of) is None
        ]

    def records(self, unit: Unit) -> Sequence[Record]:
        """Records of a unit's examples, by row; each is parsed when it is asked for."""
        return LazyRecords(self._reader, unit.examples.tolist())

    def record(self, example: int) -> Record:
        """The record of an example."""
        return self._reader.record(example)

    def begin(self, unit: Unit) -> UnitBuffer:
        """Claim a unit and get the arrays to fill.

        Raises:
            UnitTaken: another process is writing it, or has written it.
            PlanMismatch: another process has planned the vault anew.
        """
        self._refuse_another_plan()
        self._refuse_committed(unit)
        claim = take_claim(self.path, unit.id)
        try:
            self._refuse_committed(unit)  # by one who held the claim until just now
            return UnitBuffer(unit, self.metas(unit), claim, self._memory.take)
        except BaseException:
            claim.release()
            raise

    def recycle(self, buffer: UnitBuffer) -> None:
        """Take back the memory of a buffer that nobody will look at again, for the next one."""
        buffer.arrays.clear()
        self._memory.give_back(buffer.memory)

    def reserve(self, units: Sequence[Unit], at_once: int) -> None:
        """Take now the memory that filling some units will take.

        Args:
            units: that are going to be filled.
            at_once: most of them that are in memory at a time.
        """
        self._memory.reserve(at_once, sum(self._bytes_of(unit) for unit in units))

    def _bytes_of(self, unit: Unit) -> int:
        if unit.length not in self._row_bytes:
            metas = self.metas(unit).values()
            cells = (math.prod(meta.shape[1:]) * meta.dtype.itemsize for meta in metas)
            self._row_bytes[unit.length] = sum(cells)
        return len(unit.examples) * self._row_bytes[unit.length]

    def _refuse_another_plan(self) -> None:
        """A folder of this name may have been put in place of the one that was opened."""
        if not isinstance(self._seen, os.stat_result):  # nothing is put in place of an object
            return
        now = disk.look_at(self.path / PLAN)
        if not isinstance(now, os.stat_result) or not os.path.samestat(self._seen, now):
            raise PlanMismatch(
                f"{self.path} has been planned anew by another process; run again to go on"
            )

    def _refuse_committed(self, unit: Unit) -> None:
        if self.committed(unit) is not None:
            raise UnitTaken(f"unit {unit.id} has been written by another process")

    def commit(self, buffer: UnitBuffer) -> Receipt:
        """Write a unit's shards and then its commit; after this it is finished for good.

        Raises:
            InputError: an array was left unfilled or has another shape.
            UnitTaken: another process took this one for dead and has the unit now.
            ResourceError: the disk refuses; the unit stays pending.
        """
        unit = buffer.unit
        metas = self.metas(unit)
        try:
            buffer.check(metas)
            number = self.shard_number(unit)
            receipts = write_unit(buffer, metas, number, self.path, self.plan_hash, self.watch)
            data = commit_bytes(self._store.plan, unit.id, receipts, buffer.notes)
            buffer.claim.publish_commit(self.path / commit_path(unit.id), data)
        except ResourceError:
            if buffer.claim.lost:
                raise UnitTaken(f"unit {unit.id} was taken over by another process") from None
            raise
        finally:
            buffer.claim.release()
        raw = sum(values.nbytes for values in buffer.arrays.values())
        return Receipt(sum(receipt.size for receipt in receipts.values()), raw)

    def finish(self) -> str:
        """Check that every unit is committed and put the manifest; returns the vault's digest.

        Raises:
            VaultError: units are pending.
            ResourceError: the disk refuses.
        """
        self._store.close()  # a commit that was seen may have been withdrawn since, by a repair
        plan = self._store.plan
        hashes = []
        stored: dict[str, int] = {}
        size_of = disk.size_lookup(self.path)
        for number in range(plan.units):
            commit = self.committed(self.units[number], size_of)
            if commit is None:
                left = len(self.pending())
                raise VaultError(
                    f"{self.path} has {left} of {plan.units} units still to be written"
                )
            hashes.append(commit.hash)
            for path, receipt in commit.files.items():
                array = path.partition("/")[2].rpartition("/")[0]
                stored[array] = stored.get(array, 0) + receipt.size
        self._put_manifest(manifest_bytes(plan, commits_digest(hashes), stored))
        disk.sweep(self.path / PARTIAL)
        if not isinstance(self.path, RemotePath):
            sweep_dead_plans(self.path)
        self.close()
        return Vault(self.path).digest

    def _put_manifest(self, data: bytes) -> None:
        file = self.path / MANIFEST
        if disk.look_at(file):
            return
        try:
            disk.publish(file, data, self.path / PARTIAL)
        except ResourceError:
            if not disk.look_at(file):  # else another process was first, and has swept up
                raise

    def committed(
        self, unit: Unit, size_of: Callable[[str], int | None] | None = None
    ) -> Commit | None:
        """A unit's commit, if it is valid and its files have the committed sizes.

        Args:
            unit: which.
            size_of: tells the size of a file of the vault, where many units are looked at.

        Raises:
            VaultError: the disk does not tell; a valid commit may stand there.
        """
        size_of = size_of or disk.size_lookup(self.path)
        try:
            commit = self._store.commit(unit.id)
        except VaultError as error:
            if isinstance(error.__cause__, OSError):
                raise
            return None
        sound = all(size_of(path) == receipt.size for path, receipt in commit.files.items())
        return commit if sound else None

    def metas(self, unit: Unit) -> dict[str, ArrayMeta]:
        """Metadata of a unit's arrays, by path within the bucket."""
        paths = self._store.bucket_arrays(unit.length)
        return {path: self._store.array_meta(unit.length, path) for path in paths}

    def shard_number(self, unit: Unit) -> int:
        """The place of a unit among those of its bucket: the number in its shards' names."""
        return unit.id - self.plan.bucket(unit.length).first_unit

    def shard(self, unit: Unit, array: str) -> Shard:
        """A shard of a finished unit; VaultError if it is missing or is not what was committed."""
        return self._store.unit_shard(unit.length, array, self.shard_number(unit))


def _ignore(stage: str) -> AbstractContextManager[None]:
    return nullcontext()
