"""``kill -9`` while a damaged vault is repaired; repairing again gives the vault that was there."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from io_layer import io_layer
from stand_in import World, read_all, read_damaged, tree
from test_kills import dying_before, in_child

import qkvault

WORLD = World(lengths=(5, 9, 8, 12, 3))
COUNT = len(WORLD.lengths)


def _damage(path: Path) -> None:
    """A commit lost, a shard cut short, a byte flipped in another, metadata gone."""
    (path / "commits/00000001.json").unlink()
    shard = next(path.glob("b0008/encoder/key/c.*"))
    os.truncate(shard, 20)
    other = next(path.glob("b0016/encoder/attention/c.1*"))
    data = bytearray(other.read_bytes())
    data[3] ^= 4
    other.write_bytes(data)
    (path / "b0016/encoder/zarr.json").unlink()


def _repair(path: Path) -> None:
    found = qkvault.diagnose(path, full=True)
    if found.restorable:
        found.restore()
        found.close()
        found = qkvault.diagnose(path, full=True)
    if found.unfinished:
        with found.withdraw() as writer:
            WORLD.write_pending(writer)
            writer.finish()
    found.close()
    assert not found.check_again()


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return WORLD.write(tmp_path / "whole" / "v")


def _changes(whole: Path, folder: Path) -> int:
    folder.mkdir()
    path = Path(shutil.copytree(whole, folder / "v"))
    _damage(path)
    with io_layer(folder) as layer:
        _repair(path)
    assert tree(path) == tree(whole)
    return sum(call.changes for call in layer.calls)


def _kill_and_repair(whole: Path, folder: Path, moments: range) -> None:
    expected, truth = tree(whole), read_all(whole, COUNT)
    for moment in moments:
        path = folder / f"at{moment}" / "v"
        shutil.copytree(whole, path)
        _damage(path)
        status = in_child(lambda path=path, moment=moment: _die_repairing(path, moment))
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert not read_damaged(path, truth, COUNT, partial=True).wrong
        _repair(path)
        # Where the vault was whole again before the kill, a repair finds nothing to sweep up for.
        left = {name: kept for name, kept in tree(path).items() if not name.startswith(".partial/")}
        assert left == expected, moment


def _die_repairing(path: Path, moment: int) -> None:
    with io_layer(path.parent, dying_before(moment)):
        _repair(path)


def test_some_kills_of_a_repair(whole: Path, tmp_path: Path) -> None:
    count = _changes(whole, tmp_path / "counted")
    _kill_and_repair(whole, tmp_path, range(1, count + 1, 12))


@pytest.mark.slow
def test_a_kill_before_every_change_of_a_repair(whole: Path, tmp_path: Path) -> None:
    count = _changes(whole, tmp_path / "counted")
    _kill_and_repair(whole, tmp_path, range(1, count + 1))
