"""Runs that are interrupted, gone on with, refused or reported on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qkvault
import qkvault.writer
from extractor.models import tiny_bert, tiny_gpt2, write_texts
from qkvault import InputError, PlanMismatch, ResourceError, VaultError
from qkvault_extractor import ExtractOptions, Progress, extract
from qkvault_extractor.pack import Packer

ROOT = Path(__file__).parents[2]
LENGTHS = [3, 12, 12, 12, 5, 40, 66, 70, 12, 1, 100, 33, 20, 51]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def options(model: Path, tmp_path: Path) -> ExtractOptions:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    return ExtractOptions(
        str(model), (str(data),), tmp_path / "out.vault", id_column="id", device="cpu"
    )


def files_of(vault: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(vault)): path.read_bytes()
        for path in sorted(vault.rglob("*"))
        if path.is_file()
    }


def fail_after(batches: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise in the middle of a unit, once so many batches have been packed."""
    finish, seen = Packer.finish, []

    def finish_or_fail(self: Packer, logits: Any) -> None:
        seen.append(1)
        if len(seen) > batches:
            raise error
        finish(self, logits)

    monkeypatch.setattr(Packer, "finish", finish_or_fail)


def test_a_run_reports_what_it_did(options: ExtractOptions) -> None:
    steps: list[Progress] = []
    report = extract(options, steps.append)
    assert (report.examples, report.rejected, report.already_complete) == (len(LENGTHS), 0, False)
    assert report.bytes == sum(p.stat().st_size for p in options.out.glob("b*/**/c*"))
    assert report.seconds > 0
    last = steps[-1]
    assert (last.done, last.total, last.eta_s) == (len(LENGTHS), len(LENGTHS), 0.0)
    assert last.examples_per_s > 0
    assert [step.done for step in steps] == sorted({step.done for step in steps})


def test_dataset_order_is_kept(options: ExtractOptions) -> None:
    extract(options)
    with qkvault.open(options.out) as vault:
        assert [example.id for example in vault] == [f"r{i}" for i in range(len(LENGTHS))]
        assert [example.length - 2 for example in vault] == LENGTHS


def test_again_says_that_it_is_complete(options: ExtractOptions) -> None:
    extract(options)
    before = files_of(options.out)
    report = extract(options)
    assert (report.already_complete, report.examples, report.bytes) == (True, len(LENGTHS), 0)
    assert files_of(options.out) == before


@pytest.mark.parametrize("batches", [0, 5])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    options: ExtractOptions, batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = replace(options, out=options.out.with_name("whole.vault"))
    extract(whole)
    with monkeypatch.context() as patch:
        fail_after(batches, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            extract(options)
    assert qkvault.vault_state(options.out) == "unfinished"
    with qkvault.resume(options.out) as writer:
        left = len(writer.pending())
        done = sum(len(u.examples) for u in writer.units) - sum(
            len(u.examples) for u in writer.pending()
        )
    assert left > 0
    assert batches == 0 or done > 0

    steps: list[Progress] = []
    extract(options, steps.append)
    assert steps[0].done > done
    assert files_of(options.out) == files_of(whole.out)


def test_sigterm_leaves_a_vault_to_go_on_with(options: ExtractOptions) -> None:
    def stop(step: Progress) -> None:
        if step.done > 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        extract(options, stop)
    assert ended.value.code == 128 + signal.SIGTERM
    assert qkvault.vault_state(options.out) == "unfinished"
    with qkvault.resume(options.out) as writer:
        assert 0 < len(writer.pending()) < len(writer.units)
    assert extract(options).examples == len(LENGTHS)


def test_the_handler_of_sigterm_is_put_back(options: ExtractOptions) -> None:
    before = signal.getsignal(signal.SIGTERM)
    extract(options)
    assert signal.getsignal(signal.SIGTERM) is before


def test_extraction_runs_in_any_thread(options: ExtractOptions) -> None:
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(extract(options)))
    thread.start()
    thread.join()
    assert reports[0].examples == len(LENGTHS)


def test_an_error_while_writing_comes_up_and_the_run_goes_on_later(
    options: ExtractOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, seen = qkvault.writer.VaultWriter.commit, []

    def commit_or_fail(self: Any, buffer: Any) -> Any:
        seen.append(buffer.unit.id)
        if len(seen) == 2:
            buffer.claim.release()
            raise ResourceError("disk full")
        return commit(self, buffer)

    with monkeypatch.context() as patch:
        patch.setattr(qkvault.writer.VaultWriter, "commit", commit_or_fail)
        with pytest.raises(ResourceError, match="disk full"):
            extract(options)
    assert qkvault.vault_state(options.out) == "unfinished"
    with qkvault.resume(options.out) as writer:
        assert len(seen) < len(writer.units), "the run should stop soon after"
        assert seen[1] in [unit.id for unit in writer.pending()]
    extract(options)
    with qkvault.open(options.out) as vault:
        assert len(list(vault)) == len(LENGTHS)


def other_texts(options: ExtractOptions) -> ExtractOptions:
    data = Path(options.data[0])
    changed = data.with_name("changed.jsonl")
    text = data.read_text(encoding="utf-8").replace('"text": "', '"text": "cat ', 1)
    changed.write_text(text, encoding="utf-8")
    return replace(options, data=(str(changed),))


def other_model(options: ExtractOptions) -> ExtractOptions:
    return replace(options, model=str(tiny_gpt2(options.out.parent / "gpt2")))


@pytest.fixture(scope="module", params=["complete", "unfinished"])
def begun(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> ExtractOptions:
    """What a vault that is complete, or not, was begun with."""
    folder = tmp_path_factory.mktemp("begun")
    data = write_texts(folder / "texts.jsonl", LENGTHS)
    options = ExtractOptions(str(model), (str(data),), folder / "out.vault", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "unfinished":
            fail_after(2, KeyboardInterrupt(), patch)
        with contextlib.suppress(KeyboardInterrupt):
            extract(options)
    assert qkvault.vault_state(options.out) == request.param
    return options


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda o: replace(o, precision="uint8"), r'precision \(was "uint16", now "uint8"\)'),
        (lambda o: replace(o, arrays=("query", "key")), "arrays"),
        (lambda o: replace(o, max_length=120), r"max_length \(was 160, now 120\)"),
        (lambda o: replace(o, truncate=True), r"truncate \(was false, now true\)"),
        (lambda o: replace(o, limit=5), "data"),
        (other_texts, "data"),
        (other_model, "model .*tokenizer"),
    ],
)
def test_another_plan_is_refused(
    begun: ExtractOptions, change: Callable[[ExtractOptions], ExtractOptions], named: str
) -> None:
    before = files_of(begun.out)
    with pytest.raises(PlanMismatch, match=f"another plan; it differs in {named}"):
        extract(change(begun))
    assert files_of(begun.out) == before


