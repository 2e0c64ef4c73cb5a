"""Running what is pending in a planned vault: here, on an engine, or a part of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import qkvault
from qkvault import LEASE_S, InputError, ResourceError
from qkvault_extractor.driving import Done, drive
from qkvault_extractor.jobs import Job, run_unit
from qkvault_extractor.meter import Meter
from qkvault_extractor.ready import batch_budget, longest_records, ready_for
from qkvault_extractor.unfit import Findings, naming_examples

if TYPE_CHECKING:
    from qkvault import Place, Unit, VaultWriter
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.options import Progress
    from qkvault_extractor.probe import Probe
    from qkvault_extractor.stopwatch import Stopwatch

PATIENCE_S: Final = LEASE_S + 30
"""How long a run waits for units that others hold: longer than claims of the dead last."""
POLL_S: Final = 5.0


@dataclass(frozen=True)
class Part:
    """Every N-th unit: those whose number leaves K when divided by N.

    By number and not by place among what is pending, so that the parts of a vault never change,
    whoever has been at it before.

    Attributes:
        index: K, from 0.
        count: N.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        """Refuse a part that is none.

        Raises:
            InputError: K is not below N.
        """
        if not 0 <= self.index < self.count:
            raise InputError(
                f"part {self.index}/{self.count}: give K/N with K from 0 to N - 1, such as 0/4"
            )

    def of(self, units: Sequence[Unit]) -> list[Unit]:
        """The units that belong to this part."""
        return [unit for unit in units if unit.id % self.count == self.index]


@dataclass(frozen=True)
class RunReport:
    """What came of a run.

    Attributes:
        complete: whether the vault is finished now.
        pending: units that other parts still have to run.
        units: run here.
        examples: in them.
        bytes: written here.
        seconds: wall time.
    """

    complete: bool
    pending: int
    units: int
    examples: int
    bytes: int
    seconds: float


def run_vault(
    path: Place | str,
    executor: Executor | None = None,
    *,
    window: int = 8,
    part: Part | None = None,
    model: str | None = None,
    device: str = "auto",
    batch_tokens: int | None = None,
    patience_s: float = PATIENCE_S,
    progress: Callable[[Progress], None] | None = None,
    ready: tuple[LoadedModel, Probe] | None = None,
    watch: Stopwatch | None = None,
) -> RunReport:
    """Run what is pending in a planned vault, and finish it once nothing is.

    Texts and token ids come from the vault itself. Where another process holds units, this one does
    the others first, then waits for those to be finished or given up.

    Args:
        path: the vault's folder; every worker must see it under this path.
        executor: any :class:`concurrent.futures.Executor`, such as Dask's
            ``client.get_executor(pure=False)``; in this thread where None. It stays open.
        window: most units that an executor is given at a time: at least twice its workers.
        part: run only these units.
        model: local folder or Hub name, as workers see it; the folder that the vault says where
            None.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the best there is.
        batch_tokens: most tokens of a forward pass, where memory is short; the plan's where None,
            and only then are all bytes those of the plan.
        patience_s: seconds to wait for units that others hold.
        progress: called now and then, from this thread.
        ready: the model, if it is loaded in this process.
        watch: counts where the time goes in this process.

    Raises:
        VaultError: not a vault, or damaged.
        InputError: there is no model where the vault says, or it gives what cannot be kept; names
            the example.
        PlanMismatch: it is another model.
        ResourceError: memory, disk, device or workers ran out, or others hold units still; run
            again to go on.
    """
    with qkvault.resume(path) as writer:
        units = (part or Part()).of(writer.units)
        crew: Crew
        if executor is None:
            crew = Here(writer, model, device, batch_tokens, ready, watch)
        else:
            job = Job.of(writer, model, device, batch_tokens)
            crew = Elsewhere(writer, job, executor, window)
        with naming_examples(writer):
            return run_crew(writer, units, crew, patience_s, progress)


