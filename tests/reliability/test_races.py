"""Several processes on one vault: every unit is written once, by one of them, and nothing is torn.

The model is as noisy as a GPU: each process gives other values for the same example. So a unit that
two of them had a hand in would not agree with its commit.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from io_layer import Call, io_layer
from stand_in import World
from test_kills import in_child

import qkvault
from vaults import fill, forward

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORLD = World(precision="float32", compress=False, lengths=(5, 7, 8, 6, 3, 12, 14, 15, 16, 9, 13))
"""Not compressed, so that the shards of all runs have the same sizes: the hardest case."""


def _work(path: Path, worker: int, log: Path, seconds: float) -> None:
    """What one process of a race does: plan or resume, write what is free, finish if it can."""
    random = np.random.default_rng((worker, os.getpid()))
    world = replace(WORLD, seed=100 + worker)

    def dawdle(
        call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if call.changes and random.random() < 0.2:
            time.sleep(random.exponential(seconds))
        return function(*args, **kwargs)

    with io_layer(path.parent, dawdle):
        writer = _open_writer(world, path)
        pending = writer.pending()
        random.shuffle(pending)
        for unit in pending:
            try:
                buffer = writer.begin(unit)
                fill(buffer, writer.spec, world.seed)
                writer.commit(buffer)
            except qkvault.UnitTaken:
                continue
            with log.open("a") as stream:
                stream.write(f"{unit.id} {worker}\n")
        if not writer.pending():
            writer.finish()


def _open_writer(world: World, path: Path) -> qkvault.VaultWriter:
    while True:
        try:
            return world.open_writer(path)
        except qkvault.InputError:  # another process has just made it
            continue


def _race(folder: Path, workers: int, seconds: float) -> None:
    folder.mkdir()
    path, log = folder / "v", folder.with_suffix(".log")
    threads = [
        threading.Thread(
            target=lambda worker=worker: _in_child(lambda: _work(path, worker, log, seconds))
        )
        for worker in range(workers)
    ]
    _run_all(threads)
    _check_race(path, log)


def _in_child(work: Callable[[], Any]) -> None:
    status = in_child(work)
    if status:
        _failed.append(status)


_failed: list[int] = []


def _run_all(threads: list[threading.Thread]) -> None:
    _failed.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not _failed


def _check_race(path: Path, log: Path) -> None:
    units = _finish_and_check(path)
    written = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(unit) for unit, _ in written) == list(range(units))
    _check_authors(path, {int(unit): int(worker) for unit, worker in written})


def _finish_and_check(path: Path) -> int:
    with WORLD.open_writer(path) as writer:
        assert not writer.pending()
        writer.finish()
        units = len(writer.units)
    report = qkvault.verify(path, full=True)
    assert report.ok, report.damages
    assert [entry.name for entry in path.parent.iterdir()] == ["v"]
    assert not (path / ".partial").exists()
    return units


def _check_authors(path: Path, authors: dict[int, int]) -> None:
    """Every value is of the one process that says it wrote the unit."""
    with qkvault.open(path) as vault, qkvault.resume(path) as writer:
        for unit in writer.units:
            expected = {
                index: replace(WORLD, seed=100 + authors[unit.id]) for index in unit.examples
            }
            for index, world in expected.items():
                found = vault[int(index)]
                mine = _values_of(world, int(index), found.length)
                assert np.array_equal(found.query[:, :], mine)


def _values_of(world: World, index: int, length: int) -> Any:
    return forward(index, length, world.spec.stacks[0], world.precision, world.seed)["query"]


def test_a_race_of_four(tmp_path: Path) -> None:
    for number in range(2):
        _race(tmp_path / f"race{number}", 4, 0.002)


@pytest.mark.slow
@pytest.mark.parametrize("locks", [True, False])
def test_eight_races_of_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool) -> None:
    if not locks:  # claims are then judged by their age alone, as on another machine
        monkeypatch.setattr("qkvault.disk.try_lock", lambda fd: None)
    for number in range(8):
        _race(tmp_path / f"race{number}", 4, 0.001 * (1 + number))


@pytest.mark.slow
def test_races_in_which_processes_are_killed(tmp_path: Path) -> None:
    kills = sum(_race_with_kills(tmp_path / f"race{number}", number) for number in range(8))
    assert kills > 40


def _race_with_kills(folder: Path, number: int) -> int:
    """A race of four that die again and again at a random moment and start anew; counts kills."""
    folder.mkdir()
    path, log = folder / "v", folder.with_suffix(".log")
    kills: list[int] = []

    def work(worker: int) -> None:
        random = np.random.default_rng((number, worker))
        while True:
            delay = float(random.uniform(0, 0.2 + 0.02 * len(kills)))
            status = in_child(lambda: _work(path, worker, log, 0.002), delay)
            if status != signal.SIGKILL:
                break
            kills.append(worker)
        if status:
            _failed.append(status)

    _run_all([threading.Thread(target=work, args=(worker,)) for worker in range(4)])
    _finish_and_check(path)
    with WORLD.open_writer(path) as writer:
        authors = {unit.id: _author_of(path, int(unit.examples[0])) for unit in writer.units}
    _check_authors(path, authors)
    return len(kills)


def _author_of(path: Path, index: int) -> int:
    with qkvault.open(path) as vault:
        found = vault[index].query[:, :]
        length = vault[index].length
    worlds = [replace(WORLD, seed=100 + worker) for worker in range(4)]
    (author,) = (
        worker
        for worker, world in enumerate(worlds)
        if np.array_equal(found, _values_of(world, index, length))
    )
    return author
