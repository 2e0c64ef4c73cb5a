"""Memory that does not grow: with the corpus, or with how slow the disk is."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import qkvault
import qkvault.writer
from extractor.models import tiny_bert, write_texts
from qkvault import Record, Target
from qkvault_extractor import ExtractOptions, extract
from qkvault_extractor.run import UNITS_AT_ONCE
from qkvault_extractor.spool import RecordSpool

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_memory.py"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_memory", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_memory"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("model", ["small", "tiny"])
def test_peak_memory_does_not_grow_with_the_corpus(model: str) -> None:
    peaks = load_script().measure([2000, 20000], model)
    assert peaks[20000] <= 1.1 * peaks[2000], peaks


def test_units_do_not_pile_up_before_a_slow_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 1 << 18)  # many units of few rows
    live, most = 0, 0
    lock = threading.Lock()
    memories: set[int] = set()
    begin, commit = qkvault.writer.VaultWriter.begin, qkvault.writer.VaultWriter.commit

    def count(self: Any, unit: Any) -> Any:
        nonlocal live, most
        with lock:
            live += 1
            most = max(most, live)
        buffer = begin(self, unit)
        memories.add(buffer.memory.ctypes.data)
        return buffer

    def crawl(self: Any, buffer: Any) -> Any:
        nonlocal live
        time.sleep(0.03)
        receipt = commit(self, buffer)
        with lock:
            live -= 1
        return receipt

    monkeypatch.setattr(qkvault.writer.VaultWriter, "begin", count)
    monkeypatch.setattr(qkvault.writer.VaultWriter, "commit", crawl)
    data = write_texts(tmp_path / "texts.jsonl", [30] * 60)
    model = tiny_bert(tmp_path / "model")
    options = ExtractOptions(str(model), (str(data),), tmp_path / "o.vault", device="cpu")
    extract(options)
    with qkvault.open(options.out) as vault:
        assert vault.info()["units"] > 10
    assert most <= UNITS_AT_ONCE == 2, "one is filled, one written"
    assert len(memories) <= UNITS_AT_ONCE, "their memory is used again"


def test_packed_records_come_back_as_they_were() -> None:
    plain = Record(
        id="a",
        text=("Ünder 你", "zwei"),
        tokens=("[CLS]", "ü", "你"),
        token_ids=(1, 70000, 3),
        segments=(0, 0, 1),
        special=(1, 0, 0),
        offsets=((0, 0), (0, 5), (6, 7)),
        words=(-1, 0, 0),
        label=0.1,
        columns={"tags": ["B", None, 1.5], "more": {"x": [True]}},
    )
    target = Target("ziel", ("</s>", "z"), (2, 9), (1, 0), ((0, 0), (0, 1)), (-1, 0))
    both = [plain, Record("b", ("x",), ("x",), (5,), (0,), (0,), target=target)]
    spool = RecordSpool(both)
    spool.append(both[0])
    assert list(spool) == [*both, both[0]]
    assert spool[1].target == target
    assert spool[1:] == [both[1], both[0]]
    assert len(spool) == 3


def test_a_spool_of_many_records_gives_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qkvault_extractor.spool._BLOCK", 4)
    made = [
        Record(str(n), ("x\ny",), ("t",) * (n + 1), (n,) * (n + 1), (0,) * (n + 1), (0,) * (n + 1))
        for n in range(11)
    ]
    spool = RecordSpool(made)
    assert list(spool) == made
    assert [spool[n] for n in (10, 0, 7, -1, -11)] == [made[n] for n in (10, 0, 7, -1, -11)]
    assert spool[2:9:3] == made[2:9:3]
    for place in (10, 3, 3, 0):  # by the places that are left
        assert spool.longest() == [len(made) - 1]
        spool.remove(place)
        del made[place]
        assert list(spool) == made
    with pytest.raises(IndexError):
        spool[7]
