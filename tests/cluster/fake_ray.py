"""As much of Ray as the engine uses, run by threads, whose actors can be made to die."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """Base of Ray's errors."""


class RayTaskError(RayError):
    """A call raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ActorDiedError(RayError):
    """The process of an actor is gone."""


class Actor:
    """An actor whose process dies when told to, and comes back when told to."""

    def __init__(self, ray: FakeRay, instance: Any) -> None:
        self._ray = ray
        self._instance = instance
        self._pool = ThreadPoolExecutor(8)
        self._open: list[Future[Any]] = []
        self.alive = threading.Event()
        self.alive.set()

    def die(self) -> None:
        """Lose the process, and all that it ran."""
        self.alive.clear()
        for future in self._open:
            if not future.done():
                future.set_exception(ActorDiedError("the actor died: its process was killed"))
        self._open = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def remote(*args: Any) -> Future[Any]:
            return self._start(name, args)

        method = SimpleNamespace(remote=remote)
        method.options = lambda **_: method
        return method

    def _start(self, name: str, args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._ray.unstartable:
            future.set_exception(ActorDiedError("traceback\nNo module named 'qkvault'"))
            return future
        if name != "ping":  # pings are tried for ever
            if not self.alive.is_set():
                future.set_exception(ActorDiedError("the actor is dead"))
                return future
            self._open.append(future)

        def work() -> None:
            self.alive.wait()
            try:
                result, error = getattr(self._instance, name)(*args), None
            except Exception as raised:
                result, error = None, RayTaskError(raised)
            if not future.done():
                future.set_exception(error) if error else future.set_result(result)

        self._pool.submit(work)
        return future


class FakeRay:
    """Stands in for the module."""

    def __init__(self, gpus: int = 0) -> None:
        self.actors: list[Actor] = []
        self.options: list[dict[str, Any]] = []
        self.exceptions = SimpleNamespace(
            RayError=RayError, RayTaskError=RayTaskError, ActorDiedError=ActorDiedError
        )
        self._gpus = gpus
        self.unstartable = False
        self.closed = False

    def cluster_resources(self) -> dict[str, float]:
        return {"GPU": self._gpus} if self._gpus else {}

    def remote(self, kind: type) -> Any:
        def make() -> Actor:
            self.actors.append(Actor(self, kind()))
            return self.actors[-1]

        def options(**given: Any) -> Any:
            self.options.append(given)
            return SimpleNamespace(remote=make)

        return SimpleNamespace(options=options)

    def wait(
        self, references: Sequence[Future[Any]], num_returns: int, timeout: float
    ) -> tuple[list[Future[Any]], list[Future[Any]]]:
        done, rest = wait(references, timeout, return_when=FIRST_COMPLETED)
        return list(itertools.islice(done, num_returns)), list(rest)

    def get(self, reference: Future[Any]) -> Any:
        return reference.result()

    def kill(self, actor: Actor) -> None:
        actor.die()
        actor.alive.set()

    def shutdown(self) -> None:
        self.closed = True


def until(what: Any, seconds: float = 10.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
