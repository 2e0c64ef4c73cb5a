"""Damage of every kind, anywhere in a vault: ``verify`` tells of it, and reading never hides it.

A damage is applied to a sound vault, the vault is verified and read through the whole public
interface, and the damage is undone again.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from stand_in import World, make_units_small, read_all, read_damaged, tree

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Random = np.random.Generator


@dataclass
class Scene:
    """A sound vault, what it tells, and two others to take wrong files from."""

    vault: Path
    truth: dict[str, Any]
    count: int
    others: tuple[Path, ...]

    @property
    def files(self) -> list[Path]:
        return sorted(file for file in self.vault.rglob("*") if file.is_file())


WORLDS = (
    World(),
    World(precision="float32", compress=False, stacks=("decoder",), causal=True),
    World(precision="uint8", stacks=("encoder", "decoder", "cross"), lengths=(5, 9, 8, 12, 3)),
    World(metrics=True, lengths=(5, 9, 8, 12, 3)),
    World(attention="derived", arrays=("query", "key"), metrics=True, lengths=(5, 9, 8, 70, 3)),
    World(precision="float16", arrays=("attention", "query"), lengths=(5, 9, 8, 12, 3, 16)),
)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    folder = tmp_path_factory.mktemp("vaults")
    made = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_units_small(monkeypatch, folder)
        for number, world in enumerate(WORLDS):
            vault = world.write(folder / f"{number}.vault")
            rerun = world.other_run().write(folder / f"{number}-rerun.vault")
            other = replace(world, lengths=world.lengths[::-1], seed=9)
            stranger = other.write(folder / f"{number}-stranger.vault")
            count = len(world.lengths)
            made.append(Scene(vault, read_all(vault, count), count, (rerun, stranger)))
    return made


def _flip(scene: Scene, file: Path, random: Random) -> bool:
    data = bytearray(file.read_bytes())
    data[random.integers(len(data))] ^= int(random.integers(1, 256))
    file.write_bytes(data)
    return True


def _truncate(scene: Scene, file: Path, random: Random) -> bool:
    os.truncate(file, int(random.integers(file.stat().st_size)))
    return True


def _lengthen(scene: Scene, file: Path, random: Random) -> bool:
    with file.open("ab") as stream:
        stream.write(random.bytes(int(random.integers(1, 64))))
    return True


def _zero(scene: Scene, file: Path, random: Random) -> bool:
    """What a lost page of a file looks like."""
    data = bytearray(file.read_bytes())
    start = int(random.integers(len(data)))
    block = slice(start, start + int(random.integers(1, 512)))
    changed = any(data[block])
    data[block] = bytes(len(data[block]))
    file.write_bytes(data)
    return changed


def _delete(scene: Scene, file: Path, random: Random) -> bool:
    file.unlink()
    return True


def _empty(scene: Scene, file: Path, random: Random) -> bool:
    file.write_bytes(b"")
    return True


def _replace(scene: Scene, file: Path, random: Random) -> bool:
    """By the same file of another vault, of the same plan or of another."""
    other = scene.others[random.integers(2)] / file.relative_to(scene.vault)
    if not other.exists() or other.read_bytes() == file.read_bytes():
        return False
    shutil.copyfile(other, file)
    return True


def _swap(scene: Scene, file: Path, random: Random) -> bool:
    """With another file of the same size, as a confused repair of a file system would."""
    data = file.read_bytes()
    twins = [
        twin
        for twin in scene.files
        if twin.stat().st_size == len(data) and twin.read_bytes() != data
    ]
    if not twins:
        return False
    twin = twins[random.integers(len(twins))]
    file.write_bytes(twin.read_bytes())
    twin.write_bytes(data)
    return True


DAMAGES: tuple[Callable[[Scene, Path, Random], bool], ...] = (
    _flip,
    _truncate,
    _delete,
    _empty,
    _swap,
    _replace,
    _zero,
    _lengthen,
)


@contextmanager
def _undone(scene: Scene) -> Iterator[None]:
    contents = {file: file.read_bytes() for file in scene.files}
    try:
        yield
    finally:
        for file, data in contents.items():
            if not file.exists() or file.read_bytes() != data:
                file.write_bytes(data)


def _is_told(path: Path, *, full: bool) -> bool:
    try:
        report = qkvault.verify(path, full=full)
    except qkvault.VaultError:
        return True
    assert all("\n" not in f"{damage.path}{damage.reason}" for damage in report.damages)
    return not report.ok


@dataclass
class Tally:
    """Figures of a campaign."""

    damages: int = 0
    quick: int = 0
    right: int = 0
    refused: int = 0
    untold: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def _campaign(scenes: list[Scene], wanted: int, seed: int) -> Tally:
    random = np.random.default_rng(seed)
    tally = Tally()
    while tally.damages < wanted:
        scene = scenes[random.integers(len(scenes))]
        damage = DAMAGES[tally.damages % len(DAMAGES)]
        file = scene.files[random.integers(len(scene.files))]
        with _undone(scene):
            if not damage(scene, file, random):
                continue
            name = f"{damage.__name__} {file.relative_to(scene.vault.parent)}"
            tally.damages += 1
            tally.quick += _is_told(scene.vault, full=False)
            if not _is_told(scene.vault, full=True):
                tally.untold += (name,)
            served = read_damaged(scene.vault, scene.truth, scene.count)
            tally.right += served.right
            tally.refused += served.refused
            tally.wrong += tuple(f"{name}: {what}" for what in served.wrong)
    return tally


def _check(tally: Tally, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(
            f"\n{tally.damages} damages: full told {tally.damages - len(tally.untold)}, quick told"
            f" {tally.quick}; pieces read: {tally.right} right, {tally.refused} refused,"
            f" {len(tally.wrong)} wrong"
        )
    assert not tally.wrong, "\n".join(tally.wrong[:20])
    assert not tally.untold, "\n".join(tally.untold)
    assert tally.right  # damage of one part leaves the others readable
    assert tally.refused


def test_sound_vaults_verify_and_read_the_same_again(scenes: list[Scene]) -> None:
    for scene in scenes:
        before = tree(scene.vault)
        assert qkvault.verify(scene.vault).ok
        assert qkvault.verify(scene.vault, full=True).ok
        served = read_damaged(scene.vault, scene.truth, scene.count)
        assert served.right == len(scene.truth)
        assert tree(scene.vault) == before


def test_some_damages(scenes: list[Scene], capsys: pytest.CaptureFixture[str]) -> None:
    _check(_campaign(scenes, 48, seed=1), capsys)


@pytest.mark.slow
def test_300_damages(scenes: list[Scene], capsys: pytest.CaptureFixture[str]) -> None:
    _check(_campaign(scenes, 300, seed=2), capsys)


@pytest.mark.parametrize("damage", [_delete, _empty, _replace])
def test_every_file_matters(
    scenes: list[Scene], damage: Callable[[Scene, Path, Random], bool]
) -> None:
    """No file can be lost, emptied or taken from another vault without a word of ``verify``."""
    random = np.random.default_rng(3)
    scene = scenes[2]
    for file in scene.files:
        with _undone(scene):
            if damage(scene, file, random):
                assert _is_told(scene.vault, full=True), file
