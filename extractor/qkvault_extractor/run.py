"""The run: unit after unit through the model, while a thread writes the unit before.

    records ─► batches ─► forward + pack ─► unit's buffers ─► queue ─► compress, write, commit
    (this thread; the device)                                (a thread; compression uses all cores)

At most :data:`UNITS_AHEAD` finished units wait, so memory stays flat however slow the disk is.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import numpy as np

from qkvault import ResourceError, UnitTaken, token_roles
from qkvault_extractor.batches import plan_batches
from qkvault_extractor.options import Progress
from qkvault_extractor.pack import Batch, Packer
from qkvault_extractor.tiles import TiledAttention
from qkvault_extractor.ways import collect

if TYPE_CHECKING:
    from qkvault import Receipt, Record, Unit, UnitBuffer, VaultWriter
    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.probe import Probe

UNITS_AHEAD: Final = 1
"""Units that may wait for the writing thread, besides the one it writes."""

REPORT_INTERVAL_S: Final = 0.1
"""Shortest time between two calls of a progress function."""


def run_units(
    writer: VaultWriter,
    loaded: LoadedModel,
    probe: Probe,
    budget: int,
    progress: Callable[[Progress], None] | None = None,
) -> int:
    """Run all pending units of a vault.

    An interrupt (Ctrl-C, SIGTERM) drops the unit under way, lets the writing thread finish its own,
    and goes on up: the vault is left unfinished and sound.

    Args:
        writer: the vault's writer, planned for this model.
        loaded: the model.
        probe: what :func:`qkvault_extractor.probe.probe` learnt of it.
        budget: most tokens in one forward pass.
        progress: told now and then how far the run is.

    Returns:
        Bytes written.

    Raises:
        InputError: the model gives values that cannot be kept; names example and layer.
        ResourceError: memory or disk ran out.
    """
    pending = writer.pending()
    meter = _Meter(writer.units, pending, loaded, progress)
    runner = _Runner(writer, loaded, probe, budget, meter)
    with _Committer(writer, meter) as committer, _terminable():
        for unit in pending:
            try:
                buffer = writer.begin(unit)
            except UnitTaken:  # another process is at it
                continue
            try:
                runner.fill(buffer)
                committer.submit(buffer)
            except BaseException:
                buffer.claim.release()
                raise
    return meter.bytes


class _Runner:
    """Fills units' buffers with what the model gives for their examples."""

    def __init__(
        self,
        writer: VaultWriter,
        loaded: LoadedModel,
        probe: Probe,
        budget: int,
        meter: _Meter,
    ) -> None:
        self._writer = writer
        self._loaded = loaded
        self._probe = probe
        self._budget = budget if loaded.feed.takes_batches else 1
        self._meter = meter

    def fill(self, buffer: UnitBuffer) -> None:
        import torch

        spec = self._writer.spec
        records = self._writer.records(buffer.unit)
        packer = Packer(self._probe, spec.arrays, spec.precision, buffer.arrays)
        tiled = None
        if spec.attention == "derived":
            tiled = TiledAttention(self._probe.recipes, packer.take_tile)
        lengths = buffer.unit.lengths
        capture = collect(self._loaded.model, self._probe.way, packer.take, tiled)
        with torch.inference_mode(), capture as collector:
            for rows in plan_batches(lengths, self._budget, self._loaded.feed.kinds(records)):
                collector.start_forward()
                if tiled is not None:
                    tiled.start(lengths[rows].tolist(), self._loaded.device)
                self._forward(packer, rows, [records[row] for row in rows])
                if tiled is not None:
                    tiled.finish()
                self._meter.ran(lengths[rows])

    def _forward(self, packer: Packer, rows: np.ndarray, records: Sequence[Record]) -> None:
        import torch

        lengths = np.array([len(record.tokens) for record in records])
        roles = [token_roles(record) for record in records] if self._writer.spec.metrics else ()
        packer.start(Batch(rows, lengths, [record.id for record in records], roles))
        try:
            output = self._loaded.forward(records)
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"{self._loaded.device} ran out of memory on {len(records)} examples of "
                f"{lengths[-1]} tokens; use a smaller --batch-tokens"
            ) from error
        packer.finish(output.logits if self._loaded.logits else None)


class _Committer:
    """Commits units in one background thread, a bounded number ahead; its errors come back."""

    def __init__(self, writer: VaultWriter, meter: _Meter) -> None:
        self._writer = writer
        self._meter = meter
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="qkvault-commit")
        self._room = threading.Semaphore(UNITS_AHEAD + 1)
        self._running: list[Future[None]] = []

    def __enter__(self) -> _Committer:
        return self

    def submit(self, buffer: UnitBuffer) -> None:
        """Hand a filled unit over; waits while too many are under way.

        Raises:
            QKVaultError: an earlier unit could not be written.
        """
        self._room.acquire()
        self._collect()
        self._running.append(self._pool.submit(self._commit, buffer))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            self._collect()

    def _collect(self) -> None:
        done = [future for future in self._running if future.done()]
        self._running = [future for future in self._running if not future.done()]
        for future in done:
            future.result()

    def _commit(self, buffer: UnitBuffer) -> None:
        try:
            self._meter.wrote(self._writer.commit(buffer))
        finally:
            self._writer.recycle(buffer)
            self._room.release()


class _Meter:
    """Counts what has been done and tells a progress function."""

    def __init__(
        self,
        units: Sequence[Unit],
        pending: Sequence[Unit],
        loaded: LoadedModel,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.bytes = 0
        self._progress = progress
        self._width = 6 * int(getattr(loaded.model.config.get_text_config(), "hidden_size", 512))
        self._total = sum(len(unit.lengths) for unit in units)
        self._before = self._total - sum(len(unit.lengths) for unit in pending)
        self._cost_left = sum(self._cost(unit.lengths) for unit in pending)
        self._cost_done = 0.0
        self._ran = 0
        self._start = time.perf_counter()
        self._told = 0.0

    def ran(self, lengths: np.ndarray) -> None:
        """Count a batch that went through the model."""
        self._ran += len(lengths)
        cost = self._cost(lengths)
        self._cost_done += cost
        self._cost_left -= cost
        now = time.perf_counter()
        if self._before + self._ran == self._total or now - self._told >= REPORT_INTERVAL_S:
            self._told = now
            self._tell(now - self._start)

    def wrote(self, receipt: Receipt) -> None:
        """Count a unit that was committed."""
        self.bytes += receipt.bytes_written

    def _tell(self, seconds: float) -> None:
        if self._progress is None:
            return
        self._progress(
            Progress(
                done=self._before + self._ran,
                total=self._total,
                examples_per_s=self._ran / seconds,
                bytes_per_s=self.bytes / seconds,
                eta_s=max(0.0, self._cost_left) * seconds / self._cost_done,
            )
        )

    def _cost(self, lengths: np.ndarray) -> float:
        """Work of a forward pass up to a factor, for width d: ``24 d^2`` per token of a layer and
        ``4 d`` per pair of tokens (Kaplan et al. 2020, table 1, the attention term kept)."""
        tokens = lengths.astype(np.float64)
        return float((tokens * (self._width + tokens)).sum())


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does, through ``finally`` blocks, with exit status 143."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_on_term)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_on_term(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
