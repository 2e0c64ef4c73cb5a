"""Vaults that take their time, and executors that note what their workers do."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qkvault
from extractor.models import tiny_bert, write_texts
from qkvault_extractor import ExtractOptions, plan
from qkvault_extractor.pack import Packer

LENGTHS = [40, 52, 61, 44, 70, 90, 33, 100] * 12
PAUSE_S = 0.03
"""Added to every batch by :func:`slow_call`."""

_finish = Packer.finish


def plan_vault(folder: Path) -> Path:
    """A planned vault of some twenty units, with its model beside it."""
    model = tiny_bert(folder / "model")
    data = write_texts(folder / "texts.jsonl", LENGTHS)
    options = ExtractOptions(
        str(model), (str(data),), folder / "planned.vault", device="cpu", batch_tokens=128
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qkvault.chunks.UNIT_BYTES", 700 << 10)
        plan(options)
    return options.out


def noted_call(log: str, pause: float, function: Any, *args: Any) -> Any:
    """Run a call in a worker and note its beginning and end; slowly, so that it can be killed."""

    def finish(self: Packer, logits: Any) -> None:
        time.sleep(pause)
        _finish(self, logits)

    Packer.finish = finish  # type: ignore[method-assign]
    note(log, "begin", args[-1])
    done = function(*args)
    note(log, "taken" if done.taken else "end", args[-1])
    return done


def note(log: str, event: str, unit: int) -> None:
    """Append a line; short ones are written whole."""
    with Path(log).open("a", encoding="ascii") as file:
        file.write(f"{event} {unit} {os.getpid()}\n")


@dataclass
class Noting(Executor):
    """Passes calls on to another executor, each noting what becomes of it in a log."""

    inner: Executor
    log: Path
    pause: float = PAUSE_S

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.inner.submit(noted_call, str(self.log), self.pause, fn, *args, **kwargs)


@dataclass(frozen=True)
class Event:
    """One line of a log."""

    what: str
    unit: int
    process: int


def read_log(log: Path) -> list[Event]:
    """All that has been noted."""
    if not log.exists():
        return []
    lines = [line.split() for line in log.read_text("ascii").splitlines()]
    return [Event(what, int(unit), int(process)) for what, unit, process in lines]


def in_flight(log: Path, process: int | None = None) -> dict[int, set[int]]:
    """Units that have begun and not ended, by process."""
    found: dict[int, set[int]] = {}
    for event in read_log(log):
        units = found.setdefault(event.process, set())
        if event.what == "begin":
            units.add(event.unit)
        else:
            units.discard(event.unit)
    return {p: units for p, units in found.items() if units and process in (None, p)}


def redone(log: Path) -> Counter[int]:
    """How often each unit was begun beyond the first time, waiting for others apart."""
    events = read_log(log)
    begun = Counter(event.unit for event in events if event.what == "begin")
    begun.subtract(event.unit for event in events if event.what == "taken")
    return Counter({unit: count - 1 for unit, count in begun.items() if count > 1})


def assert_clean(path: Path, digest: str) -> None:
    """A vault is complete, verifies in every byte, and is the one that is expected."""
    assert qkvault.verify(path, full=True).ok
    with qkvault.open(path) as vault:
        assert vault.digest == digest
