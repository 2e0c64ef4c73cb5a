"""Making a damaged vault whole: what it restores itself, what a model must run again, what is lost.

Nothing of a vault changes but what is damaged, and wherever repairing stops, what is left can be
gone on with. First the commit of each damaged unit goes, so that nothing of it can be read; then
the manifest, which makes the vault an unfinished one and the units pending. They are then written
as any other. Equal bytes give the commits, the manifest and the digest that there were before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import disk
from .claims import take_claim
from .commits import COMMITS, MANIFEST, MAX_MANIFEST_BYTES, commit_path, parse_manifest
from .errors import InputError, ResourceError, UnitTaken, VaultError
from .origins import model_heads
from .remote import Place, RemotePath, locate
from .restoring import restorable_metadata, write_metadata
from .store import Store
from .vault import Vault
from .verification import verify, verify_units
from .writer import VaultWriter

if TYPE_CHECKING:
    from .damages import Damage, VerifyReport
    from .plan import Plan
    from .spec import Record, VaultSpec
    from .verification import ProgressCall


def diagnose(
    path: Place | str, *, full: bool = False, progress: ProgressCall | None = None
) -> Diagnosis:
    """Verify a vault and tell what can be done about its damages. Nothing is written.

    Args:
        path: the vault, finished or not.
        full: read and decode every byte, as :func:`qkvault.verify` does.
        progress: called with (units done, units in all).

    Raises:
        InputError: an export; repair the vault and export again.
        VaultError: there is no vault, or its plan, without which nothing can be told, is damaged.
    """
    folder = locate(path)
    if isinstance(folder, RemotePath):
        raise InputError(
            f"{folder} is on an object store, where vaults are not repaired; copy it to a disk,"
            " repair it there, and put it back"
        )
    if disk.is_file(folder):
        raise InputError(f"{folder} is an export; repair the vault and export it again")
    report = verify(folder, full=full, progress=progress)
    return Diagnosis(folder, Store(folder, manifest=False), report)


class Diagnosis:
    """What is wrong with a vault, and the way back.

    Attributes:
        path: the vault's folder.
        spec: what the vault keeps.
        report: what verifying found.
        units: numbers of the damaged and missing units, ascending.
        lost: damages that neither the vault nor a model can undo.
    """

    def __init__(self, path: Path, store: Store, report: VerifyReport) -> None:
        self.path = path
        self.report = report
        self.spec: VaultSpec = store.plan.spec
        self._lock = -1
        self._store = store
        self._vault = Vault.over(store)
        self.units = tuple(sorted({unit for damage in report.damages for unit in damage.units}))
        others = [damage for damage in report.damages if not damage.units]
        self._restorable = restorable_metadata(
            self.path, store.plan, [damage.path for damage in others]
        )
        undone = {MANIFEST, COMMITS, *self._restorable}
        self.lost = tuple(damage for damage in others if damage.path not in undone)

    def close(self) -> None:
        """Let go of open files, and let other processes repair."""
        self._store.close()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    @property
    def restorable(self) -> tuple[str, ...]:
        """Damaged metadata that :meth:`restore` makes again of other metadata."""
        return tuple(self._restorable)

    @property
    def unfinished(self) -> bool:
        """Whether the vault has to be finished (again): a unit or the manifest is damaged."""
        return bool(self.units) or any(d.path == MANIFEST for d in self.report.damages)

    @cached_property
    def digest(self) -> str | None:
        """The vault's digest by its manifest; None where that is missing or damaged."""
        return _read_digest(self.path, self._store.plan)

    @cached_property
    def obstacle(self) -> str | None:
        """Why the damaged units cannot be redone by the model; None where they can, or none is."""
        if not self.units:
            return None
        heads = model_heads(self.spec)
        if any(heads[s.name] != list(range(s.heads)) for s in self.spec.stacks):
            return "it holds some heads of the model only; make it again with qkvault copy"
        for unit in self.units:
            try:
                self.records(unit)
                length = self._store.plan.unit_rows(unit)[0].length
                for array in self._store.bucket_arrays(length):
                    self._store.array_meta(length, array)
            except VaultError as error:
                return f"unit {unit} cannot be run again: {error}"
        return None

    def records(self, unit: int) -> list[Record]:
        """Records of a unit's examples, by row.

        Raises:
            VaultError: one is damaged, or does not fit its place.
        """
        examples = self._vault.unit_examples(unit)
        records = [self._vault.record(index) for index in examples.tolist()]
        for index, record in zip(examples.tolist(), records, strict=True):
            if list(record.lengths) != self._vault.places[index, 2:].tolist():
                raise VaultError(f"the record of example {index} has not as many tokens as said")
        return records

    def longest(self) -> Record:
        """The record of the longest example; where it is damaged, of the next longest.

        Raises:
            VaultError: none can be read.
        """
        tokens = self._vault.places[:, 2:].sum(axis=1)
        for index in np.argsort(-tokens, kind="stable").tolist():
            with suppress(VaultError):
                return self._vault.record(index)
        raise VaultError(f"{self.path} is damaged: no record of an example can be read")

    def restore(self) -> None:
        """Write :attr:`restorable` metadata anew. Diagnose again afterwards: it hid its arrays.

        Raises:
            ResourceError: the disk refuses.
        """
        write_metadata(self.path, self._restorable)

    def withdraw(self) -> VaultWriter:
        """Give up the damaged units and the manifest; the units are then pending.

        What another process has redone meanwhile is left alone. Until :meth:`close`, no other
        process repairs the vault.

        Raises:
            VaultError: the units could not be redone; nothing was touched.
            ResourceError: the disk refuses, or another process repairs the vault.
        """
        if self.obstacle:
            raise VaultError(f"{self.path} cannot be repaired: {self.obstacle}")
        self._store.close()
        self._lock = _lock(self.path)
        with disk.writing(self.path):
            (self.path / COMMITS).mkdir(exist_ok=True)
        left = [unit for unit in self.units if not _is_redone(self.path, unit)]
        if left or _read_digest(self.path, self._store.plan) is None:
            with disk.writing(self.path):
                (self.path / MANIFEST).unlink(missing_ok=True)
                disk.sync_folder(self.path)
        return VaultWriter(self.path)

    def check_again(self) -> tuple[Damage, ...]:
        """What is wrong after repairing: all that the quick check sees, and every byte of the units
        that were redone."""
        found = verify(self.path).damages
        told = {damage.path for damage in found}
        redone = verify_units(self.path, self.units, full=True)
        return (*found, *(damage for damage in redone if damage.path not in told))


def _read_digest(path: Path, plan: Plan) -> str | None:
    with suppress(VaultError):
        data = disk.read_whole(path / MANIFEST, MAX_MANIFEST_BYTES)
        return parse_manifest(data, plan, MANIFEST).hash
    return None


def _lock(path: Path) -> int:
    """Keep other repairs out, where the disk has locks, until the result is closed."""
    with disk.writing(path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            ours = disk.try_lock(fd) is not False
        except BaseException:
            os.close(fd)
            raise
    if not ours:
        os.close(fd)
        raise ResourceError(f"{path} is being repaired by another process; run again when it ends")
    return fd


def _is_redone(path: Path, unit: int) -> bool:
    """Whether another process has redone a unit meanwhile. If not, its commit is taken back."""
    file = path / commit_path(unit)
    if disk.look_at(file, follow=False) is None:
        return False
    try:
        claim = take_claim(path, unit)
    except UnitTaken:  # an extraction that goes on with the vault is at it
        return False
    try:
        if not verify_units(path, [unit], full=True):
            return True
        with disk.writing(file), suppress(FileNotFoundError):
            file.rename(claim.folder / "damaged-commit")
            disk.sync_folder(file.parent)
    finally:
        claim.release()
    return False
