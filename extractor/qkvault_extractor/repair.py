"""Redoing a vault's damaged units from its own records, with the model that it was made with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import qkvault
from qkvault import Damage, ResourceError
from qkvault_extractor.ready import batch_budget, ready_for
from qkvault_extractor.unfit import naming_examples

if TYPE_CHECKING:
    from qkvault import Diagnosis
    from qkvault_extractor.options import Progress


@dataclass(frozen=True)
class RepairReport:
    """What came of a repair.

    Attributes:
        damages: what was wrong.
        remaining: what is wrong still.
        obstacle: why damaged units were left as they are; None where they were not.
        units: how many were run again.
        examples: how many those hold.
        restored: metadata files that were made again without the model.
        same: whether the vault has the digest that it had before; None where there was none to be
            read, or the vault is not whole now.
        bytes: written.
        seconds: wall time.
    """

    damages: tuple[Damage, ...]
    remaining: tuple[Damage, ...]
    obstacle: str | None
    units: int
    examples: int
    restored: tuple[str, ...]
    same: bool | None
    bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the vault is whole now."""
        return not self.remaining


def repair(
    path: Path | str,
    model: str | None = None,
    device: str = "auto",
    full: bool = False,
    progress: Callable[[Progress], None] | None = None,
    *,
    checking: Callable[[int, int], None] | None = None,
) -> RepairReport:
    """Verify a vault and redo what is damaged, and nothing else.

    The examples come from the vault's own records, so the data need not be at hand; the model must
    be the one that the vault was made with. The same bytes come out where the model gives the same
    numbers again: on the same kind of device, with the same libraries. What was stopped half-way is
    gone on with when it is run again.

    Args:
        path: the vault; what an unfinished one lacks counts as damaged.
        model: local folder or Hub name; if not given, the folder that the vault says it was made
            with.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the best there is.
        full: look for damage in every byte, not only in documents, sizes and indexes.
        progress: called now and then while units are run.
        checking: called with (units done, units in all) while the vault is verified.

    Returns:
        What was done. Damage that cannot be undone does not raise: it is in ``remaining``.

    Raises:
        VaultError: there is no vault, or its plan is damaged.
        InputError: the model is needed and not there, or cannot be used.
        PlanMismatch: it is another model, or gives attention of another shape.
        ResourceError: memory, disk or device ran out; run again to go on.
    """
    start = time.perf_counter()
    diagnosis = qkvault.diagnose(path, full=full, progress=checking)
    damages, restored = diagnosis.report.damages, diagnosis.restorable
    if restored:  # it hid the arrays it belongs to, and their damage
        diagnosis.restore()
        diagnosis.close()
        diagnosis = qkvault.diagnose(path, full=full, progress=checking)
    try:
        done, remaining = _Done(), diagnosis.report.damages
        if diagnosis.unfinished and diagnosis.obstacle is None:
            done = _redo(diagnosis, model, device, progress)
            remaining = diagnosis.check_again()
    finally:
        diagnosis.close()
    return RepairReport(
        damages=damages,
        remaining=remaining,
        obstacle=diagnosis.obstacle,
        units=done.units,
        examples=done.examples,
        restored=restored,
        same=done.same,
        bytes=done.bytes,
        seconds=time.perf_counter() - start,
    )


@dataclass(frozen=True)
class _Done:
    units: int = 0
    examples: int = 0
    same: bool | None = None
    bytes: int = 0


def _redo(
    diagnosis: Diagnosis,
    model: str | None,
    device: str,
    progress: Callable[[Progress], None] | None,
) -> _Done:
    """Run the damaged units again and finish the vault; the model is made ready before."""
    from qkvault_extractor.run import run_units

    before, written = diagnosis.digest, 0
    ready = None
    if diagnosis.units:
        ready = ready_for(diagnosis.path, diagnosis.spec, [diagnosis.longest()], model, device)
    with diagnosis.withdraw() as writer:
        units = writer.pending()
        if ready is not None:
            loaded, found = ready
            budget = batch_budget(writer.spec.provenance, loaded.device.type)
            with naming_examples(writer):
                written = run_units(writer, loaded, found, budget, progress)
        if left := len(writer.pending()):
            raise ResourceError(
                f"{writer.path}: units still being written by another process: {left}; "
                "run again when it is done"
            )
        digest = writer.finish()
    same = None if before is None else digest == before
    examples = sum(len(unit.examples) for unit in units)
    return _Done(len(units), examples, same, written)
