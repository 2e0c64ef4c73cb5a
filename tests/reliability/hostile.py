"""Using a vault that was made to do harm: in a child of limited memory and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guard import guarded
from stand_in import World, reads

import qkvault

if TYPE_CHECKING:
    from pathlib import Path

    from forging import Forger

WORLD = World(lengths=(5, 9, 8, 12, 3, 70))


COUNT = len(WORLD.lengths)


SECONDS = 30.0


def use(path: Path) -> dict[str, Any]:
    """Open, read and verify: how many pieces were refused, what verify told, what else was raised.

    Anything raised but a VaultError of one line leaves this function and fails the test.
    """
    told = {"refused": 0, "read": 0, "damages": 0}
    try:
        vault = qkvault.open(path)
    except qkvault.VaultError as error:
        check(error)
        told["refused"] += 1
    else:
        with vault:
            for _, read in reads(vault, min(len(vault), COUNT)):
                try:
                    read()
                    told["read"] += 1
                except qkvault.VaultError as error:
                    check(error)
                    told["refused"] += 1
    for full in (False, True):
        try:
            told["damages"] = len(qkvault.verify(path, full=full).damages)
        except qkvault.VaultError as error:
            check(error)
            told["damages"] = 1
    return told


def check(error: qkvault.VaultError) -> None:
    text = str(error)
    if "\n" in text or len(text) > 2000:
        raise AssertionError(f"told at length: {text:.3000}")


def refuses(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = guarded(lambda: use(path), SECONDS)
    assert told["refused"] > 0
    assert told["damages"] > 0
    return told


def shard_of(forger: Forger, unit: int, array: str) -> str:
    return next(path for path in forger.commits[unit]["files"] if f"/{array}/" in path)


def inner(document: dict[str, Any]) -> dict[str, Any]:
    configuration: dict[str, Any] = document["codecs"][0]["configuration"]
    return configuration
