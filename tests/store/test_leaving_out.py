"""Planning an unfinished vault anew without some examples: as if they had never been there."""

from __future__ import annotations

import json
import os
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault import InputError, PlanMismatch, ResourceError, VaultWriter, disk
from store.test_writing import SPEC, records, tree
from vaults import fill

LENGTHS = [5, 6, 20, 7, 30, 8, 8, 5, 6, 7, 21, 4]

NUMBERS = {record.id: n for n, record in enumerate(records(LENGTHS))}


def reject(row: int, **more: object) -> dict[str, qkvault.Json]:
    return {"row": row, "source": f"d line {row}", "id": None, "reason": "no number"}


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 1 << 11)  # two rows of the shortest bucket


def run(writer: VaultWriter, but: Set[int] = frozenset()) -> list[int]:
    """Commit what is pending, except units that hold some examples; returns what was run."""
    done = []
    for unit in writer.pending():
        if but & set(unit.examples.tolist()):
            continue
        buffer = writer.begin(unit)
        numbers = [NUMBERS[writer.record(n).id] for n in unit.examples.tolist()]
        buffer.unit = replace(unit, examples=np.array(numbers))  # values go by the data's own
        fill(buffer, writer.spec)
        buffer.unit = unit
        if 2 in numbers:
            buffer.notes["batches_below"] = 77
        writer.commit(buffer)
        done.append(unit.id)
    return done


def begin(path: Path, without: Set[int] = frozenset(), **given: object) -> VaultWriter:
    kept = [record for n, record in enumerate(records(LENGTHS)) if n not in without]
    noted = [reject(n) for n in sorted({*without, 99})]
    return qkvault.create(path, SPEC, kept, rejects=noted, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("left_out", [{3}, {0}, {2, 9}, {4}, {0, 1, 3, 5, 6, 7, 8, 9, 11}])
@pytest.mark.parametrize("compress", [True, False])
def test_what_comes_of_it_is_what_would_have_been(
    left_out: set[int], compress: bool, tmp_path: Path
) -> None:
    with begin(tmp_path / "whole", left_out, compress=compress) as writer:
        run(writer)
        digest = writer.finish()

    path = tmp_path / "v"
    with begin(path, compress=compress) as writer:
        before = run(writer, left_out)
    with qkvault.leave_out(path, {n: reject(n) for n in left_out}, SPEC) as writer:
        assert [r["row"] for r in writer.rejects()] == sorted({*left_out, 99})
        again = run(writer)
        assert writer.finish() == digest
    assert tree(path) == tree(tmp_path / "whole")
    assert len(again) < len(writer.units) or not before, "what was written was taken over"
    assert qkvault.verify(path, full=True).ok
    assert {p.name for p in tmp_path.iterdir()} == {"whole", "v"}


def test_only_units_whose_rows_moved_are_run_again(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with begin(path) as writer:
        units = {unit.id: unit.examples.tolist() for unit in writer.units}
        run(writer, {3})
    assert units == {0: [0, 1], 1: [3, 5], 2: [6, 7], 3: [8, 9], 4: [11], 5: [2], 6: [10], 7: [4]}
    with qkvault.leave_out(path, {3: reject(3)}, SPEC) as writer:
        assert run(writer) == [1, 2, 3], "those of the row's bucket from its unit on"
        commit = json.loads((path / "commits/00000004.json").read_bytes())
        assert commit["batches_below"] == 77


def test_damaged_files_are_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with begin(path) as writer:
        run(writer, {3})
    file = path / "b0032/encoder/attention/c.0.0.0.0.0"
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    with qkvault.leave_out(path, {3: reject(3)}, SPEC) as writer:
        assert run(writer) == [1, 2, 3, len(writer.units) - 1]
        writer.finish()
    assert qkvault.verify(path, full=True).ok


def test_a_finished_vault_never_changes(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with begin(path) as writer:
        run(writer)
        writer.finish()
    before = tree(path)
    with pytest.raises(InputError, match="a finished vault never changes"):
        qkvault.leave_out(path, {3: reject(3)}, SPEC)
    assert tree(path) == before


def test_something_has_to_be_left(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with begin(path) as writer:
        run(writer, {3})
    before = tree(path)
    with pytest.raises(InputError, match="none of the 12 examples"):
        qkvault.leave_out(path, {n: reject(n) for n in range(12)}, SPEC)
    assert {name: h for name, h in tree(path).items() if ".partial" not in name} == before


def test_others_at_work_are_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with begin(path) as writer:
        run(writer, {3})
        held = writer.begin(writer.units[1])
        with pytest.raises(ResourceError, match="another process is at work"):
            qkvault.leave_out(path, {3: reject(3)}, SPEC)
        fill(held, SPEC)
        writer.commit(held)
        assert writer.pending() == []


def test_who_holds_the_old_plan_writes_nothing_into_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "v"
    with begin(path) as late:
        run(late, {3})
        qkvault.leave_out(path, {3: reject(3)}, SPEC).close()
        before = tree(path)
        with pytest.raises(PlanMismatch, match="planned anew by another process"):
            late.begin(late.units[1])
        assert tree(path) == before


def test_the_disk_may_refuse_and_the_old_vault_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v"
    with begin(path) as writer:
        run(writer, {3})
    before = tree(path)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("qkvault.shards.disk.write_buffers", refuse)
        with pytest.raises(ResourceError, match="No space left"):
            qkvault.leave_out(path, {3: reject(3)}, SPEC)
    assert {name: h for name, h in tree(path).items() if ".partial" not in name} == before
    assert [p.name for p in tmp_path.iterdir()] == ["v"]
    with qkvault.leave_out(path, {3: reject(3)}, replace(SPEC)) as writer:
        run(writer)
        writer.finish()


@pytest.mark.parametrize("atomic", [True, False])
def test_folders_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    if not atomic:
        monkeypatch.setattr("qkvault.disk._exchange", lambda one, other: False)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    disk.swap_folders(tmp_path / "a", tmp_path / "b")
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        *("a", "a/b", "b", "b/a")
    ]
    with pytest.raises(OSError, match="No such file"):
        disk.swap_folders(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "a" / "b").exists()


def test_who_dies_between_the_names_loses_nothing(tmp_path: Path) -> None:
    """Where folders change places by renames, the old one is not where leftovers are swept."""
    path = tmp_path / "v"
    with begin(path) as writer:
        run(writer, {3})
    before = tree(path)
    child = os.fork()
    if not child:
        rename = Path.rename

        def die(self: Path, target: Path) -> Path:
            if self == path:
                rename(self, target)
                os._exit(9)
            return rename(self, target)

        Path.rename = die  # type: ignore[method-assign, assignment]
        disk._exchange = lambda one, other: False
        qkvault.leave_out(path, {3: reject(3)}, SPEC)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    begin(path).close()  # whoever plans a vault there sweeps up first
    (aside,) = (p for p in tmp_path.iterdir() if p != path)
    assert {name: h for name, h in tree(aside).items() if ".partial" not in name} == before


def test_a_plan_in_an_object_store_stays_as_it_is() -> None:
    pytest.importorskip("obstore")
    with pytest.raises(InputError, match="in an object store, where a plan cannot be changed"):
        qkvault.leave_out("s3://bucket/v.vault", {3: reject(3)}, SPEC)
