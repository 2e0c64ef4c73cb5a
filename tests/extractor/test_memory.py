"""Devices that run out of memory, and where the time of a run goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import qkvault
from extractor.models import tiny_bert, write_texts
from qkvault import ResourceError
from qkvault_extractor import STAGES, ExtractOptions, ExtractReport, extract
from qkvault_extractor.model import LoadedModel
from qkvault_extractor.run import Worker
from qkvault_extractor.stopwatch import Profile, Stopwatch

LENGTHS = [20] * 24 + [60] * 6 + [5] * 9


def options_for(tmp_path: Path, **changes: Any) -> ExtractOptions:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    model = tmp_path / "model"
    if not model.exists():
        tiny_bert(model)
    given: dict[str, Any] = {"out": tmp_path / "out.vault", "batch_tokens": 400, **changes}
    return ExtractOptions(model=str(model), data=(str(data),), device="cpu", **given)


def lack_memory(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let a model run out of memory on batches of more tokens, in the middle of its layers."""
    forward, fill = LoadedModel.forward, Worker._fill
    sizes: list[int] = []

    def run_out(self: LoadedModel, records: Any, **given: Any) -> Any:
        sizes.append(sum(len(record.tokens) for record in records))
        if sizes[-1] <= most:
            return forward(self, records, **given)
        layer = self.model.encoder.layer[1]
        handle = layer.register_forward_pre_hook(_raise)
        try:
            return forward(self, records, **given)
        finally:
            handle.remove()

    def limited(self: Worker, buffer: Any) -> Any:  # not where the model is probed
        with monkeypatch.context() as patch:
            patch.setattr(LoadedModel, "forward", run_out)
            return fill(self, buffer)

    monkeypatch.setattr(Worker, "_fill", limited)
    return sizes


def _raise(*_: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_batches_are_halved_until_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = options_for(tmp_path, out=tmp_path / "usual.vault")
    assert extract(usual).profile.halved == 0
    with monkeypatch.context() as patch:
        sizes = lack_memory(130, patch)
        short = options_for(tmp_path)
        report = extract(short)
    failed = [size for size in sizes if size > 130]
    assert report.profile.halved >= len(failed) > 0
    assert len(failed) <= 5, "a size that failed is not tried again"
    with qkvault.open(usual.out) as whole, qkvault.open(short.out) as made:
        assert len(made) == len(LENGTHS)
        for ours, theirs in zip(made, whole, strict=True):
            for layer in range(3):
                drift = abs(ours.attention[layer] - theirs.attention[layer]).max()
                assert drift < 3e-5, "rounding only"


def test_batches_follow_from_the_plan_where_memory_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = options_for(tmp_path, out=tmp_path / "usual.vault")
    extract(usual)
    with monkeypatch.context() as patch:
        lack_memory(10**6, patch)
        extract(options_for(tmp_path))
    assert qkvault.open(usual.out).digest == qkvault.open(tmp_path / "out.vault").digest


def test_one_example_that_does_not_fit_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        lack_memory(30, patch)
        with pytest.raises(ResourceError, match="not the memory for one example of 62 tokens"):
            extract(options_for(tmp_path))
    assert not extract(options_for(tmp_path)).already_complete, "it can be gone on with"


def test_a_report_tells_where_the_time_went(tmp_path: Path) -> None:
    report: ExtractReport = extract(options_for(tmp_path))
    profile = report.profile
    assert set(profile.seconds) <= set(STAGES)
    needed = {"read", "tokenize", "load", "plan", "forward", "pack", "copy", "compress", "write"}
    assert needed <= set(profile.seconds)
    here = sum(s for name, s in profile.seconds.items() if name not in ("compress", "write"))
    assert here <= profile.wall == report.seconds
    assert here > 0.5 * profile.wall, "what takes long has a name"
    assert profile.limit in profile.seconds


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [
        ({"forward": 6.0, "pack": 2.0, "compress": 7.0, "wait": 0.5}, "forward"),
        ({"forward": 2.0, "compress": 3.0, "write": 8.0, "wait": 5.0}, "write"),
        ({"forward": 2.0, "compress": 9.0, "write": 3.0, "wait": 5.0}, "compress"),
        ({"forward": 1.0, "copy": 4.0}, "copy"),
        ({"tokenize": 6.0, "forward": 1.0, "write": 2.0, "wait": 1.5}, "tokenize"),
        ({"load": 3.0, "forward": 2.0, "write": 4.0, "wait": 2.0}, "write"),
        ({}, "load"),
    ],
)
def test_what_limits_a_run(seconds: dict[str, float], limit: str) -> None:
    assert Profile(seconds, wall=10.0).limit == limit


def test_a_stage_within_another_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0, 6.0, 10.0, 15.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = Stopwatch()
    with watch.stage("forward"), watch.stage("pack"):
        pass
    profile = watch.profile()
    assert profile.seconds == {"forward": 2.0 + 4.0, "pack": 3.0}
    assert profile.wall == 15.0
