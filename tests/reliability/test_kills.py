"""``kill -9`` at any moment of writing a vault; going on gives the bytes of a run left in peace.

A child forked from this warm process writes the vault with a stand-in for the model, and dies by a
timer or before a chosen call that reaches the disk, some writes half done. What it left is read as
an unfinished vault, then another child goes on, and may die as well.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from io_layer import Call, Interfere, io_layer
from stand_in import World, read_all, read_damaged, tree

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORLDS = (
    World(),
    World(precision="float32", compress=False, stacks=("encoder", "cross"), lengths=(5, 9, 8, 3)),
)


def in_child(work: Callable[[], Any], kill_after: float | None = None) -> int:
    """Run ``work`` in a forked child; returns its wait status.

    Args:
        kill_after: seconds until the parent kills it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while threads run
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def dying_before(last: int) -> Interfere:
    """Interference that kills the process before the ``last``-th call that changes the disk."""
    changes = 0

    def interfere(
        call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        nonlocal changes
        changes += call.changes
        if changes == last:
            if call.name == "writev":  # dies with half of it written
                first = bytes(args[1][0])
                os.write(args[0], first[: len(first) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return interfere


def write_until(world: World, path: Path, last: int) -> None:
    """Write a vault, and die before the ``last``-th call that changes the disk."""
    with io_layer(path.parent, dying_before(last)):
        world.write(path)


@dataclass
class Case:
    """A vault as it should come out, and how long making it takes."""

    world: World
    tree: dict[str, str]
    truth: dict[str, Any]
    changes: int
    seconds: float

    @property
    def count(self) -> int:
        return len(self.world.lengths)


def _prepare(world: World, folder: Path) -> Case:
    path = folder / "v"
    folder.mkdir()
    with io_layer(folder) as layer:
        world.write(path)
    timed = folder / "timed"
    start = time.perf_counter()
    assert in_child(lambda: world.write(timed)) == 0
    seconds = time.perf_counter() - start
    assert tree(timed) == tree(path)
    changes = sum(call.changes for call in layer.calls)
    return Case(world, tree(path), read_all(path, len(world.lengths)), changes, seconds)


@dataclass
class Tally:
    """Figures of a campaign."""

    kills: int = 0
    chains: int = 0
    right: int = 0
    refused: int = 0
    states: Counter[str] = field(default_factory=Counter)


def _kill_once(case: Case, path: Path, random: np.random.Generator, by_timer: bool) -> bool:
    """Start or go on with a vault in a child and kill it; False if it was through before."""
    if by_timer:
        delay = float(random.uniform(0, case.seconds))
        status = in_child(lambda: case.world.write(path), delay)
    else:
        last = int(random.integers(1, case.changes + 1))
        status = in_child(lambda: write_until(case.world, path, last))
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert status == 0
    return False


def _campaign(cases: list[Case], kills: int, folder: Path, seed: int) -> Tally:
    random = np.random.default_rng(seed)
    tally = Tally()
    while tally.kills < kills:
        case = cases[tally.chains % len(cases)]
        path = folder / f"{tally.chains}" / "v"
        path.parent.mkdir()
        tally.chains += 1
        while _kill_once(case, path, random, by_timer=tally.kills % 2 == 0):
            tally.kills += 1
            tally.states[qkvault.vault_state(path)] += 1
            if qkvault.vault_state(path) in ("unfinished", "complete"):
                served = read_damaged(path, case.truth, case.count, partial=True)
                assert not served.wrong
                tally.right += served.right
                tally.refused += served.refused
            if random.random() < 0.5 or tally.kills == kills:
                break
        case.world.write(path)
        _check_whole(case, path)
    return tally


def _check_whole(case: Case, path: Path) -> None:
    assert tree(path) == case.tree
    assert [entry.name for entry in path.parent.iterdir()] == ["v"]
    assert not (path / ".partial").exists()
    assert qkvault.verify(path, full=True).ok
    ids = [record.id for record in qkvault.open(path).iter_records()]
    assert ids == [record.id for record in case.world.records]


def _report(tally: Tally, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(
            f"\n{tally.kills} kills in {tally.chains} vaults, every one byte-identical in the end;"
            f" states met {dict(tally.states)}; read from what was left: {tally.right} right,"
            f" {tally.refused} refused, 0 wrong"
        )


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return [_prepare(world, tmp_path / f"case{i}") for i, world in enumerate(WORLDS)]


def test_some_kills(cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _report(_campaign(cases, 16, tmp_path, seed=1), capsys)


@pytest.mark.slow
def test_120_kills(cases: list[Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = _campaign(cases, 120, tmp_path, seed=2)
    _report(tally, capsys)
    assert tally.states["unfinished"] > 30
    assert tally.right
    assert tally.refused


@pytest.mark.slow
def test_a_kill_before_every_change_of_the_disk(cases: list[Case], tmp_path: Path) -> None:
    case = cases[1]
    for last in range(1, case.changes + 1):
        path = tmp_path / f"at{last}" / "v"
        path.parent.mkdir()
        status = in_child(lambda path=path, last=last: write_until(case.world, path, last))
        assert os.WIFSIGNALED(status)
        case.world.write(path)
        _check_whole(case, path)
