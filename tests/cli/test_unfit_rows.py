"""Rows that only a run shows to be of no use: the model gives nothing finite, or a device has not
the memory. It stops and names the row, or leaves it out; what is written of others stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qkvault
from cli.commands import GOOD, assert_told, extract, files_below, run, whole, write_rows
from extractor.models import overflow_on

OVERFLOWING = (
    GOOD,
    {"text": "snow and the dog", "id": "bad"},
    {"text": "a cat and a dog", "id": "b"},
    {"text": "a big red rug with snow", "id": "worse"},
    {"text": "the night was long and quiet and nobody heard the dog by the lake", "id": "long"},
)
NOT_FINITE = "the attention of layer 0 is not finite"


def test_values_that_are_not_finite_stop_the_run(models: dict[str, Path], tmp_path: Path) -> None:
    model = overflow_on("snow", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    stopped = extract(model, data, out, "--id-column", "id")
    assert_told(stopped, 2, f"data.jsonl line 2: {NOT_FINITE}", "--dtype float32", "--on-bad skip")
    assert qkvault.vault_state(out) == "unfinished", "it can be gone on with"
    with pytest.raises(qkvault.VaultError, match="never extracted"):
        qkvault.open(out, partial=True).by_id("bad").attention[0]
    assert run("run", out).exit_code == 2
    assert f"example bad: {NOT_FINITE}" in run("run", out).stderr


def test_rows_that_overflow_are_left_out_as_if_they_had_not_been_there(
    models: dict[str, Path], tmp_path: Path
) -> None:
    model = overflow_on("snow", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    assert extract(model, data, out, "--id-column", "id").exit_code == 2
    done = extract(model, data, out, "--id-column", "id", "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "3 examples, 2 rejected" in done.stdout
    rejected = json.loads(run("info", out, "--json").stdout)["rejected"]
    assert [(r["row"], r["id"], r["source"]) for r in rejected] == [
        (1, "bad", "data.jsonl line 2"),
        (3, "worse", "data.jsonl line 4"),
    ]
    assert {r["reason"] for r in rejected} == {NOT_FINITE}
    shown = run("info", out).stdout
    assert NOT_FINITE in shown
    assert "nan" not in shown.lower()
    verified = run("verify", out, "--full")
    assert verified.exit_code == 0, verified.output
    assert "already complete" in extract(model, data, out, "--id-column", "id").stdout

    sound = tuple(row for row in OVERFLOWING if "snow" not in row["text"])
    other = tmp_path / "sound.vault"
    assert extract(model, write_rows(tmp_path, sound), other, "--id-column", "id").exit_code == 0
    arrays = {name: data for name, data in files_below(out).items() if name.startswith("b")}
    same = files_below(other)
    assert arrays.keys() == {name for name in same if name.startswith("b")}
    with qkvault.open(out) as ours, qkvault.open(other) as theirs:
        assert [example.id for example in ours] == [example.id for example in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert (a.attention[0] == b.attention[0]).all()
            assert (a.value[2] == b.value[2]).all()


def test_the_longest_text_may_overflow(models: dict[str, Path], tmp_path: Path) -> None:
    """The model is tried on it before anything is planned."""
    model = overflow_on("lake", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    assert_told(extract(model, data, out), 2, f"data.jsonl line 5: {NOT_FINITE}")
    assert not out.exists()
    done = extract(model, data, out, "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "4 examples, 1 rejected" in done.stdout


@pytest.mark.parametrize("more", [(), ("--on-bad", "skip")])
def test_a_model_that_gives_nothing_finite_is_refused(
    more: tuple[str, ...], models: dict[str, Path], tmp_path: Path
) -> None:
    model = overflow_on("[CLS]", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    assert_told(extract(model, data, out, *more), 2, NOT_FINITE)
    assert not out.exists()


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Let forward passes of more tokens run out of a device's memory, once units are filled."""
    import torch

    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.run import Worker

    def limit(most: int) -> list[int]:
        forward, fill = LoadedModel.forward, Worker._fill
        tried: list[int] = []

        def run_out(self: LoadedModel, records: Any, **given: Any) -> Any:
            tried.append(sum(len(record.tokens) for record in records))
            if tried[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(self, records, **given)

        def limited(self: Worker, buffer: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(LoadedModel, "forward", run_out)
                return fill(self, buffer)

        monkeypatch.setattr(Worker, "_fill", limited)
        return tried

    return limit


MANY = tuple({"text": "the cat sat on the mat"} for _ in range(9))  # of 8 tokens each
TOO_LARGE = ({"text": " ".join(["cat"] * 100)}, *MANY)


def test_batches_that_do_not_fit_are_halved_and_the_size_is_kept_and_noted(
    models: dict[str, Path], tmp_path: Path, little_memory: Callable[[int], list[int]]
) -> None:
    tried = little_memory(20)
    data, out = write_rows(tmp_path, MANY + MANY), tmp_path / "out.vault"
    assert extract(whole(models), data, out).exit_code == 0
    assert [size for size in tried if size > 20] == [144, 72, 40, 24], "none is tried twice"
    commits = [json.loads(path.read_bytes()) for path in (out / "commits").iterdir()]
    assert [commit["batches_below"] for commit in commits] == [24]
    assert run("verify", out, "--full").exit_code == 0


def test_one_example_that_does_not_fit_stops_or_is_left_out(
    models: dict[str, Path], tmp_path: Path, little_memory: Callable[[int], list[int]]
) -> None:
    little_memory(40)
    data, out = write_rows(tmp_path, TOO_LARGE), tmp_path / "out.vault"
    says = ("data.jsonl line 1: cpu has not the memory for one example of 102 tokens",)
    assert_told(extract(whole(models), data, out), 4, *says, "--on-bad skip")
    done = extract(whole(models), data, out, "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "9 examples, 1 rejected" in done.stdout
    assert "has not the memory for one example" in run("info", out).stdout
    assert run("verify", out, "--full").exit_code == 0
