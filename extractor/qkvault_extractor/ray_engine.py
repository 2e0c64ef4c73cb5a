"""Ray actors behind the standard executor interface (Ray ships none of its own).

Each worker is an actor: a process with the processors and GPUs that it was promised, in which the
model stays loaded. Calls wait in a queue of ours, never in an actor's, so that nothing is lost with
an actor or its node: a call whose actor died goes back to the queue, and the actor gets another one
only after it has answered, from wherever Ray has put it. A node that is gone answers nothing and so
swallows nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, Final

from qkvault import InputError, ResourceError

SLOTS: Final = 2
"""Calls that an actor has at a time: one unit is computed while the one before is written."""

TRIES: Final = 5
"""Workers that a call may lose before it is taken for what kills them."""

PATIENCE_S: Final = 600.0
"""Seconds without any live actor after which a run gives up."""

STOP_S: Final = 10.0
"""Seconds that actors get to drop their units when a run is stopped."""

_TICK_S: Final = 0.2
_PING_S: Final = 1.0


@dataclass
class _Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future[Any]
    lost: int = 0


@dataclass
class _Actor:
    handle: Any
    live: bool = False
    gone: bool = False
    ping_at: float = 0.0
    running: dict[Any, _Call] = field(default_factory=dict)


class RayExecutor(Executor):
    """Runs calls on Ray actors.

    Connects to the cluster that ``RAY_ADDRESS`` names, or starts one of this machine's own, which
    listens on loopback only.
    """

    def __init__(
        self,
        workers: int,
        *,
        cpus: float = 1,
        gpus: float | None = None,
        tries: int = TRIES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Start the actors; they come up as the cluster has room for them.

        Args:
            workers: how many actors.
            cpus: processors that Ray sets aside for each.
            gpus: GPUs for each, seen by it alone; where None, one if the cluster has any.
            tries: workers that one call may lose.
            patience_s: seconds without any live actor after which all calls fail.

        Raises:
            InputError: no workers.
            ResourceError: Ray is not installed, or its cluster cannot be reached or started.
        """
        if workers < 1:
            raise InputError(f"{workers} workers; there must be at least 1")
        self._ray = _connect(workers, cpus)
        self._tries = tries
        self._patience_s = patience_s
        if gpus is None:
            gpus = 1 if self._ray.cluster_resources().get("GPU", 0) else 0
        host = self._ray.remote(_Host).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=SLOTS + 1,
        )
        self._actors = [_Actor(host.remote()) for _ in range(workers)]
        self._pings: dict[Any, _Actor] = {}
        self._waiting: deque[_Call] = deque()
        self._submitted: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._last_error = ""
        self._closing = threading.Event()
        self._cancelling = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="qkvault-ray")
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call."""
        if self._closing.is_set():
            raise RuntimeError("the executor has been shut down")
        future: Future[Any] = Future()
        self._submitted.put(_Call(fn, args, kwargs, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the actors.

        Args:
            wait: wait for calls to finish first. Otherwise they are dropped: each actor is told to
                give up its units, and has :data:`STOP_S` seconds to do so.
            cancel_futures: cancel what no actor has begun.
        """
        if cancel_futures:
            self._cancelling.set()
        if not wait:
            for actor in self._actors:
                actor.handle.stop.remote()
        self._closing.set()
        self._thread.join(None if wait else STOP_S)
        for actor in self._actors:
            with contextlib.suppress(Exception):  # it may be gone
                self._ray.kill(actor.handle)
        self._ray.shutdown()

    def _run(self) -> None:
        """Give calls to actors and take results back, until closed and done."""
        alive_at = time.monotonic()
        while not (self._closing.is_set() and self._is_idle()):
            self._waiting.extend(_drain(self._submitted))
            if self._cancelling.is_set():
                self._cancel_waiting()
            if any(actor.live for actor in self._actors):
                alive_at = time.monotonic()
            elif all(actor.gone for actor in self._actors):
                self._give_up("no worker could be started")
            elif time.monotonic() - alive_at > self._patience_s:
                self._give_up(f"no worker has been alive for {self._patience_s:.0f} seconds")
            self._ping_the_silent()
            self._hand_out()
            self._take_in()

    def _cancel_waiting(self) -> None:
        for call in self._waiting:
            call.future.cancel()  # one that has lost a worker is told as lost
            if not call.future.done():
                call.future.set_exception(ResourceError("the run was stopped"))
        self._waiting.clear()

    def _is_idle(self) -> bool:
        busy = any(actor.running for actor in self._actors)
        return not busy and not self._waiting and self._submitted.empty()

    def _hand_out(self) -> None:
        for slot in range(SLOTS):  # first one call for each
            for actor in self._actors:
                if not actor.live or len(actor.running) > slot:
                    continue
                call = self._next_call()
                if call is None:
                    return
                reference = actor.handle.call.remote(call.function, call.args, call.kwargs)
                actor.running[reference] = call

    def _next_call(self) -> _Call | None:
        while self._waiting:
            call = self._waiting.popleft()
            if call.future.running() or call.future.set_running_or_notify_cancel():
                return call
        return None

    def _take_in(self) -> None:
        running = {r: actor for actor in self._actors for r in actor.running}
        references = [*running, *self._pings]
        if not references:
            time.sleep(_TICK_S)
            return
        ready, _ = self._ray.wait(references, num_returns=1, timeout=_TICK_S)
        for reference in ready:
            if reference in self._pings:
                self._hear(reference)
            else:
                self._finish(running[reference], reference)

    def _ping_the_silent(self) -> None:
        now, asked = time.monotonic(), list(self._pings.values())
        for actor in self._actors:
            if not (actor.live or actor.gone or actor in asked) and now >= actor.ping_at:
                self._pings[actor.handle.ping.options(max_task_retries=-1).remote()] = actor

    def _hear(self, reference: Any) -> None:
        """An actor answered, or died once more."""
        actor = self._pings.pop(reference)
        try:
            self._ray.get(reference)
            actor.live = True
        except self._ray.exceptions.RayError as error:
            # With restarts without end, Ray calls dead only what cannot be started at all.
            actor.gone = isinstance(error, self._ray.exceptions.ActorDiedError)
            actor.ping_at = time.monotonic() + _PING_S
            self._last_error = _last_line(error)

    def _finish(self, actor: _Actor, reference: Any) -> None:
        call = actor.running.pop(reference)
        errors = self._ray.exceptions
        try:
            call.future.set_result(self._ray.get(reference))
        except errors.RayTaskError as error:  # the call itself failed
            call.future.set_exception(error.cause)
        except errors.RayError as error:  # its worker is gone, or cannot be reached
            actor.live = False
            self._requeue(call, error)

    def _requeue(self, call: _Call, error: Exception) -> None:
        call.lost += 1
        if call.lost < self._tries:
            self._waiting.appendleft(call)
            return
        call.future.set_exception(
            ResourceError(
                f"{call.lost} workers died one after another at the same work, perhaps of want of "
                f"memory; Ray says: {_last_line(error)}"
            )
        )

    def _give_up(self, reason: str) -> None:
        told = f"; Ray says: {self._last_error}" if self._last_error else ""
        message = (
            f"{reason}: does the Ray cluster have the processors and GPUs that were asked for, and "
            f"is qkvault installed on it? Run again to go on{told}"
        )
        for call in [*self._waiting, *(c for a in self._actors for c in a.running.values())]:
            if not call.future.cancelled():
                call.future.set_exception(ResourceError(message))
        self._waiting.clear()
        for actor in self._actors:
            actor.running.clear()


