"""Ray actors: the same bytes, whoever dies. Needs the extra ``cluster``."""

from __future__ import annotations

import gc
import importlib.util
import os
import random
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qkvault
from cluster.harness import Noting, assert_clean, in_flight, plan_vault, read_log, redone
from qkvault_extractor import RayExecutor, RunReport, run_vault
from qkvault_extractor.ray_engine import SLOTS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra `cluster`)"
)

ROOTS = [str(Path(__file__).parents[2] / name) for name in ("store", "extractor", "tests")]
KILLS = 20
RAYLET_KILLS = 3


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plan_vault(tmp_path_factory.mktemp("planned"))


@pytest.fixture(scope="module")
def digest(planned: Path) -> str:
    """Of the vault that one process writes."""
    whole = Path(shutil.copytree(planned, planned.with_name("whole.vault")))
    run_vault(whole)
    with qkvault.open(whole) as vault:
        assert vault.digest is not None
        return vault.digest


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """What Ray's processes must find; they take it from ours."""
    with pytest.MonkeyPatch.context() as patch:
        found = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join([*ROOTS, *([found] if found else [])]))
        patch.delenv("RAY_ADDRESS", raising=False)
        for name in (
            "RAY_AUTH_MODE",
            "RAY_AUTH_TOKEN",
            "RAY_raylet_start_wait_time_s",
            "RAY_worker_niceness",
        ):
            patch.setenv(name, os.environ.get(name, ""))
            patch.delenv(name)
        # A node that is gone is noticed within seconds, not after half a minute.
        patch.setenv("RAY_health_check_initial_delay_ms", "1000")
        patch.setenv("RAY_health_check_period_ms", "1000")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        yield


@pytest.fixture(scope="module")
def executor(environment: None) -> Iterator[RayExecutor]:
    made = RayExecutor(2, cpus=1, gpus=0)
    yield made
    made.shutdown(wait=False, cancel_futures=True)
    forget_processes()


def forget_processes() -> None:
    """Ray leaves its processes to the garbage collector, which would complain at any time later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Run:
    """A run in a thread of its own, so that its workers can be killed meanwhile."""

    def __init__(self, path: Path, executor: Noting) -> None:
        self.reports: list[RunReport] = []
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._work, args=(path, executor))
        self._thread.start()

    def _work(self, path: Path, executor: Noting) -> None:
        try:
            self.reports.append(run_vault(path, executor, window=8))
        except BaseException as error:
            self.errors.append(error)

    def result(self) -> RunReport:
        self._thread.join(300)
        assert not self.errors, self.errors
        assert self.reports, "the run hangs"
        return self.reports[0]


def wait_for(what: Any, seconds: float = 300.0) -> Any:
    """Until it is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_ray_writes_the_same_bytes(
    planned: Path, digest: str, executor: RayExecutor, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(planned, tmp_path / "v"))
    log = tmp_path / "log"
    report = run_vault(path, Noting(executor, log, 0.0))
    assert report.complete
    assert not redone(log)
    assert len({event.process for event in read_log(log)}) == 2, "both actors had work"
    assert_clean(path, digest)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_worker_killed_in_the_middle_of_a_unit_costs_that_unit_only(
    planned: Path, digest: str, executor: RayExecutor, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    path = Path(shutil.copytree(planned, tmp_path / "v"))
    log = tmp_path / "log"
    run = Run(path, Noting(executor, log))
    after = chance.randrange(1, 14)
    wait_for(lambda: sum(event.what == "end" for event in read_log(log)) >= after)
    victim, _ = chance.choice(sorted(wait_for(lambda: in_flight(log)).items()))
    time.sleep(chance.uniform(0, 0.2))
    os.kill(victim, signal.SIGKILL)
    lost = in_flight(log, victim).get(victim, set())
    assert run.result().complete
    assert set(redone(log)) <= lost
    assert sum(redone(log).values()) <= SLOTS
    assert_clean(path, digest)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(RAYLET_KILLS))
def test_a_node_that_is_gone_swallows_nothing(
    planned: Path, digest: str, environment: None, tmp_path: Path, seed: int
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        pytest.skip("Ray runs in this process already: select this test alone (-k node)")
    chance = random.Random(seed)
    path = Path(shutil.copytree(planned, tmp_path / "v"))
    log = tmp_path / "log"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    executor = None
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_ADDRESS", cluster.address)
            executor = RayExecutor(2, cpus=1, gpus=0)
        run = Run(path, Noting(executor, log))
        after = chance.randrange(2, 10)
        wait_for(lambda: sum(event.what == "end" for event in read_log(log)) >= after)
        wait_for(lambda: len(in_flight(log)) == 2)
        second.kill_raylet(check_alive=False)
        assert run.result().complete
        lost = {unit for units in in_flight(log).values() for unit in units}
        assert sum(redone(log).values()) <= SLOTS, (redone(log), lost)
        assert_clean(path, digest)
    finally:
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        cluster.shutdown()
        forget_processes()
