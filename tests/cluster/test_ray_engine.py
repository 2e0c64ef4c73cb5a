"""How the Ray engine deals with actors that die, on a stand-in for Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.fake_ray import FakeRay, until
from qkvault import InputError, ResourceError
from qkvault_extractor import RayExecutor, jobs
from qkvault_extractor.ray_engine import SLOTS

Make = Callable[..., RayExecutor]


@pytest.fixture
def ray() -> FakeRay:
    return FakeRay()


@pytest.fixture
def make(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[RayExecutor] = []
    monkeypatch.setattr("qkvault_extractor.ray_engine._connect", lambda workers, cpus: ray)
    monkeypatch.setattr("qkvault_extractor.ray_engine._TICK_S", 0.01)
    monkeypatch.setattr("qkvault_extractor.ray_engine.STOP_S", 2.0)

    def start(workers: int, **options: Any) -> RayExecutor:
        made.append(RayExecutor(workers, **options))
        return made[-1]

    yield start
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)
    jobs._stopping.clear()


class Gate:
    """A call that waits to be let through, and counts how often it was made."""

    def __init__(self) -> None:
        self.calls = 0
        self.open = threading.Event()

    def __call__(self, value: int) -> int:
        self.calls += 1
        self.open.wait(20)
        return value


def test_results_and_errors_come_back(make: Make, ray: FakeRay) -> None:
    executor = make(2)
    assert [executor.submit(pow, n, 2).result(10) for n in range(5)] == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 // 0).result(10)
    executor.shutdown()
    assert ray.closed
    with pytest.raises(RuntimeError):
        executor.submit(pow, 1, 1)


def test_a_call_lost_with_its_actor_is_made_again_by_another(make: Make, ray: FakeRay) -> None:
    executor, gate = make(2), Gate()
    future = executor.submit(gate, 7)
    until(lambda: gate.calls == 1)
    holder = next(actor for actor in ray.actors if actor._open)
    holder.die()
    until(lambda: gate.calls == 2)
    gate.open.set()
    assert future.result(10) == 7
    assert not holder.alive.is_set(), "the other one did it"


def test_a_dead_node_swallows_nothing(make: Make, ray: FakeRay) -> None:
    executor = make(2)
    until(lambda: len(ray.actors) == 2)
    ray.actors[0].die()  # and never comes back
    assert [executor.submit(pow, n, 2).result(10) for n in range(20)][-1] == 361


def test_an_actor_that_comes_back_is_used_again(make: Make, ray: FakeRay) -> None:
    executor, gate = make(1), Gate()
    future = executor.submit(gate, 3)
    until(lambda: gate.calls == 1)
    ray.actors[0].die()
    gate.open.set()
    ray.actors[0].alive.set()
    assert future.result(10) == 3


def test_what_kills_every_worker_is_an_error(make: Make, ray: FakeRay) -> None:
    executor, gate = make(1, tries=3), Gate()
    future = executor.submit(gate, 1)
    for count in (1, 2, 3):
        until(lambda count=count: gate.calls == count)
        ray.actors[0].die()
        ray.actors[0].alive.set()
    with pytest.raises(ResourceError, match="3 workers died .*process was killed"):
        future.result(10)
    assert executor.submit(pow, 2, 2).result(10) == 4, "others go on"


def test_no_live_worker_for_long_is_an_error(make: Make, ray: FakeRay) -> None:
    executor, gate = make(2, patience_s=0.2), Gate()
    future = executor.submit(gate, 1)
    until(lambda: gate.calls == 1)
    for actor in ray.actors:
        actor.die()
    with pytest.raises(ResourceError, match="no worker has been alive for 0 seconds"):
        future.result(10)
    gate.open.set()


def test_workers_that_cannot_be_started_are_told_at_once(make: Make, ray: FakeRay) -> None:
    ray.unstartable = True
    executor = make(2)
    with pytest.raises(ResourceError, match="could be started.*No module named 'qkvault'"):
        executor.submit(pow, 2, 2).result(10)


def test_an_actor_gets_no_more_than_its_slots(make: Make) -> None:
    executor, gate = make(1), Gate()
    futures = [executor.submit(gate, n) for n in range(6)]
    until(lambda: gate.calls == SLOTS)
    assert sum(future.running() for future in futures) == SLOTS
    gate.open.set()
    assert [future.result(10) for future in futures] == list(range(6))
    assert gate.calls == 6


def test_stopping_cancels_what_waits_and_tells_workers(make: Make) -> None:
    executor = make(1)
    begun = threading.Event()

    def unit() -> None:
        begun.set()
        until(jobs._stopping.is_set)
        raise jobs.Stopped

    futures = [executor.submit(unit) for _ in range(4)]
    begun.wait(10)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.done() for future in futures)
    assert sum(future.cancelled() for future in futures) == 4 - SLOTS


@pytest.mark.parametrize(("gpus", "expected"), [(0, 0), (4, 1)])
def test_each_actor_gets_a_gpu_where_there_are_some(
    make: Make, ray: FakeRay, gpus: int, expected: int
) -> None:
    ray._gpus = gpus
    make(2, cpus=3)
    assert ray.options[0]["num_gpus"] == expected
    assert ray.options[0]["num_cpus"] == 3
    assert (ray.options[0]["max_restarts"], ray.options[0]["max_task_retries"]) == (-1, 0)


def test_no_workers_are_refused(make: Make) -> None:
    with pytest.raises(InputError, match="at least 1"):
        make(0)