class _Host:
    """What runs in an actor."""

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a call."""
        return function(*args, **kwargs)

    def ping(self) -> int:
        """Answer, with the process's id."""
        return os.getpid()

    def stop(self) -> None:
        """Drop what is being run."""
        from qkvault_extractor.jobs import stop

        stop()


def _last_line(error: BaseException) -> str:
    """The line of an error that says what it is; Ray puts its traceback before."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:200] if lines else type(error).__name__


def _drain(source: queue.SimpleQueue[_Call]) -> list[_Call]:
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(source.get_nowait())
    return found


def _connect(workers: int, cpus: float) -> Any:
    """Ray's module, connected.

    Raises:
        ResourceError: Ray is not installed, or does not start.
    """
    local = not os.environ.get("RAY_ADDRESS")
    ours = local and not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if ours and "ray" not in sys.modules:  # it reads them when it is imported, and never again
        # Otherwise Ray asks for none, or writes one into the home folder for everybody to read.
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    # A busy machine takes longer than Ray's own half minute to start.
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
    # Ray's workers give way to all else (nice 15); ours are what the machine is there for.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
    except ImportError:
        raise ResourceError(
            'the Ray engine needs Ray; install it with: pip install "qkvault[cluster]"'
        ) from None
    start: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if local:
        processors = max(os.cpu_count() or 1, math.ceil(workers * cpus))
        start |= {"num_cpus": processors, "include_dashboard": False}
        # "local": never a cluster that somebody has left running here
        start |= {"address": "local", "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(**start)
    except Exception as error:  # of many kinds, none of them documented
        raise ResourceError(
            f"the Ray cluster cannot be reached or started: {str(error).strip()[:300]}"
        ) from error
    return ray
