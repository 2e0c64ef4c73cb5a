"""Damaged HDF5 exports: HDF5's own format is not ours to check, but what is served from it is.

Bytes that HDF5 never reads (free space of its heaps) may change without a word; no value may. Each
file is read in a child, since a library in C stands between it and us.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from guard import guarded
from stand_in import World, read_all, read_damaged

import qkvault

if TYPE_CHECKING:
    from pathlib import Path

WORLD = World(lengths=(5, 9, 8, 12, 3))
COUNT = len(WORLD.lengths)
MEMORY = 1 << 30
SECONDS = 30.0


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return qkvault.export(WORLD.write(tmp_path / "v"), tmp_path / "whole.h5")


def _damaged(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    place = int(random.integers(len(data)))
    match random.integers(4):
        case 0:
            del changed[place:]
        case 1:
            changed[place : place + 64] = bytes(len(changed[place : place + 64]))
        case _:
            changed[place] ^= int(random.integers(1, 256))
    return bytes(changed)


def _use(path: Path, truth: dict[str, Any]) -> dict[str, Any]:
    served = read_damaged(path, truth, COUNT)
    try:
        told = not qkvault.verify(path, full=True).ok
    except qkvault.VaultError:
        told = True
    silent = not told and served.refused > 0
    return {"wrong": served.wrong[:5], "told": told, "silent": silent}


def _campaign(export: Path, damages: int, seed: int) -> Counter[str]:
    truth, data = read_all(export, COUNT), export.read_bytes()
    random = np.random.default_rng(seed)
    met: Counter[str] = Counter()
    path = export.with_name("damaged.h5")
    while met.total() < damages:
        changed = _damaged(data, random)
        if changed == data:
            continue
        path.write_bytes(changed)
        told = guarded(lambda: _use(path, truth), SECONDS, MEMORY)
        assert not told["wrong"]
        assert not told["silent"]  # what reading refuses, verify knows of
        met["told" if told["told"] else "without effect"] += 1
    return met


def test_some_damaged_exports(export: Path) -> None:
    assert _campaign(export, 12, seed=1)["told"] > 6


@pytest.mark.slow
def test_300_damaged_exports(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    met = _campaign(export, 300, seed=2)
    with capsys.disabled():
        print(f"\ndamaged exports: {dict(met)}, 0 wrong values")
    assert met["told"] > 150