def test_how_many_tokens_a_batch_holds_may_change(
    options: ExtractOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_after(3, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            extract(options)
    assert extract(replace(options, batch_tokens=64)).examples == len(LENGTHS)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_no_vault_is_left_alone(options: ExtractOptions, what: str) -> None:
    if what == "file":
        options.out.write_text("mine")
    else:
        options.out.mkdir()
        (options.out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="give a new folder, or a vault to go on with"):
        extract(options)
    kept = options.out if what == "file" else options.out / "thesis.txt"
    assert kept.read_text() == "mine"


def test_an_empty_folder_is_filled(options: ExtractOptions) -> None:
    options.out.mkdir()
    assert extract(options).examples == len(LENGTHS)


def test_a_damaged_plan_is_told(options: ExtractOptions) -> None:
    extract(options)
    plan = options.out / "plan.json"
    plan.write_bytes(plan.read_bytes()[:-20])
    with pytest.raises(VaultError):
        extract(options)


def break_data(options: ExtractOptions) -> ExtractOptions:
    with Path(options.data[0]).open("a", encoding="utf-8") as file:
        file.write('{"text": \n')
    return options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda o: replace(o, data=("nowhere.jsonl",)), "nowhere.jsonl"),
        (break_data, "texts.jsonl line 15"),
        (lambda o: replace(o, text_columns=("txt",)), "text"),
        (lambda o: replace(o, max_length=40), "42 tokens where --max-length takes 40"),
        (lambda o: replace(o, max_length=500), "--max-length 500 is more than the 160"),
        (lambda o: replace(o, model="./nowhere"), "no such folder"),
        (lambda o: replace(o, out=o.out / "a" / "b"), "there is no folder"),
        (lambda o: replace(o, device="cuda:9"), "no device cuda:9"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    options: ExtractOptions,
    change: Callable[[ExtractOptions], ExtractOptions],
    message: str,
) -> None:
    before = {path.name for path in options.out.parent.iterdir()}
    with pytest.raises(qkvault.QKVaultError, match=message) as caught:
        extract(change(options))
    assert "\n" not in str(caught.value)
    assert {path.name for path in options.out.parent.iterdir()} == before


def test_bad_data_is_told_before_torch_is_imported(options: ExtractOptions) -> None:
    code = (
        "import sys\n"
        "from qkvault_extractor import ExtractOptions, extract\n"
        "try:\n"
        "    extract(ExtractOptions('./nowhere', ('nowhere.csv',), 'x.vault'))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    path = os.pathsep.join(str(ROOT / name) for name in ("store", "extractor"))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    first, second = ended.stdout.splitlines()
    assert first.startswith("InputError")
    assert "nowhere.csv" in first
    assert second == "False False"


def test_rows_that_are_skipped_are_listed(options: ExtractOptions) -> None:
    with Path(options.data[0]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"text": "", "id": "empty"}) + "\n")
    report = extract(replace(options, on_bad="skip", max_length=60))
    assert (report.examples, report.rejected) == (len(LENGTHS) - 3, 4)
    lines = (options.out / "rejects.jsonl").read_text(encoding="utf-8").splitlines()
    listed = [json.loads(line) for line in lines]
    assert [reject["id"] for reject in listed] == ["r6", "r7", "r10", "empty"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"precision": "uint4"}, "unknown precision 'uint4'; choose from float32"),
        ({"arrays": ("keys",)}, "unknown array 'keys'; choose from attention"),
        ({"arrays": ()}, "no array to keep"),
        ({"data": ()}, "no data given"),
        ({"on_bad": "weep"}, "unknown on_bad 'weep'"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_options_that_can_never_work(
    options: ExtractOptions, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        replace(options, **wrong)


def test_transformers_is_kept_quiet(
    options: ExtractOptions, capfd: pytest.CaptureFixture[str]
) -> None:
    extract(options)
    assert capfd.readouterr() == ("", "")


def test_only_the_arrays_asked_for_are_kept(options: ExtractOptions) -> None:
    extract(replace(options, arrays=("key", "query")))
    with qkvault.open(options.out) as vault:
        assert vault.spec.arrays == ("query", "key")
        assert vault[0].query[0, 0].shape == (LENGTHS[0] + 2, 8)
        with pytest.raises(qkvault.MissingArray):
            vault[0].attention[0, 0]
