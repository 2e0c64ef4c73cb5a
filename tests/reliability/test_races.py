"""Several processes on one vault: every unit is written once, by one of them, and nothing is torn.

The model is as noisy as a GPU: each process gives other values for the same example. So a unit that
two of them had a hand in would not agree with its commit.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_layer import Call, io_layer
from stand_in import World, small_units, tree
from test_kills import in_child

import qkvault
from qkvault import claims
from qkvault.claims import BEAT_S, LEASE_S, Claim
from vaults import fill, forward

__all__ = ["small_units"]

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
    if not locks:
        _no_locks(monkeypatch)
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


def _planned(path: Path) -> qkvault.VaultWriter:
    return WORLD.open_writer(path)


def _write(writer: qkvault.VaultWriter, unit: qkvault.Unit, seed: int) -> None:
    buffer = writer.begin(unit)
    fill(buffer, writer.spec, seed)
    writer.commit(buffer)


def test_a_unit_that_is_written_is_not_written_again(tmp_path: Path) -> None:
    with _planned(tmp_path / "v") as first, _planned(tmp_path / "v") as second:
        unit = first.pending()[0]
        old = second.pending()
        _write(first, unit, 1)
        before = tree(tmp_path / "v")
        with pytest.raises(qkvault.UnitTaken, match="has been written"):
            second.begin(old[0])
        assert tree(tmp_path / "v") == before


def test_a_unit_under_way_is_not_begun(tmp_path: Path) -> None:
    with _planned(tmp_path / "v") as first, _planned(tmp_path / "v") as second:
        unit = first.units[0]
        buffer = first.begin(unit)
        with pytest.raises(qkvault.UnitTaken, match="being written"):
            second.begin(unit)
        buffer.claim.release()
        buffer.claim.release()
        second.begin(unit).claim.release()


def test_the_claim_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    with _planned(tmp_path / "v") as writer:
        unit = writer.units[0]

        def claim_and_die() -> None:
            qkvault.resume(tmp_path / "v").begin(unit)
            os.kill(os.getpid(), signal.SIGKILL)

        in_child(claim_and_die)
        assert (tmp_path / "v/.partial/00000000.claim").exists()
        _write(writer, unit, 1)
        assert not list((tmp_path / "v/.partial").iterdir())


def test_a_forked_child_neither_holds_nor_gives_back_a_claim(tmp_path: Path) -> None:
    with _planned(tmp_path / "v") as writer, _planned(tmp_path / "v") as second:
        unit = writer.units[0]
        buffer = writer.begin(unit)
        assert in_child(buffer.claim.release) == 0
        with pytest.raises(qkvault.UnitTaken):
            second.begin(unit)
        fill(buffer, writer.spec, 1)
        writer.commit(buffer)


def _make_foreign(path: Path, unit: int, age: float) -> None:
    """Make a lease look as if another machine had taken it, ``age`` seconds ago."""
    lease = path / f".partial/{unit:08d}.claim"
    document = json.loads(lease.read_text())
    lease.write_text(json.dumps({**document, "boot": "another machine"}))
    now = time.time()
    os.utime(lease, (now - age, now - age))


@pytest.mark.parametrize("age", [LEASE_S + 5, LEASE_S - 20])
def test_a_claim_of_another_machine_is_free_after_its_lease(tmp_path: Path, age: float) -> None:
    with _planned(tmp_path / "v") as writer:
        unit = writer.units[0]

        def claim_and_die() -> None:
            qkvault.resume(tmp_path / "v").begin(unit)
            os._exit(0)

        in_child(claim_and_die)
        _make_foreign(tmp_path / "v", 0, age)
        if age > LEASE_S:
            _write(writer, unit, 1)
        else:
            with pytest.raises(qkvault.UnitTaken):
                writer.begin(unit)


def test_a_lease_that_cannot_be_read_is_waited_for(tmp_path: Path) -> None:
    with _planned(tmp_path / "v") as writer:
        (tmp_path / "v/.partial").mkdir()
        lease = tmp_path / "v/.partial/00000000.claim"
        for text in ("", "{", "[]", '{"boot": 1}', "[" * 100_000):
            lease.write_text(text)
            with pytest.raises(qkvault.UnitTaken):
                writer.begin(writer.units[0])
        lease.unlink()
        _write(writer, writer.units[0], 1)


def _no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without locks: claims are then judged by their age alone, as on another machine."""
    monkeypatch.setattr("qkvault.disk.try_lock", lambda fd: None)


def test_without_locks_a_live_claim_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_locks(monkeypatch)
    with _planned(tmp_path / "v") as writer, _planned(tmp_path / "v") as second:
        buffer = writer.begin(writer.units[0])
        with pytest.raises(qkvault.UnitTaken):
            second.begin(writer.units[0])
        buffer.claim.release()
        _write(second, writer.units[0], 1)


def _take_over(path: Path, claim: Claim) -> None:
    """Let a holder look dead: its lease is old, as after a long stop."""
    old = time.time() - LEASE_S - 5
    os.utime(path / f".partial/{claim.folder.name.partition('.')[0]}.claim", (old, old))


@pytest.mark.parametrize("moment", range(12))
def test_a_late_writer_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """A writer that stops before any of its renames or links, and wakes after its unit is done."""
    _no_locks(monkeypatch)
    path = tmp_path / "v"
    with _planned(path) as late, _planned(path) as other:
        unit = late.units[0]
        buffer = late.begin(unit)
        fill(buffer, late.spec, 1)
        done: list[dict[str, str]] = []
        steps = 0

        def sleep_through(
            call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
        ) -> Any:
            nonlocal steps
            if call.name in ("link", "rename", "replace", "create") and not done:
                steps += 1
                if steps == moment + 1:
                    done.append({})
                    _take_over(path, buffer.claim)
                    _write(other, unit, 2)
                    done[0] = tree(path)
            return function(*args, **kwargs)

        with io_layer(path, sleep_through), pytest.raises(qkvault.UnitTaken, match="taken over"):
            late.commit(buffer)
        assert done
        assert tree(path) == done[0]
        _finish(other)
        assert qkvault.verify(path, full=True).ok


def _finish(writer: qkvault.VaultWriter) -> None:
    for unit in writer.pending():
        _write(writer, unit, 3)
    writer.finish()


def test_a_holder_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BEAT_S < LEASE_S / 3  # two beats may fail
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    assert in_child(lambda: _hold_until_a_beat(tmp_path)) == 0  # where no heart beats yet


def _hold_until_a_beat(vault: Path) -> None:
    claim = Claim(vault, 0)
    lease = vault / ".partial/00000000.claim"
    os.utime(lease, (0, 0))
    deadline = time.monotonic() + 5
    while lease.stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert abs(time.time() - lease.stat().st_mtime) < 60
    claim.release()
    assert not lease.exists()
