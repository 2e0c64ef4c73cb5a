"""Damaged vaults are made whole again, to the byte, and nothing else in them is touched."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import qkvault
from extractor.models import tiny_bert, write_texts
from qkvault import InputError, PlanMismatch, ResourceError, VaultError
from qkvault_extractor import ExtractOptions, Progress, RepairReport, extract, repair
from qkvault_extractor.job import _Job
from qkvault_extractor.pack import Packer

LENGTHS = [3, 12, 12, 5, 40, 66, 12, 1, 33]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert", labels=2)


@pytest.fixture(scope="module")
def options(model: Path, tmp_path_factory: pytest.TempPathFactory) -> ExtractOptions:
    folder = tmp_path_factory.mktemp("sound")
    data = write_texts(folder / "texts.jsonl", LENGTHS)
    options = ExtractOptions(
        str(model), (str(data),), folder / "sound.vault", id_column="id", device="cpu"
    )
    extract(options)
    return options


@pytest.fixture(scope="module")
def sound(options: ExtractOptions) -> Path:
    return options.out


@pytest.fixture
def vault(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "v.vault"))


def files_of(vault: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(vault)): path.read_bytes()
        for path in sorted(vault.rglob("*"))
        if path.is_file()
    }


def marks_of(vault: Path) -> dict[str, tuple[int, int]]:
    """What tells whether a file was written again, even with the same bytes."""
    marks = {name: (vault / name).stat() for name in files_of(vault)}
    return {name: (mark.st_ino, mark.st_mtime_ns) for name, mark in marks.items()}


def flip(path: Path, at: int = 40) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def shards(vault: Path, array: str) -> list[Path]:
    found = sorted(vault.glob(f"b*/{array}/c.*"))
    assert found
    return found


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip_deep(path: Path) -> None:
    flip(path, 5)


def redo(vault: Path, **options: object) -> RepairReport:
    return repair(vault, device="cpu", **options)  # type: ignore[arg-type]


def test_a_sound_vault_is_left_alone(vault: Path) -> None:
    before = marks_of(vault)
    report = redo(vault, full=True)
    assert report.ok
    assert (report.units, report.damages, report.bytes) == (0, (), 0)
    assert marks_of(vault) == before


def one_commit(vault: Path) -> Path:
    return vault / "commits" / "00000001.json"


def one_shard(vault: Path) -> Path:
    return shards(vault, "encoder/key")[2]


DAMAGES: dict[str, tuple[Callable[[Path], Path], Callable[[Path], None]]] = {
    "a commit changed": (one_commit, flip),
    "a commit lost": (one_commit, Path.unlink),
    "a shard lost": (one_shard, Path.unlink),
    "a shard cut": (one_shard, cut),
    "a byte changed": (one_shard, flip_deep),
    "outputs lost": (lambda vault: shards(vault, "logits")[0], Path.unlink),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_unit_alone_is_run_again_to_the_same_bytes(
    name: str, vault: Path, sound: Path
) -> None:
    choose, harm = DAMAGES[name]
    harm(choose(vault))
    before = marks_of(vault)
    report = redo(vault, full=name == "a byte changed")
    assert report.ok
    assert report.units == 1
    assert report.damages
    assert report.same is True
    assert files_of(vault) == files_of(sound)
    (unit,) = {unit for damage in report.damages for unit in damage.units}
    with qkvault.resume(vault) as writer:
        examples, group = writer.units[unit].examples, writer.units[unit].bucket
    assert report.examples == len(examples)
    own = (f"{group}/", f"commits/{unit:08d}", "manifest.json")
    after = marks_of(vault)
    assert {n: m for n, m in after.items() if not n.startswith(own)} == {
        n: m for n, m in before.items() if not n.startswith(own)
    }
    assert after["manifest.json"] != before["manifest.json"]


def test_a_hidden_damage_takes_the_full_check(vault: Path) -> None:
    flip_deep(one_shard(vault))
    assert redo(vault).damages == ()
    assert not qkvault.verify(vault, full=True).ok


def test_many_damages_at_once(vault: Path, sound: Path) -> None:
    shutil.rmtree(vault / "commits")
    for array in ("encoder/attention", "encoder/metrics"):
        shards(vault, array)[0].unlink()
    (vault / "manifest.json").unlink()
    steps: list[Progress] = []
    checks: list[tuple[int, int]] = []
    report = redo(vault, progress=steps.append, checking=lambda *share: checks.append(share))
    assert report.ok
    assert report.examples == steps[-1].done == len(LENGTHS)
    assert report.same is None
    assert files_of(vault) == files_of(sound)


@pytest.mark.parametrize("harm", [flip, Path.unlink, cut])
def test_a_manifest_needs_no_model(
    harm: Callable[[Path], None], vault: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvault_extractor.model.load_model", None)
    harm(vault / "manifest.json")
    report = redo(vault)
    assert (report.ok, report.units) == (True, 0)
    assert files_of(vault) == files_of(sound)


@pytest.mark.parametrize("names", [["zarr.json"], ["b0016/zarr.json"], ["b*/encoder/*/zarr.json"]])
def test_metadata_is_made_again_of_metadata(names: list[str], vault: Path, sound: Path) -> None:
    harmed = [path for name in names for path in vault.glob(name)]
    for path in harmed:
        path.unlink()
    shard = one_shard(vault)
    shard.unlink()
    report = redo(vault)
    assert report.ok
    assert sorted(report.restored) == sorted(str(path.relative_to(vault)) for path in harmed)
    assert report.units == 1
    assert files_of(vault) == files_of(sound)


def test_metadata_lost_with_its_copy_is_reported(vault: Path) -> None:
    for name in ("zarr.json", "b0016/encoder/key/zarr.json"):
        flip(vault / name)
    before = files_of(vault)
    report = redo(vault)
    assert {damage.path for damage in report.remaining} == {
        "zarr.json",
        "b0016/encoder/key/zarr.json",
    }
    assert files_of(vault) == before


def test_a_lost_index_is_reported_and_units_are_redone(vault: Path, sound: Path) -> None:
    hashes = vault / "examples" / "id_hash" / "c.0"
    flip(hashes, len(hashes.read_bytes()) - 1)
    one_shard(vault).unlink()
    report = redo(vault)
    assert [damage.path for damage in report.remaining] == ["examples/id_hash/c.0"]
    assert (report.ok, report.units, report.obstacle) == (False, 1, None)
    hashes.write_bytes((sound / "examples" / "id_hash" / "c.0").read_bytes())
    assert files_of(vault) == files_of(sound)


def test_a_unit_whose_records_are_lost_is_not_given_up(vault: Path) -> None:
    records = vault / "examples" / "records" / "c.0"
    flip(records, len(records.read_bytes()) - 1)
    one_shard(vault).unlink()
    before = marks_of(vault)
    report = redo(vault)
    assert {damage.path for damage in report.remaining} == {
        "examples/records/c.0",
        str(one_lost(report)),
    }
    assert report.obstacle is not None
    assert "cannot be run again" in report.obstacle
    assert report.units == 0
    assert marks_of(vault) == before


def one_lost(report: RepairReport) -> str:
    return next(damage.path for damage in report.remaining if damage.units)


def test_a_damaged_plan_ends_it(vault: Path, tmp_path: Path) -> None:
    flip(vault / "plan.json")
    with pytest.raises(VaultError, match=r"plan\.json"):
        redo(vault)
    with pytest.raises(VaultError, match="does not exist"):
        redo(tmp_path / "none")


def test_an_export_is_refused(sound: Path, tmp_path: Path) -> None:
    qkvault.export(sound, tmp_path / "e.h5", examples=[0])
    with pytest.raises(InputError, match="export"):
        redo(tmp_path / "e.h5")


@pytest.mark.parametrize("batches", [0, 1])
def test_a_repair_that_stopped_is_gone_on_with(
    batches: int, vault: Path, options: ExtractOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [shards(vault, "encoder/query")[at] for at in (0, 1, -1)]
    for shard in lost:
        shard.unlink()
    finish, seen = Packer.finish, []

    def finish_or_fail(self: Packer, logits: object) -> None:
        seen.append(1)
        if len(seen) > batches:
            raise KeyboardInterrupt
        finish(self, logits)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Packer, "finish", finish_or_fail)
        with pytest.raises(KeyboardInterrupt):
            redo(vault)
    assert qkvault.vault_state(vault) == "unfinished"
    with pytest.raises(VaultError, match="unfinished"):
        qkvault.open(vault)
    if batches:
        report = redo(vault)
        assert report.ok
        assert report.units == 2
    else:  # the extraction itself goes on, too
        extract(replace(options, out=vault))
    assert files_of(vault) == files_of(options.out)


def test_a_stop_between_commits_and_manifest_is_found(
    vault: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_shard(vault).unlink()
    unlink = Path.unlink

    def die_at_the_manifest(path: Path, missing_ok: bool = False) -> None:
        if path.name == "manifest.json":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die_at_the_manifest)
        with pytest.raises(KeyboardInterrupt):
            redo(vault)
    assert qkvault.vault_state(vault) == "complete"
    assert redo(vault).same is True
    assert files_of(vault) == files_of(sound)


def test_one_process_repairs_at_a_time(vault: Path) -> None:
    one_shard(vault).unlink()
    one_commit(vault).unlink()
    before = marks_of(vault)
    first = qkvault.diagnose(vault)
    lock = os.open(vault, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ResourceError, match="another process"):
        redo(vault)
    assert marks_of(vault) == before
    os.close(lock)
    assert redo(vault).ok
    redone = marks_of(vault)
    with first.withdraw() as writer:
        assert writer.pending() == []
    first.close()
    assert marks_of(vault) == redone


def test_a_withdrawn_commit_is_missed_by_who_has_seen_it(vault: Path) -> None:
    (vault / "manifest.json").unlink()
    with qkvault.resume(vault) as writer:
        assert writer.pending() == []
        one_commit(vault).unlink()
        with pytest.raises(VaultError, match=r"1 of \d+ units"):
            writer.finish()


def test_the_model_is_asked_for_and_held_to_the_plan(
    vault: Path, model: Path, tmp_path: Path
) -> None:
    one_shard(vault).unlink()
    before = marks_of(vault)
    other = tiny_bert(tmp_path / "other", labels=2, hidden_act="relu")
    with pytest.raises(PlanMismatch, match="differs in model"):
        redo(vault, model=str(other))
    retold = Path(shutil.copytree(model, tmp_path / "retold"))
    text = (retold / "tokenizer.json").read_text(encoding="utf-8")
    (retold / "tokenizer.json").write_text(text.replace('"rain"', '"reign"'), encoding="utf-8")
    with pytest.raises(PlanMismatch, match="differs in tokenizer"):
        redo(vault, model=str(retold))
    moved = model.rename(tmp_path / "moved")
    try:
        with pytest.raises(InputError, match="units to run, .*--model"):
            redo(vault)
        assert marks_of(vault) == before
        assert redo(vault, model=str(moved)).ok
    finally:
        moved.rename(model)


def test_an_unfinished_vault_is_finished(options: ExtractOptions, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Packer, "finish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            extract(replace(options, out=tmp_path / "half"))
    assert redo(tmp_path / "half").ok
    assert files_of(tmp_path / "half") == files_of(options.out)


def _interrupt(self: Packer, logits: object) -> None:
    raise KeyboardInterrupt


def test_a_derived_vault_is_repaired(options: ExtractOptions, tmp_path: Path) -> None:
    out = tmp_path / "derived"
    extract(replace(options, out=out, attention="derive"))
    before = files_of(out)
    for array in ("encoder/thumbnail", "encoder/query"):
        shards(out, array)[1].unlink()
    assert redo(out).same is True
    assert files_of(out) == before


def test_a_vault_of_format_1_is_repaired_in_it(options: ExtractOptions, tmp_path: Path) -> None:
    out = tmp_path / "old"
    make_spec = _Job._make_spec
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _Job, "_make_spec", lambda *given: replace(make_spec(*given), thumbnails="every")
        )
        extract(replace(options, out=out))
    before = files_of(out)
    for array in ("encoder/thumbnail", "encoder/query"):  # the first, of a bucket of few tokens
        shards(out, array)[0].unlink()
    assert redo(out).same is True
    assert files_of(out) == before
    with qkvault.open(out) as vault:
        assert vault.spec.format == "1.0"


def test_parts_of_the_model_are_copied_again_not_repaired(sound: Path, tmp_path: Path) -> None:
    heads = qkvault.copy(sound, tmp_path / "heads", heads=[3, 2, 1, 0]).path
    shards(heads, "encoder/key")[0].unlink()
    report = redo(heads)
    assert report.obstacle is not None
    assert "qkvault copy" in report.obstacle
    layers = qkvault.copy(sound, tmp_path / "layers", layers=[1]).path
    shards(layers, "encoder/key")[0].unlink()
    before = marks_of(layers)
    with pytest.raises(PlanMismatch, match="another shape"):
        redo(layers)
    assert marks_of(layers) == before


@pytest.mark.parametrize("how", ["copy", "append"])
def test_vaults_made_of_vaults_are_repaired(how: str, sound: Path, tmp_path: Path) -> None:
    one = qkvault.copy(sound, tmp_path / "one", examples=[6, 2, 0]).path
    two = qkvault.copy(sound, tmp_path / "two", examples=[1, 5]).path
    made = one if how == "copy" else qkvault.append(one, two, tmp_path / "both").path
    whole = Path(shutil.copytree(made, tmp_path / "whole"))
    for shard in shards(made, "encoder/attention"):
        shard.unlink()
    assert redo(made).ok
    # Other examples share a unit than did in the first vault: rounding may differ in the last bit.
    with qkvault.open(made) as found, qkvault.open(whole) as before:
        for ours, theirs in zip(found, before, strict=True):
            assert ours.id == theirs.id
            assert abs(ours.attention[:, :] - theirs.attention[:, :]).max() <= 2e-5
            assert abs(ours.query[:, :] - theirs.query[:, :]).max() <= 1e-2
