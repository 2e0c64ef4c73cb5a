"""The profile of a run: its lines make up the wall time, and what it names as the limit is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extractor.models import tiny_bert, write_texts
from qkvault_extractor import ExtractOptions, Profile, extract
from qkvault_extractor.encoders import FastEncoder
from qkvault_extractor.model import LoadedModel
from qkvault_extractor.stopwatch import OVERLAPPED

LENGTHS = [30] * 40 + [12] * 20


def slowed(call: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(seconds)
        return call(*given, **named)

    return slow


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Profile]:
    """Profiles of a run of some twenty units."""
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 1 << 18)
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    model = tiny_bert(tmp_path / "model")

    def run() -> Profile:
        options = ExtractOptions(str(model), (str(data),), tmp_path / "o.vault", device="cpu")
        return extract(options).profile

    return run


def test_the_lines_make_up_the_wall_time(profile: Callable[[], Profile]) -> None:
    found = profile()
    here = sum(s for stage, s in found.seconds.items() if stage not in OVERLAPPED)
    assert 0.9 * found.wall <= here <= found.wall, found


def test_a_slow_disk_is_the_limit(
    profile: Callable[[], Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvault import disk

    monkeypatch.setattr(disk, "write_buffers", slowed(disk.write_buffers, 0.01))
    found = profile()
    assert found.limit == "write", found
    assert found.seconds["wait"] > found.seconds["forward"], found


def test_slow_compression_is_the_limit(
    profile: Callable[[], Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvault import packing

    monkeypatch.setattr(packing, "encode_group", slowed(packing.encode_group, 0.03))
    assert profile().limit == "compress"


def test_a_slow_tokenizer_is_the_limit(
    profile: Callable[[], Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastEncoder, "encode", slowed(FastEncoder.encode, 2.0))
    found = profile()
    assert found.limit == "tokenize", found
    assert found.seconds["tokenize"] >= 2.0


def test_a_slow_forward_pass_is_the_limit(
    profile: Callable[[], Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "forward", slowed(LoadedModel.forward, 0.1))
    assert profile().limit == "forward"
