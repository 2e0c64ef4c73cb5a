"""Claims: who may write a unit, what becomes of the claims of the dead, and of late writers."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from io_layer import Call, io_layer
from stand_in import World, tree
from test_kills import in_child

import qkvault
from qkvault import claims
from qkvault.claims import BEAT_S, LEASE_S, Claim, take_claim
from vaults import fill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORLD = World(precision="float32", compress=False, lengths=(5, 7, 8, 6, 3, 12, 14, 15))


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
    claim = take_claim(vault, 0)
    lease = vault / ".partial/00000000.claim"
    os.utime(lease, (0, 0))
    deadline = time.monotonic() + 5
    while lease.stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert abs(time.time() - lease.stat().st_mtime) < 60
    claim.release()
    assert not lease.exists()
