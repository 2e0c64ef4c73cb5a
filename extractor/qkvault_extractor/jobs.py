"""Units as calls that any process can run: what goes to a worker, and what a worker keeps.

``run_unit(job, unit)`` is a pure function of the plan and the unit, as far as bytes go: batches
depend on the plan alone. It may be run anywhere, by anyone, any number of times.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import qkvault
from qkvault import PlanMismatch
from qkvault_extractor.ready import batch_budget, longest_records, ready_for

if TYPE_CHECKING:
    from qkvault import VaultWriter
    from qkvault_extractor.driving import Done
    from qkvault_extractor.run import Worker


@dataclass(frozen=True)
class Job:
    """All that a worker must be told to run any unit of a vault.

    Attributes:
        vault: absolute path, as the worker sees it.
        plan: the plan's hash; a worker that finds another plan there refuses.
        model: local folder or Hub name; the folder that the vault says where None.
        device: as in :class:`qkvault_extractor.ExtractOptions`.
        batch_tokens: most tokens of a forward pass; the plan's where None.
    """

    vault: str
    plan: str
    model: str | None = None
    device: str = "auto"
    batch_tokens: int | None = None

    @classmethod
    def of(cls, writer: VaultWriter, model: str | None, device: str, tokens: int | None) -> Job:
        """The job of running a vault that is open."""
        return cls(str(writer.path.absolute()), writer.plan_hash, model, device, tokens)


class Stopped(Exception):
    """The unit was dropped because its worker was told to stop."""


_lock = threading.Lock()
_stopping = threading.Event()


def run_unit(job: Job, unit: int) -> Done:
    """Run one unit in this process; the model stays loaded for the next.

    Threads may call it at once: one unit is computed while others are written.

    Raises:
        QKVaultError: as :func:`qkvault_extractor.run.run_units`, or the vault holds another plan.
        Stopped: :func:`stop` was called.
    """
    with _lock:  # the cache lets two threads load the model at once
        worker = _worker(job)
    return worker.start(unit).result()


def stop() -> None:
    """Drop the units of this process at their next batch, and give their claims back."""
    _stopping.set()


@lru_cache(maxsize=1)
def _worker(job: Job) -> Worker:
    from qkvault_extractor.run import Worker

    writer = qkvault.resume(job.vault)
    if writer.plan_hash != job.plan:
        raise PlanMismatch(
            f"{job.vault} holds another plan here than where it is run from; "
            "does every machine see the same folder?"
        )
    records = longest_records(writer)
    loaded, learnt = ready_for(writer.path, writer.spec, records, job.model, job.device)
    budget = batch_budget(writer.spec.provenance, loaded.device.type, job.batch_tokens)
    return Worker(writer, loaded, learnt, budget, _go_on)


def _go_on(_: Any) -> None:
    if _stopping.is_set():
        raise Stopped("told to stop")
