"""Planning, filling, stopping and going on: a vault is whole, unfinished, or not there."""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault
from qkvault import InputError, PlanMismatch, Record, ResourceError, Stack, VaultSpec, disk
from vaults import fill, make_record, make_vault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LENGTHS = [5, 6, 20, 7, 30]

STACK = Stack(
    name="encoder",
    layers=(0, 1),
    heads=2,
    key_heads=1,
    head_dim=4,
    value_dim=4,
    causal=False,
    scaling=(0.5, 0.5),
)
SPEC = VaultSpec(
    stacks=(STACK,),
    arrays=("attention", "query"),
    precision="uint16",
    logits=0,
    label_names=(),
    identity={"model": "m", "options": {"max_length": 128}},
)


def records(lengths: list[int] = LENGTHS) -> list[Record]:
    random = np.random.default_rng(0)
    return [make_record(index, length, random=random) for index, length in enumerate(lengths)]


def run(path: Path) -> str:
    """Make the vault, or go on with it, as an extraction does."""
    state = qkvault.vault_state(path)
    fresh = state in ("absent", "empty")
    writer = qkvault.create(path, SPEC, records()) if fresh else qkvault.resume(path, SPEC.identity)
    with writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, SPEC)
            writer.commit(buffer)
        return writer.finish()