def run_crew(
    writer: VaultWriter,
    units: Sequence[Unit],
    crew: Crew,
    patience_s: float,
    progress: Callable[[Progress], None] | None,
) -> RunReport:
    """Have units run, and finish the vault once nothing is pending; errors as :func:`run_vault`.

    Raises:
        Unfit: there are examples that the model cannot be run on, or whose values cannot be kept.
    """
    start = time.perf_counter()
    before = writer.pending(units)
    written = _run_patiently(writer, units, crew, patience_s, progress)
    pending = len(writer.pending())
    if not pending:
        writer.finish()
    return RunReport(
        complete=not pending,
        pending=pending,
        units=len(before),
        examples=sum(len(unit.lengths) for unit in before),
        bytes=written,
        seconds=time.perf_counter() - start,
    )


def _run_patiently(
    writer: VaultWriter,
    units: Sequence[Unit],
    crew: Crew,
    patience_s: float,
    progress: Callable[[Progress], None] | None,
) -> int:
    """Run units until all are committed, by us or by others; returns the bytes written."""
    written, waited_since = 0, time.monotonic()
    while pending := writer.pending(units):
        wrote = crew.run(units, pending, progress)
        if wrote:
            written += wrote
            waited_since = time.monotonic()
            continue
        if time.monotonic() - waited_since >= patience_s:
            raise ResourceError(
                f"{writer.path}: units still being written by another process: {len(pending)}; "
                "run again when it is done"
            )
        time.sleep(min(POLL_S, patience_s))
    return written


class Crew:
    """Who runs the units."""

    def run(
        self,
        units: Sequence[Unit],
        pending: Sequence[Unit],
        progress: Callable[[Progress], None] | None,
    ) -> int:
        """Run what is pending and not taken; returns the bytes written."""
        raise NotImplementedError


class Here(Crew):
    """This thread; arguments as of :func:`run_vault`, ``stops`` as of :func:`run_units`."""

    def __init__(
        self,
        writer: VaultWriter,
        model: str | None,
        device: str,
        batch_tokens: int | None,
        ready: tuple[LoadedModel, Probe] | None,
        watch: Stopwatch | None,
        stops: bool = True,
    ) -> None:
        self._stops = stops
        self._writer = writer
        self._model = model
        self._device = device
        self._batch_tokens = batch_tokens
        self._ready = ready
        self._watch = watch

    def run(
        self,
        units: Sequence[Unit],
        pending: Sequence[Unit],
        progress: Callable[[Progress], None] | None,
    ) -> int:
        from qkvault_extractor.run import run_units

        writer = self._writer
        if self._ready is None:
            records = longest_records(writer)
            self._ready = ready_for(writer.path, writer.spec, records, self._model, self._device)
        loaded, learnt = self._ready
        budget = batch_budget(writer.spec.provenance, loaded.device.type, self._batch_tokens)
        return run_units(
            writer, loaded, learnt, budget, progress, units, self._watch, stops=self._stops
        )


class Elsewhere(Crew):
    """The workers of an executor; ``stops`` is as of :func:`run_units`."""

    def __init__(
        self,
        writer: VaultWriter,
        job: Job,
        executor: Executor,
        window: int,
        stops: bool = True,
    ) -> None:
        self._stops = stops
        self._writer = writer
        self._call: Callable[[int], Done] = partial(run_unit, job)
        self._executor = executor
        self._window = max(1, window)

    def run(
        self,
        units: Sequence[Unit],
        pending: Sequence[Unit],
        progress: Callable[[Progress], None] | None,
    ) -> int:
        from qkvault_extractor.signals import terminable

        meter = Meter(self._writer.spec, units, pending, progress)
        by_id = {unit.id: unit for unit in pending}
        findings = Findings(self._stops)

        def received(done: Done) -> None:
            if not done.taken:
                meter.bytes += done.bytes
                meter.ran(by_id[done.unit].lengths)
            findings.add(done.flaws, meter.bytes)

        with terminable():
            drive(self._call, list(by_id), self._executor, self._window, received)
        findings.tell(meter.bytes)
        return meter.bytes
