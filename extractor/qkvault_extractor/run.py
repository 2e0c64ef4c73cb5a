"""The run in one process: unit after unit through the model, while a thread writes the unit before.

    records ─► batches ─► forward + pack ─► unit's buffers ─► queue ─► compress, write, commit
    (the caller's thread; the device)                        (a thread; compression uses all cores)

At most :data:`UNITS_AHEAD` finished units wait, so memory stays flat however slow the disk is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from qkvault import ResourceError, UnitTaken
from qkvault_extractor.batches import plan_batches
from qkvault_extractor.driving import Done, InProcess, drive
from qkvault_extractor.fused import FusedAttention, fuse
from qkvault_extractor.meter import Meter
from qkvault_extractor.pack import Batch, Packer
from qkvault_extractor.signals import terminable
from qkvault_extractor.tiles import TiledAttention
from qkvault_extractor.ways import collect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from qkvault import Record, Unit, UnitBuffer, VaultWriter
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.options import Progress
    from qkvault_extractor.probe import Probe

UNITS_AHEAD: Final = 1
"""Units that may wait for the writing thread, besides the one it writes."""


def run_units(
    writer: VaultWriter,
    loaded: LoadedModel,
    probe: Probe,
    budget: int,
    progress: Callable[[Progress], None] | None = None,
    units: Sequence[Unit] | None = None,
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

    Returns:
        Bytes written.

    Raises:
        InputError: the model gives values that cannot be kept; names example and layer.
        ResourceError: memory or disk ran out.
    """
    units = writer.units if units is None else units
    pending = writer.pending(units)
    meter = Meter(writer.spec, units, pending, progress)

    def wrote(done: Done) -> None:
        meter.bytes += done.bytes

    with terminable(), Worker(writer, loaded, probe, budget, meter.ran) as worker:
        drive(worker.start, [u.id for u in pending], InProcess(), UNITS_AHEAD + 2, wrote)
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
    ) -> None:
        """Make ready.

        Args:
            writer: the vault's writer, planned for this model.
            loaded: the model.
            probe: what :func:`qkvault_extractor.probe.probe` learnt of it.
            budget: most tokens in one forward pass.
            ran: told the lengths of each batch; what it raises drops the unit.
        """
        self._writer = writer
        self._loaded = loaded
        self._probe = probe
        self._budget = budget if loaded.feed.takes_batches else 1
        self._ran = ran
        self._tried: list[FusedAttention | None] = []
        self._turn = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="qkvault-commit")

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the units that are filled be committed."""
        self._pool.shutdown(wait=True)

    def start(self, number: int) -> Future[Done]:
        """Fill a unit, and have it committed.

        Returns:
            What will come of it; it cannot be cancelled.

        Raises:
            InputError: the model gives values that cannot be kept; names example and layer.
            ResourceError: the device ran out of memory.
        """
        future: Future[Done] = Future()
        future.set_running_or_notify_cancel()
        with self._turn:
            try:
                buffer = self._writer.begin(self._writer.units[number])
            except UnitTaken:
                future.set_result(Done(number, taken=True))
                return future
            try:
                self._fill(buffer)
                self._pool.submit(self._commit, buffer, future)
            except BaseException:
                buffer.claim.release()
                raise
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

    def _fill(self, buffer: UnitBuffer) -> None:
        import torch

        spec = self._writer.spec
        records = self._writer.records(buffer.unit)
        packer = Packer(self._probe, spec.arrays, spec.precision, buffer.arrays)
        tiled = None
        if spec.attention == "derived":
            tiled = TiledAttention(self._probe.recipes, packer.take_tile, self._probe.axes)
        lengths = buffer.unit.lengths
        capture = collect(
            self._loaded.model,
            self._probe.way,
            packer.take,
            tiled or self._fused(records),
            left_out=[place for place, _ in self._probe.left_out],
        )
        with torch.inference_mode(), capture as collector:
            kinds, targets = self._loaded.feed.kinds(records), buffer.unit.target_lengths
            for rows in plan_batches(lengths, self._budget, kinds, targets):
                collector.start_forward()
                if tiled is not None:
                    tiled.start(lengths[rows].tolist(), self._loaded.device, targets[rows].tolist())
                self._forward(packer, rows, [records[row] for row in rows])
                if tiled is not None:
                    tiled.finish()
                self._ran(lengths[rows])

    def _fused(self, records: Sequence[Record]) -> FusedAttention | None:
        """Fused attention, where the weights are not to be seen; tried on the first unit."""
        replaceable = self._probe.way == "interface" and not self._probe.left_out
        if "attention" in self._writer.spec.arrays or not replaceable:
            return None
        if not self._tried:
            self._tried = [fuse(self._loaded, self._probe.recipes, records)]
        return self._tried[0]

    def _forward(self, packer: Packer, rows: np.ndarray, records: Sequence[Record]) -> None:
        import torch

        measured = bool(self._writer.spec.metrics)
        packer.start(Batch.of_records(rows, records, measured=measured))
        try:
            output = self._loaded.forward(records)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self._loaded.device} ran out of memory on {len(records)} examples of "
                f"up to {max(sum(r.lengths) for r in records)} tokens; use a smaller --batch-tokens"
            ) from error
        packer.finish(output.logits if self._loaded.logits else None)
