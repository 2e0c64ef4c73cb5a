"""Plan, then run: here, by parts, or on any executor; always the same bytes."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qkvault
from extractor.models import overflow_on, tiny_bert, tiny_gpt2, write_texts
from qkvault import InputError, PlanMismatch, ResourceError
from qkvault_extractor import ExtractOptions, Part, Progress, extract, jobs, plan, run_vault
from qkvault_extractor.driving import Done, InProcess, drive
from qkvault_extractor.pack import Packer

LENGTHS = [3, 12, 12, 12, 5, 40, 66, 70, 12, 1, 100, 33, 20, 51]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def options(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExtractOptions:
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 100 << 10)
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    return ExtractOptions(str(model), (str(data),), tmp_path / "out.vault", device="cpu")


@pytest.fixture(autouse=True)
def no_worker_is_kept() -> Any:
    yield
    jobs._worker.cache_clear()
    jobs._stopping.clear()


def files_of(vault: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(vault)): path.read_bytes()
        for path in sorted(vault.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def truth(options: ExtractOptions) -> dict[str, bytes]:
    """The files of the same extraction in one go."""
    whole = replace(options, out=options.out.with_name("whole.vault"))
    extract(whole)
    return files_of(whole.out)


def test_a_plan_is_run_without_the_data(options: ExtractOptions, truth: dict[str, bytes]) -> None:
    report = plan(options)
    assert (report.already_planned, report.examples, report.done) == (False, len(LENGTHS), 0)
    assert report.units > 5
    assert qkvault.vault_state(options.out) == "unfinished"
    Path(options.data[0]).unlink()
    steps: list[Progress] = []
    ran = run_vault(options.out, progress=steps.append)
    assert (ran.complete, ran.pending, ran.units) == (True, 0, report.units)
    assert ran.bytes == sum(p.stat().st_size for p in options.out.glob("b*/**/c*"))
    assert (steps[-1].done, steps[-1].total, steps[-1].eta_s) == (len(LENGTHS), len(LENGTHS), 0.0)
    assert files_of(options.out) == truth


def test_planning_again_changes_nothing_and_another_plan_is_refused(
    options: ExtractOptions,
) -> None:
    plan(options)
    before = files_of(options.out)
    assert plan(options).already_planned
    with pytest.raises(PlanMismatch, match="precision"):
        plan(replace(options, precision="uint8"))
    assert files_of(options.out) == before


def test_parts_divide_the_units_and_the_last_one_finishes(
    options: ExtractOptions, truth: dict[str, bytes]
) -> None:
    units = plan(options).units
    first = run_vault(options.out, part=Part(0, 3))
    assert (first.complete, first.units) == (False, len(range(0, units, 3)))
    assert first.pending == units - first.units
    assert run_vault(options.out, part=Part(0, 3)).units == 0, "its own part is done"
    second = run_vault(options.out, part=Part(2, 3))
    last = run_vault(options.out, part=Part(1, 3))
    assert (second.complete, last.complete) == (False, True)
    assert first.units + second.units + last.units == units
    assert files_of(options.out) == truth


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_impossible_parts_are_refused(index: int, count: int) -> None:
    with pytest.raises(InputError, match="0 to N - 1"):
        Part(index, count)


def test_any_executor_gives_the_same_bytes(
    options: ExtractOptions, truth: dict[str, bytes]
) -> None:
    plan(options)
    steps: list[Progress] = []
    with ThreadPoolExecutor(3) as executor:
        report = run_vault(options.out, executor, window=6, progress=steps.append)
    assert report.complete
    assert steps[-1].done == len(LENGTHS)
    assert files_of(options.out) == truth


def test_extract_takes_an_executor(options: ExtractOptions, truth: dict[str, bytes]) -> None:
    with ThreadPoolExecutor(2) as executor:
        assert extract(options, executor=executor).examples == len(LENGTHS)
    assert files_of(options.out) == truth


def test_a_worker_that_sees_another_vault_refuses(options: ExtractOptions) -> None:
    plan(options)
    job = jobs.Job(str(options.out), "0" * 64, device="cpu")
    with pytest.raises(PlanMismatch, match="same folder"):
        jobs.run_unit(job, 0)


def test_another_model_is_refused(options: ExtractOptions, tmp_path: Path) -> None:
    plan(options)
    other = tiny_gpt2(tmp_path / "gpt2")
    with pytest.raises(PlanMismatch, match="not made with"):
        run_vault(options.out, model=str(other))


def test_a_worker_told_to_stop_drops_its_unit_and_its_claim(options: ExtractOptions) -> None:
    plan(options)
    with qkvault.resume(options.out) as writer:
        job = jobs.Job.of(writer, None, "cpu", None)
    jobs.stop()
    with pytest.raises(jobs.Stopped):
        jobs.run_unit(job, 0)
    assert not list(options.out.glob(".partial/*"))


def test_units_of_others_are_waited_for(
    options: ExtractOptions, truth: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(options)
    monkeypatch.setattr("qkvault_extractor.running.POLL_S", 0.05)
    with qkvault.resume(options.out) as writer:
        buffer = writer.begin(writer.units[1])
        timer = threading.Timer(0.5, buffer.claim.release)
        timer.start()
        report = run_vault(options.out, patience_s=20)
        timer.join()
    assert report.complete
    assert files_of(options.out) == truth


def test_units_that_others_keep_are_told(options: ExtractOptions) -> None:
    plan(options)
    with qkvault.resume(options.out) as writer:
        buffer = writer.begin(writer.units[1])
        with pytest.raises(ResourceError, match="still being written by another process: 1"):
            run_vault(options.out, patience_s=0)
        found = qkvault.status(options.out)
        assert (found.running, found.done, found.complete) == (1, found.units - 1, False)
        assert found.eta_s is None or found.eta_s > 0
        buffer.claim.release()
    assert run_vault(options.out).complete


def test_an_error_of_a_unit_comes_up_and_the_rest_is_cancelled(
    options: ExtractOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(options)
    finish = Packer.finish

    def fail(self: Packer, logits: Any) -> None:
        raise ResourceError("no memory")

    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as executor:
        patch.setattr(Packer, "finish", fail)
        with pytest.raises(ResourceError, match="no memory"):
            run_vault(options.out, executor, window=4)
    assert Packer.finish is finish
    assert not list(options.out.glob(".partial/*")), "claims are given back"
    assert run_vault(options.out).complete


class Recorder(Executor):
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        if len(self.futures) % 3 == 0:
            for waiting in self.futures:
                if not waiting.done():
                    waiting.set_result(Done(0, 1))
        return future


def test_no_more_than_a_window_is_handed_over() -> None:
    executor, most = Recorder(), []

    def received(done: Done) -> None:
        most.append(sum(not future.done() for future in executor.futures))

    drive(lambda unit: unit, range(9), executor, 3, received)
    assert len(most) == 9
    assert max(sum(not f.done() for f in executor.futures), *most) <= 3


def test_in_process_runs_in_the_callers_thread() -> None:
    executor = InProcess()
    assert executor.submit(threading.get_ident).result() == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        executor.submit(lambda: 1 // 0).result()
    with pytest.raises(KeyboardInterrupt):
        executor.submit(_interrupt)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_status_tells_pace_and_time_left(options: ExtractOptions) -> None:
    units = plan(options).units
    found = qkvault.status(options.out)
    assert (found.done, found.running, found.pending, found.bytes_done) == (0, 0, units, 0)
    assert (found.examples_per_s, found.eta_s, found.idle_s) == (None, None, None)

    run_vault(options.out, part=Part(0, 2))
    now = time.time()
    commits = sorted((options.out / "commits").iterdir())
    for place, commit in enumerate(commits):  # one each ten seconds, the last just now
        at = now - 10 * (len(commits) - 1 - place)
        os.utime(commit, (at, at))
    with qkvault.resume(options.out) as writer:
        buffer = writer.begin(writer.pending()[0])
        found = qkvault.status(options.out)
        buffer.claim.release()
        rows = [len(writer.units[int(c.stem)].lengths) for c in commits]
    assert found.done == len(commits)
    assert (found.running, found.stale) == (1, 0)
    assert found.pending == units - len(commits) - 1
    assert found.examples_per_s == pytest.approx(sum(rows[1:]) / (10 * (len(commits) - 1)))
    assert found.eta_s is not None
    assert found.eta_s > 0
    assert found.idle_s == pytest.approx(0, abs=5)

    run_vault(options.out)
    found = qkvault.status(options.out)
    assert (found.complete, found.done, found.eta_s, found.pending) == (True, units, 0.0, 0)
    assert found.bytes_done == sum(p.stat().st_size for p in options.out.glob("b*/**/c*"))


def test_claims_of_the_dead_are_told_apart(options: ExtractOptions) -> None:
    plan(options)
    with qkvault.resume(options.out) as writer:
        buffer = writer.begin(writer.units[0])
        lease = options.out / ".partial" / "00000000.claim"
        long_ago = time.time() - qkvault.LEASE_S - 60
        os.utime(lease, (long_ago, long_ago))
        found = qkvault.status(options.out)
        buffer.claim.release()
    assert (found.running, found.stale) == (0, 1)
    assert found.pending == found.units


@pytest.mark.parametrize("attention", ["store", "derive"])
def test_rows_that_overflow_are_left_out_by_any_executor(
    attention: Any, model: Path, options: ExtractOptions, tmp_path: Path
) -> None:
    spoilt = str(overflow_on("snow", model, tmp_path / "spoilt"))
    data = Path(options.data[0])
    lines = data.read_text("utf-8").replace("snow", "rain").splitlines(keepends=True)
    lines[3] = json.dumps({"text": "the snow", "id": "bad"}) + "\n"
    data.write_text("".join(lines), encoding="utf-8")
    given = replace(options, model=spoilt, attention=attention)
    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(InputError, match=r"texts.jsonl line 4: .* of layer 0 is not finite"):
            extract(given, executor=executor)
        report = extract(replace(given, on_bad="skip"), executor=executor)
    assert (report.examples, report.rejected) == (len(LENGTHS) - 1, 1)
    here = replace(given, on_bad="skip", out=tmp_path / "here.vault")
    extract(here)
    assert files_of(options.out) == files_of(here.out)
    assert qkvault.verify(options.out, full=True).ok
