"""Settings and vaults that all reliability harnesses share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from forging import Forger
from hostile import WORLD
from stand_in import make_units_small


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several units of each bucket; a cache of derived tables that starts empty."""
    make_units_small(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault that is as it should be; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_units_small(monkeypatch, folder)
        return WORLD.write(folder / "v")


@pytest.fixture
def forger(sound: Path, tmp_path: Path) -> Forger:
    """A forger at work on a copy of it."""
    return Forger(Path(shutil.copytree(sound, tmp_path / "v")))