def tree(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def test_resume_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    path = tmp_path / "v"
    with qkvault.create(path, SPEC, records()) as writer:
        assert len(writer.units) == 3
        kept = writer.records(writer.units[0])
        assert list(kept) == [records()[i] for i in (0, 1, 3)]
        assert kept[1:] == [records()[1], records()[3]]
        buffer = writer.begin(writer.units[1])
        fill(buffer, SPEC)
        receipt = writer.commit(buffer)
        assert 0 < receipt.bytes_written < receipt.raw_bytes
        with pytest.raises(qkvault.VaultError, match="2 of 3 units"):
            writer.finish()
    assert [unit.id for unit in qkvault.resume(path).pending()] == [0, 2]
    assert run(path) == whole
    assert tree(path) == tree(tmp_path / "whole")
    assert qkvault.resume(path).pending() == []
    assert qkvault.resume(path).finish() == whole


def test_another_plan_is_refused_naming_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "v"
    run(path)
    asked = {"model": "other", "options": {"max_length": 128}, "weights": "abc"}
    with pytest.raises(PlanMismatch) as caught:
        qkvault.resume(path, asked)
    text = str(caught.value)
    assert 'model (was "m", now "other")' in text
    assert 'weights (was absent, now "abc")' in text
    assert "options" not in text
    qkvault.resume(path, dict(SPEC.identity)).close()


@pytest.mark.parametrize("taken", ["file", "folder", "vault"])
def test_what_stands_there_is_left_alone(tmp_path: Path, taken: str) -> None:
    path = tmp_path / "v"
    if taken == "file":
        path.write_text("mine")
    elif taken == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    else:
        make_vault(path, examples=2)
    before = tree(tmp_path)
    with pytest.raises(InputError, match="choose another folder"):
        qkvault.create(path, SPEC, records())
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: [], "no examples"),
        (lambda r: [*r, replace(r[1], id="r00003")], "'r00003' appears twice: examples 3 and 5"),
        (lambda r: [replace(r[0], tokens=())], "no tokens"),
        (lambda r: [replace(r[0], segments=(0,))], "5 tokens but 1 segments"),
        (lambda r: [replace(r[0], text=("\ud800",))], "cannot be stored"),
        (lambda r: [replace(r[0], columns={"x": float("nan")})], "cannot be stored"),
        (lambda r: [replace(r[0], label=[1])], "its label is a list"),
        (lambda r: [replace(r[0], token_ids=(1, 2, 3, 4, -5))], "token id"),
        (lambda r: [replace(r[0], offsets=((3, 1),) * 5)], "character range"),
    ],
)
def test_bad_records_leave_nothing_behind(
    tmp_path: Path, spoil: Callable[[list[Record]], list[Record]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        qkvault.create(tmp_path / "v", SPEC, spoil(records()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"arrays": ()},
        {"arrays": ("query", "attention")},
        {"precision": "int8"},
        {"stacks": ()},
        {"stacks": (replace(STACK, heads=3, key_heads=2),)},
        {"stacks": (replace(STACK, layers=(1, 0)),)},
        {"stacks": (replace(STACK, scaling=(1.0,)),)},
        {"stacks": (replace(STACK, beside=""),)},
        {"label_names": ("a",)},
        {"identity": {"x": float("inf")}},
    ],
)
def test_bad_specs_leave_nothing_behind(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        qkvault.create(tmp_path / "v", replace(SPEC, **changes), records())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_records_that_fail_halfway_leave_nothing_behind(tmp_path: Path) -> None:
    def broken() -> object:
        yield from records()
        raise RuntimeError("the source went away")

    with pytest.raises(RuntimeError, match="went away"):
        qkvault.create(tmp_path / "v", SPEC, broken())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_planning_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    stale = tmp_path / "v.planning-dead"
    stale.mkdir()
    (stale / "plan.json").touch()
    (stale / "zarr.json").write_text("{}")
    swept_halfway = tmp_path / "v.planning-half"
    (swept_halfway / "examples").mkdir(parents=True)
    (swept_halfway / "examples" / "zarr.json").write_bytes(b"{}")
    bystander = tmp_path / "v2.planning-dead"
    bystander.mkdir()
    run(tmp_path / "v")
    assert not stale.exists()
    assert not swept_halfway.exists()
    assert bystander.exists()


def test_what_was_not_filled_is_refused(tmp_path: Path) -> None:
    with qkvault.create(tmp_path / "v", SPEC, records()) as writer:
        unit = writer.units[0]
        buffer = writer.begin(unit)
        fill(buffer, SPEC)
        buffer.arrays["encoder/attention"][1, 1, 0] = 0
        with pytest.raises(InputError, match=r"encoder/attention .* was not filled for example 1"):
            writer.commit(buffer)
        buffer = writer.begin(unit)
        fill(buffer, SPEC)
        buffer.arrays["encoder/query"] = buffer.arrays["encoder/query"].astype(np.float32)
        with pytest.raises(InputError, match=r"must be float16\[3, 2, 2, 8, 4\]"):
            writer.commit(buffer)
        assert [u.id for u in writer.pending()] == [0, 1, 2]


def test_a_damaged_commit_is_redone(tmp_path: Path) -> None:
    path = tmp_path / "v"
    make = qkvault.create(path, SPEC, records())
    for unit in make.pending():
        buffer = make.begin(unit)
        fill(buffer, SPEC)
        make.commit(buffer)
    make.close()
    (path / "commits/00000001.json").write_bytes(b"{}")
    (path / "b0024/encoder/query/c.0.0.0.0.0").write_bytes(b"")
    assert [unit.id for unit in qkvault.resume(path).pending()] == [1]
    digest = run(path)
    assert digest == run(tmp_path / "again")
    assert qkvault.verify(path, full=True).ok


def test_rejects_are_kept(tmp_path: Path) -> None:
    rejects = [{"id": "7", "reason": "empty text"}]
    path = tmp_path / "v"
    qkvault.create(path, SPEC, records(), rejects=rejects).close()
    assert (path / "rejects.jsonl").read_text() == '{"id": "7", "reason": "empty text"}\n'
    assert qkvault.open(path, partial=True).info()["rejects"] == 1


class Countdown:
    """Stands for ``os`` in :mod:`qkvault.disk` and counts what changes the disk."""

    COUNTED = ("writev", "fsync", "link", "open")

    def __init__(self, at: int, strike: Callable[[], None]) -> None:
        self.left = at
        self.strike = strike

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        if name not in self.COUNTED:
            return real

        def counted(*arguments: object, **named: object) -> object:
            self.left -= 1
            if self.left == 0:
                self.strike()
            return real(*arguments, **named)

        return counted


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_anywhere_a_vault_resumes_byte_for_byte(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    path = tmp_path / "killed" / "v"
    path.parent.mkdir()
    died = 0
    for at in (3, 40, 75, 90, 95, 100, 105, 110, 115, 120, 130, 140):
        child = os.fork()
        if child == 0:
            try:
                disk.os = Countdown(at, die)  # type: ignore[assignment, attr-defined]
                run(path)
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        died += os.WIFSIGNALED(status)
        state = qkvault.vault_state(path)
        assert state in ("absent", "unfinished", "complete")
        if state == "unfinished":
            with pytest.raises(qkvault.VaultError, match="unfinished"):
                qkvault.open(path)
    run(path)
    assert died >= 6
    assert tree(path) == whole
    assert sorted(p.name for p in path.parent.iterdir()) == ["v"]


def test_a_failing_disk_is_one_line_and_leaves_a_vault_that_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    whole = tree(tmp_path / "whole")

    def full() -> None:
        raise OSError(28, "No space left on device")

    told: list[str] = []
    for at in range(1, 160, 7):
        path = tmp_path / f"v{at}"
        with monkeypatch.context() as patched:
            patched.setattr(disk, "os", Countdown(at, full))
            try:
                run(path)
            except (ResourceError, qkvault.VaultError) as error:
                told.append(str(error))
        run(path)
        assert tree(path) == whole
    assert len(told) > 10
    assert not [text for text in told if "\n" in text or "No space left on device" not in text]
    assert not [p for p in tmp_path.iterdir() if ".planning-" in p.name]
