"""The run in one process: unit after unit through the model, while a thread writes the unit before.

    records ─► batches ─► forward + pack ─► unit's buffers ─► queue ─► compress, write, commit
    (the caller's thread; the device)                        (a thread; compression uses all cores)

At most :data:`UNITS_AT_ONCE` units are in memory, which is taken at the start: it stays flat
however large the corpus and however slow the disk is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from qkvault import UnitTaken
from qkvault_extractor.batch import Batch
from qkvault_extractor.batches import plan_batches
from qkvault_extractor.driving import Done, InProcess, drive
from qkvault_extractor.fused import FusedAttention, fuse
from qkvault_extractor.machine import without_notes
from qkvault_extractor.meter import Meter
from qkvault_extractor.outbox import Outbox, copier_for
from qkvault_extractor.pack import Packer
from qkvault_extractor.padding import part_by_length
from qkvault_extractor.signals import terminable
from qkvault_extractor.stopwatch import Stopwatch
from qkvault_extractor.tiles import TiledAttention
from qkvault_extractor.unfit import Findings, Flaw
from qkvault_extractor.watched import WatchedAttention
from qkvault_extractor.ways import collect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault import Record, Unit, UnitBuffer, VaultWriter
    from qkvault_extractor.capture import Collector
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.options import Progress
    from qkvault_extractor.probe import Probe

UNITS_AT_ONCE: Final = 2
"""Units in memory: one that is filled, one that is written. A third would wait for the writer only
where that is slower, and then the run takes as long as the writer does with two as well."""


def run_units(
    writer: VaultWriter,
    loaded: LoadedModel,
    probe: Probe,
    budget: int,
    progress: Callable[[Progress], None] | None = None,
    units: Sequence[Unit] | None = None,
    watch: Stopwatch | None = None,
    *,
    stops: bool = True,
) -> int:
    """Run pending units of a vault in this thread.

    An interrupt (Ctrl-C, SIGTERM) drops the unit under way, lets the writing thread finish its own,
    and goes on up: the vault is left unfinished and sound.

    Args:
        writer: the vault's writer, planned for this model.
        loaded: the model.
        probe: what :func:`qkvault_extractor.probe.probe` learnt of it.
        budget: most tokens in one forward pass.
        progress: told now and then how far the run is.
        units: look only at these; at all where None.
        watch: counts where the time goes.
        stops: at the first unit that holds an example with a flaw; else such units are passed over
            and told of at the end.

    Returns:
        Bytes written.

    Raises:
        Unfit: the model gives values that cannot be kept, or the device has not the memory for an
            example alone.
        ResourceError: memory or disk ran out.
    """
    units = writer.units if units is None else units
    pending = writer.pending(units)
    meter = Meter(writer.spec, units, pending, progress)

    findings = Findings(stops)

    def wrote(done: Done) -> None:
        meter.bytes += done.bytes
        findings.add(done.flaws, meter.bytes)

    watch = watch or Stopwatch()
    with watch.stage("pack"):
        writer.reserve(pending, UNITS_AT_ONCE)
    worker = Worker(writer, loaded, probe, budget, meter.ran, watch)
    with terminable(), worker, watch.stage("wait"):  # what start() does counts for its own stages
        drive(worker.start, [u.id for u in pending], InProcess(), UNITS_AT_ONCE, wrote)
    findings.tell(meter.bytes)
    return meter.bytes


class Worker:
    """A model at work on a vault: fills units in the caller's thread, commits them in another.

    Several threads may start units; they take turns at the model.
    """

    def __init__(
        self,
        writer: VaultWriter,
        loaded: LoadedModel,
        probe: Probe,
        budget: int,
        ran: Callable[[NDArray[np.int32]], None],
        watch: Stopwatch | None = None,
    ) -> None:
        """Make ready.

        Args:
            writer: the vault's writer, planned for this model.
            loaded: the model.
            probe: what :func:`qkvault_extractor.probe.probe` learnt of it.
            budget: most tokens in one forward pass.
            ran: told the lengths of each batch; what it raises drops the unit.
            watch: counts where the time goes.
        """
        self._writer = writer
        self._loaded = loaded
        self._probe = probe
        self._budget = budget if loaded.feed.takes_batches else 1
        self._ran = ran
        self._watch = watch or Stopwatch()
        self._outbox = Outbox(copier_for(loaded.device), self._watch)
        self._too_large = sys.maxsize
        writer.watch = self._watch.stage
        self._tried: list[FusedAttention | None] = []
        self._turn = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="qkvault-commit")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the units that are filled be committed."""
        self._pool.shutdown(wait=True)

    def start(self, number: int) -> Future[Done]:
        """Fill a unit, and have it committed if all its examples can be kept.

        Returns:
            What will come of it; it cannot be cancelled.

        Raises:
            InputError: the model does other things on these examples than when it was probed.
        """
        future: Future[Done] = Future()
        future.set_running_or_notify_cancel()
        with self._turn:
            try:
                with self._watch.stage("pack"):
                    buffer = self._writer.begin(self._writer.units[number])
            except UnitTaken:
                future.set_result(Done(number, taken=True))
                return future
            try:
                flaws = self._fill(buffer)
                if not flaws:
                    self._pool.submit(self._commit, buffer, future)
            except BaseException:
                self._outbox.drop()
                buffer.claim.release()
                raise
        if flaws:
            buffer.claim.release()
            self._writer.recycle(buffer)
            future.set_result(Done(number, flaws=flaws))
        return future

    def _commit(self, buffer: UnitBuffer, future: Future[Done]) -> None:
        number = buffer.unit.id
        try:
            done = Done(number, self._writer.commit(buffer).bytes_written)
        except UnitTaken:
            done = Done(number, taken=True)
        except BaseException as error:
            future.set_exception(error)
            return
        finally:
            self._writer.recycle(buffer)
        future.set_result(done)

    def _fill(self, buffer: UnitBuffer) -> dict[int, Flaw]:
        """Fill a unit; returns what is wrong with its examples, by their number."""
        import torch

        spec, watch = self._writer.spec, self._watch
        halved = watch.halved
        with watch.stage("pack"):
            records = self._writer.records(buffer.unit)
        packer = Packer(self._probe, spec.arrays, spec.precision, buffer.arrays, self._outbox)
        take, take_tile = watch.timed("pack", packer.take), watch.timed("pack", packer.take_tile)
        deriving: TiledAttention | WatchedAttention | None = None
        if spec.attention == "derived":
            recipes, axes = self._probe.recipes, self._probe.axes
            if self._probe.way == "interface":
                deriving = TiledAttention(recipes, take_tile, axes)
            else:
                deriving = WatchedAttention(recipes, axes, take, take_tile)
        lengths, targets = buffer.unit.lengths, buffer.unit.target_lengths
        capture = collect(
            self._loaded.model,
            self._probe.way,
            deriving if isinstance(deriving, WatchedAttention) else take,
            deriving if isinstance(deriving, TiledAttention) else self._fused(),
            left_out=[place for place, _ in self._probe.left_out],
            joined=self._probe.joined,
            weigh=deriving is None,
        )
        with torch.inference_mode(), without_notes(), capture as collector:
            run = partial(self._run_batch, buffer.unit, packer, deriving, collector, records)
            kinds = self._loaded.feed.kinds(records)
            if not self._probe.bears_padding:
                kinds = part_by_length(kinds, lengths, targets)
            for rows in plan_batches(lengths, self._budget, kinds, targets):
                self._run_fitting(rows, lengths + targets, run, packer.flaws)
                self._ran(lengths[rows])
        self._outbox.flush()
        if self._watch.halved > halved:
            buffer.notes["batches_below"] = self._too_large
        return {int(buffer.unit.examples[row]): flaw for row, flaw in packer.flaws.items()}

    def _run_fitting(
        self,
        rows: NDArray[np.int64],
        sizes: NDArray[np.int32],
        run: Callable[[NDArray[np.int64]], bool],
        flaws: dict[int, Flaw],
    ) -> None:
        """Run a batch; where it is too large for the device's memory, its halves in turn.

        Batches follow from the plan alone, so that a unit gives the same bytes again, unless memory
        runs out: then those that are as large or larger are halved without another try. One example
        alone that is too large gets a flaw.
        """
        tokens = len(rows) * int(sizes[rows].max())
        if len(rows) == 1 or tokens < self._too_large:
            if run(rows):
                return
            if len(rows) == 1:
                flaws[int(rows[0])] = Flaw(
                    f"{self._loaded.device} has not the memory for one example of {tokens} tokens",
                    "use --attention derive or another device",
                    lacks_memory=True,
                )
                return
            self._too_large = min(self._too_large, tokens)
        self._watch.halved += 1
        for half in np.array_split(rows, 2):
            self._run_fitting(half, sizes, run, flaws)

    def _run_batch(
        self,
        unit: Unit,
        packer: Packer,
        deriving: TiledAttention | WatchedAttention | None,
        collector: Collector,
        records: Sequence[Record],
        rows: NDArray[np.int64],
    ) -> bool:
        """Run one batch of a unit's records; False where the device ran out of memory."""
        import torch

        with self._watch.stage("pack"):
            batch = [records[row] for row in rows]
        collector.start_forward()
        if deriving is not None:
            targets = unit.target_lengths[rows].tolist()
            deriving.start(unit.lengths[rows].tolist(), self._loaded.device, targets)
        try:
            self._forward(packer, rows, batch)
        except torch.OutOfMemoryError:
            pass  # what it holds of the batch goes with it
        else:
            if deriving is not None:
                for place, flaw in deriving.finish().items():
                    packer.flaws.setdefault(int(rows[place]), flaw)
            return True
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        return False

    def _fused(self) -> FusedAttention | None:
        """Fused attention, where the weights are not to be seen.

        Tried on the last unit whichever comes first, so that all workers come to one answer.
        """
        probed = self._probe
        replaceable = probed.way == "interface" and not probed.left_out and not probed.joined
        if "attention" in self._writer.spec.arrays or not replaceable:
            return None
        if not self._tried:
            records = self._writer.records(self._writer.units[-1])
            self._tried = [fuse(self._loaded, self._probe.recipes, records)]
        return self._tried[0]

    def _forward(self, packer: Packer, rows: NDArray[np.int64], records: Sequence[Record]) -> None:
        measured = bool(self._writer.spec.metrics)
        with self._watch.stage("pack"):
            packer.start(Batch.of_records(rows, records, measured=measured))
        with self._watch.stage("forward"):
            output = self._loaded.forward(records)
        with self._watch.stage("pack"):
            packer.finish(output.logits if self._loaded.logits else None)
