"""Fuzzed metadata, signed anew: nothing but errors of the store's own comes out, soon and small.

Plan, array metadata, commits, manifest, records and the arrays of ``examples/`` are changed at
random, some by structure and some by byte, and all hashes are made to match again. Then the vault
is opened, read and verified, in a child of limited memory, each round with a limit of time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from forging import Forger
from guard import guarded
from mutating import ODD, mutate, mutate_bytes
from stand_in import World, make_units_small, reads

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable

WORLDS = (
    World(lengths=(5, 9, 8, 3)),
    World(
        attention="derived",
        arrays=("query", "key"),
        metrics=True,
        stacks=("decoder",),
        causal=True,
        lengths=(9, 5, 3, 8),
    ),
    World(stacks=("encoder", "cross"), arrays=("attention", "query", "key"), lengths=(5, 9, 3)),
    World(precision="float16", beside="summaries", widths=((4, 3), (2, 4)), lengths=(5, 9, 3, 8)),
)
COUNT = 4
ROUND_SECONDS = 5.0
COLUMNS = ("place", "offset", "id_hash", "id_row")


def _fuzz_plan(forger: Forger, dice: random.Random) -> None:
    forger.plan = mutate(forger.plan, dice)


def _fuzz_spec(forger: Forger, dice: random.Random) -> None:
    key = dice.choice(("spec", "spec", "buckets", "shards"))
    forger.plan[key] = mutate(forger.plan[key], dice)


def _fuzz_metadata(forger: Forger, dice: random.Random) -> None:
    array = _array(forger, dice)
    forger.put_metadata(array, mutate(forger.metadata(array), dice))


def _fuzz_metadata_bytes(forger: Forger, dice: random.Random) -> None:
    array = _array(forger, dice)
    data = (forger.path / array / "zarr.json").read_bytes()
    forger.put_metadata(array, mutate_bytes(data, dice))


def _fuzz_plan_and_metadata(forger: Forger, dice: random.Random) -> None:
    """One number, changed wherever it stands: shapes then agree with the plan."""
    old, new = dice.choice((2, 4, 8)), dice.choice((1, 3, 16, 64, 1000, 2**20, 2**31))
    forger.plan = _replaced(forger.plan, old, new)
    for relative in list(forger.plan["metadata"]):
        array = relative.rpartition("/")[0]
        if array and "shape" in forger.metadata(array):
            forger.put_metadata(array, _replaced(forger.metadata(array), old, new))


def _replaced(value: Any, old: int, new: int) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new if type(value) is int and value == old else value


def _fuzz_commit(forger: Forger, dice: random.Random) -> None:
    number = dice.choice(list(forger.commits))
    changed = mutate(forger.commits[number], dice)
    forger.commits[number] = changed if isinstance(changed, dict) else {"files": changed}


def _fuzz_manifest(forger: Forger, dice: random.Random) -> None:
    changed = mutate(forger.manifest, dice)
    forger.manifest = changed if isinstance(changed, dict) else {}


def _fuzz_record(forger: Forger, dice: random.Random) -> None:
    lines = forger.records()
    place = dice.randrange(len(lines))
    if dice.random() < 0.6:
        lines[place] = json.dumps(mutate(json.loads(lines[place]), dice)).encode() + b"\n"
    else:
        lines[place] = mutate_bytes(lines[place], dice) or b"\n"
    forger.put_records(lines)


def _fuzz_column(forger: Forger, dice: random.Random) -> None:
    name = dice.choice(COLUMNS)
    values = forger.column(name)
    numbers = [n for n in ODD if isinstance(n, int)]
    for _ in range(dice.randint(1, 3)):
        flat = values.reshape(-1)
        number = dice.choice([*numbers, *flat.tolist()])
        bits = 8 * flat.dtype.itemsize
        flat[dice.randrange(flat.size)] = np.array(number % 2**bits, f"u{bits // 8}").view(
            flat.dtype
        )
    forger.put_column(name, values)


def _fuzz_index(forger: Forger, dice: random.Random) -> None:
    unit = dice.choice(list(forger.commits))
    shard = dice.choice(list(forger.commits[unit]["files"]))

    def change(index: Any) -> None:
        flat = index.reshape(-1)
        number = dice.choice([0, 1, 100, 2**32, 2**63, 2**64 - 1, *flat.tolist()])
        flat[dice.randrange(flat.size)] = number

    forger.put_index(unit, shard, change)


def _fuzz_chunk(forger: Forger, dice: random.Random) -> None:
    unit = dice.choice(list(forger.commits))
    shard = dice.choice(list(forger.commits[unit]["files"]))
    data = (forger.path / shard).read_bytes()
    start = dice.randrange(len(data))
    forger.put_chunk(unit, shard, 0, mutate_bytes(data[:start] or b"x", dice))


def _fuzz_bytes(forger: Forger, dice: random.Random) -> None:
    """Unsigned: any file of the vault, changed by byte."""
    files = [path for path in sorted(forger.path.rglob("*")) if path.is_file()]
    file = dice.choice(files)
    file.write_bytes(mutate_bytes(file.read_bytes(), dice))


FUZZERS: tuple[Callable[[Forger, random.Random], None], ...] = (
    _fuzz_plan,
    _fuzz_spec,
    _fuzz_metadata,
    _fuzz_metadata_bytes,
    _fuzz_plan_and_metadata,
    _fuzz_commit,
    _fuzz_manifest,
    _fuzz_record,
    _fuzz_column,
    _fuzz_index,
    _fuzz_chunk,
    _fuzz_bytes,
)


def _array(forger: Forger, dice: random.Random) -> str:
    names = [path.rpartition("/")[0] for path in forger.plan["metadata"]]
    return dice.choice([name for name in names if name])


class TooLong(Exception):
    """A round did not end in time."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong


def _round(pristine: Path, work: Path, seed: int) -> str:
    """Fuzz, sign, use: what came of it, in a word. Any error but the store's own goes through."""
    dice = random.Random(seed)
    forger = Forger(pristine)
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(pristine, work)
    forger.path = work
    fuzz = dice.choice(FUZZERS)
    fuzz(forger, dice)
    if fuzz is not _fuzz_bytes:
        try:
            forger.sign()
        except (ValueError, TypeError):  # what cannot be spelled cannot be signed
            return "unspelt"
    signal.setitimer(signal.ITIMER_REAL, ROUND_SECONDS)
    try:
        return _use(work, dice)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _use(path: Path, dice: random.Random) -> str:
    word = "accepted"
    try:
        with qkvault.open(path, partial=True) as vault:
            vault.info()
            for name, read in reads(vault, min(COUNT, len(vault))):
                if name in ("table", "search", "select") and dice.random() < 0.8:
                    continue
                try:
                    read()
                except qkvault.QKVaultError as error:
                    word = "refused"
                    _check(error)
    except qkvault.QKVaultError as error:
        word = "unopened"
        _check(error)
    for full in (False, True):
        try:
            qkvault.verify(path, full=full)
        except qkvault.QKVaultError as error:
            _check(error)
    return word


def _check(error: qkvault.QKVaultError) -> None:
    text = str(error)
    if "\n" in text or len(text) > 2000:
        raise AssertionError(f"told at length: {text!r:.300}")


def _fuzz_for(pristine: Path, work: Path, seconds: float, first: int) -> dict[str, Any]:
    signal.signal(signal.SIGALRM, _too_long)
    words: Counter[str] = Counter()
    failures: list[str] = []
    end = time.monotonic() + seconds
    seed = first
    while time.monotonic() < end and len(failures) < 20:
        try:
            words[_round(pristine, work, seed)] += 1
        except Exception as error:
            where = error.__traceback__
            while where is not None and where.tb_next is not None:
                where = where.tb_next
            code = where.tb_frame.f_code if where is not None else None
            place = f"{Path(code.co_filename).name}:{where.tb_lineno}" if code and where else ""
            failures.append(f"seed {seed}: {type(error).__name__} at {place}: {error!s:.200}")
        seed += 1
    return {"words": dict(words), "failures": failures, "rounds": seed - first}


@pytest.fixture(scope="module", params=WORLDS, ids=["stored", "derived", "two sequences", "widths"])
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vaults")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_units_small(monkeypatch, folder)
        world: World = request.param
        return world.write(folder / "v")


def _fuzz(pristine: Path, work: Path, seconds: float, first: int) -> dict[str, Any]:
    told: dict[str, Any] = guarded(
        lambda: _fuzz_for(pristine, work, seconds, first), seconds + 30, 512 << 20
    )
    print(f"\n{told['rounds']} rounds: {told['words']}")
    assert not told["failures"], "\n".join(told["failures"])
    assert told["words"].get("refused", 0) > 0
    return told


def test_seconds_of_fuzz(pristine: Path, tmp_path: Path) -> None:
    _fuzz(pristine, tmp_path / "w", 2.0, 0)


@pytest.mark.slow
def test_forty_seconds_of_fuzz(
    pristine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("QKVAULT_FUZZ_SEED", "1000000"))
    seconds = float(os.environ.get("QKVAULT_FUZZ_SECONDS", "40"))
    with capsys.disabled():
        told = _fuzz(pristine, tmp_path / "w", seconds, seed)
    assert min(told["words"].get(word, 0) for word in ("refused", "unopened", "accepted")) > 0
