"""Where the time of a run goes: seconds by stage, whichever thread they are spent in."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

STAGES: Final[Mapping[str, str]] = {
    "read": "reading and checking the data",
    "tokenize": "tokenizing, writing out conversations",
    "generate": "generating continuations",
    "load": "libraries, tokenizer and model: loading, trying its attention",
    "plan": "writing plan, records and manifest, looking for what is done",
    "forward": "the model itself",
    "pack": "casting, coding, thumbnails, metrics",
    "copy": "into the buffers of units",
    "compress": "compressing chunks",
    "write": "writing and syncing files",
    "wait": "waiting for units to be written",
}
"""What is told apart, in words."""

OVERLAPPED: Final = ("compress", "write")
"""Stages of other threads, which go on beside the rest."""

UNIT_STAGES: Final = ("forward", "pack", "copy", "wait")
"""Stages of the thread that fills units, while others write them."""

WAITED: Final = 0.1
"""Share of filling units from which waiting for the writers is what limits it."""


@dataclass(frozen=True)
class Profile:
    """Where the time of an extraction went.

    Attributes:
        seconds: by stage, of :data:`STAGES`, those that took any. Compressing and writing go on in
            other threads beside the rest, and compressing in several at once.
        wall: seconds in all.
        halved: batches that the device had not the memory for, and that were halved.
    """

    seconds: Mapping[str, float]
    wall: float
    halved: int = 0

    @property
    def limit(self) -> str:
        """The stage that the run would gain most from if it were faster.

        That is the longest; but where units wait for their writers, filling them takes as long as
        writing does, and all of it counts for the writers' slower stage.
        """
        took = dict(self.seconds)
        filling = sum(took.get(stage, 0.0) for stage in UNIT_STAGES)
        writers = {stage: took.pop(stage) for stage in OVERLAPPED if stage in took}
        if writers and took.get("wait", 0.0) > WAITED * filling:
            slower = max(writers, key=writers.__getitem__)
            took = {stage: s for stage, s in took.items() if stage not in UNIT_STAGES}
            took[slower] = filling
        took.pop("wait", None)
        return max(took, key=took.__getitem__, default="load")


class Stopwatch:
    """Adds up seconds by stage. A stage within another one is not counted twice.

    Attributes:
        halved: batches that were halved for want of memory.
    """

    def __init__(self) -> None:
        self.halved = 0
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done inside for a stage, and not for the stage around it."""
        around: list[tuple[str, float]] = self._local.__dict__.setdefault("around", [])
        now = time.perf_counter()
        if around:
            self._add(around[-1][0], now - around[-1][1])
        around.append((name, now))
        try:
            yield
        finally:
            now = time.perf_counter()
            _, start = around.pop()
            self._add(name, now - start)
            if around:
                around[-1] = (around[-1][0], now)

    def timed(self, name: str, call: Callable[P, R]) -> Callable[P, R]:
        """The same function, counted for a stage."""

        @wraps(call)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.stage(name):
                return call(*args, **kwargs)

        return timed

    def profile(self) -> Profile:
        """What has been counted so far."""
        with self._lock:
            found = {name: self._seconds[name] for name in STAGES if self._seconds.get(name)}
        return Profile(found, time.perf_counter() - self._start, self.halved)

    def _add(self, name: str, seconds: float) -> None:
        with self._lock:
            self._seconds[name] += seconds
