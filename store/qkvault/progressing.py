"""How far a vault is, from its records alone: commits, claims and the times of their files.

Nothing is written or locked, so it may be asked on any machine that sees the vault's folder, and as
often as one likes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import disk
from .claims import LEASE_S, PARTIAL
from .commits import COMMITS, commit_path
from .costs import forward_cost
from .errors import VaultError
from .remote import Place, locate
from .store import Store

if TYPE_CHECKING:
    from .commits import Commit
    from .plan import Plan

RATE_WINDOW_S: Final = 600.0
"""Rates count the units that were finished so long before the last one."""

_CLAIM: Final = ".claim"


@dataclass(frozen=True)
class Status:
    """How far a vault is.

    Attributes:
        complete: whether it is finished.
        units: of the whole vault.
        done: units with a valid commit.
        running: units whose claim has shown a sign of life within the lease; one whose process was
            killed counts until then.
        stale: units whose claim has not: their process is dead, and the next run takes them over.
        examples: of the whole vault.
        examples_done: those of finished units.
        bytes_done: stored by finished units.
        examples_per_s: while the latest units were finished; None where two are not known.
        bytes_per_s: likewise.
        eta_s: seconds left at that pace, by the cost of what is left; 0 once nothing is left, None
            where it cannot be said because nobody is at work or no pace is known.
        idle_s: seconds since a unit was finished; None where none was.
    """

    complete: bool
    units: int
    done: int
    running: int
    stale: int
    examples: int
    examples_done: int
    bytes_done: int
    examples_per_s: float | None
    bytes_per_s: float | None
    eta_s: float | None
    idle_s: float | None

    @property
    def pending(self) -> int:
        """Units that nobody has begun, or whose process is dead."""
        return self.units - self.done - self.running


def status(path: Place | str) -> Status:
    """Tell how far a vault is. A unit whose commit is damaged counts as pending.

    Args:
        path: the vault's folder or its URL, finished or not.

    Raises:
        VaultError: not a vault, its plan is damaged, or the disk does not tell.
    """
    store = Store(locate(path))
    try:
        finished = _finished_units(store)
        now = time.time()
        leases = _leases(store.path, now)
    finally:
        store.close()
    plan = store.plan
    alive = [unit for unit, age in leases.items() if age <= LEASE_S and unit not in finished]
    stale = [unit for unit, age in leases.items() if age > LEASE_S and unit not in finished]
    pace = _Pace.of(plan, finished.values())
    left = _cost(plan, set(range(plan.units)) - finished.keys())
    return Status(
        complete=store.manifest is not None,
        units=plan.units,
        done=len(finished),
        running=len(alive),
        stale=len(stale),
        examples=plan.examples,
        examples_done=sum(_rows(plan, unit) for unit in finished),
        bytes_done=sum(unit.bytes for unit in finished.values()),
        examples_per_s=pace.examples_per_s if pace else None,
        bytes_per_s=pace.bytes_per_s if pace else None,
        eta_s=0.0 if not left else left / pace.cost_per_s if pace and alive else None,
        idle_s=max(0.0, now - max(f.time for f in finished.values())) if finished else None,
    )


@dataclass(frozen=True)
class _Finished:
    unit: int
    time: float
    bytes: int


@dataclass(frozen=True)
class _Pace:
    examples_per_s: float
    bytes_per_s: float
    cost_per_s: float

    @classmethod
    def of(cls, plan: Plan, finished: Iterable[_Finished]) -> _Pace | None:
        """From the units finished of late; the first of them only says when the clock starts."""
        latest = sorted(finished, key=lambda unit: unit.time)
        latest = [unit for unit in latest if latest[-1].time - unit.time <= RATE_WINDOW_S]
        seconds = latest[-1].time - latest[0].time if latest else 0.0
        if seconds <= 0:
            return None
        counted = latest[1:]
        return cls(
            sum(_rows(plan, unit.unit) for unit in counted) / seconds,
            sum(unit.bytes for unit in counted) / seconds,
            _cost(plan, [unit.unit for unit in counted]) / seconds,
        )


def _finished_units(store: Store) -> dict[int, _Finished]:
    found = {}
    times = disk.list_times(store.path / COMMITS)
    for unit in store.committed_units():
        changed = times.get(commit_path(unit).rpartition("/")[2])
        commit = None if changed is None else _valid_commit(store, unit)
        if commit is not None and changed is not None:
            size = sum(receipt.size for receipt in commit.files.values())
            found[unit] = _Finished(unit, changed, size)
    return found


def _valid_commit(store: Store, unit: int) -> Commit | None:
    try:
        return store.commit(unit)
    except VaultError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return None


def _leases(path: Place, now: float) -> dict[int, float]:
    """Seconds since each claimed unit's holder showed that it lives."""
    ages = {}
    for file, changed in disk.list_times(path / PARTIAL).items():
        name = file.removesuffix(_CLAIM)
        if name != file and name.isdecimal():
            ages[int(name)] = now - changed
    return ages


def _rows(plan: Plan, unit: int) -> int:
    _, start, stop = plan.unit_rows(unit)
    return stop - start


def _cost(plan: Plan, units: Iterable[int]) -> float:
    cost = 0.0
    for unit in units:
        bucket, start, stop = plan.unit_rows(unit)
        cost += (stop - start) * forward_cost(plan.spec, [bucket.length])
    return cost
