"""Copies beside the model: late, in order, bounded, of values that nobody has overwritten since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import qkvault
from extractor.models import tiny_bert, tiny_gpt2, write_texts
from qkvault_extractor import ExtractOptions, extract, run
from qkvault_extractor.outbox import Outbox

if TYPE_CHECKING:
    from torch import Tensor

LENGTHS = [3, 30, 8, 8, 70, 30, 12, 90]


class LateCopier:
    """Copies as late as it may, when it is waited for, as a busy side stream would.

    Whoever reads a message before waiting finds rubbish in it; whoever overwrites what was sent
    changes it. Counts what is under way.
    """

    def __init__(self) -> None:
        self.allocated = 0
        self.copies = 0
        self.live = 0
        self.most = 0

    def allocate(self, size: int) -> Tensor:
        self.allocated += 1
        return torch.full((size,), 0xAA, dtype=torch.uint8)

    def copy(self, source: Tensor, target: Tensor) -> LateTicket:
        self.copies += 1
        self.live += source.numel() * source.element_size()
        self.most = max(self.most, self.live)
        return LateTicket(self, source, target)


class LateTicket:
    def __init__(self, copier: LateCopier, source: Tensor, target: Tensor) -> None:
        self._given = copier, source, target

    def wait(self) -> None:
        copier, source, target = self._given
        with torch.inference_mode():
            target.copy_(source)
        copier.live -= source.numel() * source.element_size()


def test_messages_come_in_order_and_whole() -> None:
    copier = LateCopier()
    outbox = Outbox(copier, slots=3, slot_bytes=1024)
    found: list[Any] = []
    sent = [torch.arange(n * 7, dtype=torch.float32) + n for n in range(1, 60)]
    for values in sent:
        outbox.send(values, lambda array: found.append(array.copy()))
    assert len(found) < len(sent), "some are under way still"
    outbox.flush()
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(found, sent, strict=True))


def test_what_is_under_way_is_bounded() -> None:
    copier = LateCopier()
    outbox = Outbox(copier, slots=3, slot_bytes=1024)
    for _ in range(200):
        outbox.send(torch.zeros(64), lambda _: None, owned=True)
    assert copier.most <= 3 * 1024
    assert copier.allocated == 3, "slots are used again"
    outbox.send(torch.zeros(4096), lambda _: None, owned=True)
    outbox.send(torch.zeros(4096), lambda _: None, owned=True)
    assert copier.live == 4 * 4096, "of large messages one is under way at a time"


def test_values_of_others_may_be_overwritten_after_sending() -> None:
    outbox = Outbox(LateCopier())
    found: list[float] = []
    values = torch.ones(8)
    outbox.send(values, lambda array: found.append(float(array.sum())))
    values.zero_()
    outbox.flush()
    assert found == [8.0]


def test_what_is_dropped_is_not_delivered() -> None:
    copier = LateCopier()
    outbox = Outbox(copier)
    outbox.send(torch.ones(8), lambda _: pytest.fail("it was dropped"))
    outbox.drop()
    assert copier.live == 0
    outbox.flush()


def vault_of(model: Path, tmp_path: Path, name: str, **changes: Any) -> str:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    options = ExtractOptions(str(model), (str(data),), tmp_path / name, device="cpu", **changes)
    extract(options)
    with qkvault.open(options.out) as vault:
        return vault.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "uint16"},
        {"precision": "uint8"},
        {"precision": "float16"},
        {"precision": "float32"},
        {"attention": "derive"},
        {"arrays": ("query", "value")},
    ],
)
@pytest.mark.parametrize("make", [lambda path: tiny_bert(path, labels=3), tiny_gpt2])
def test_a_vault_made_by_late_copies_is_the_same(
    make: Any, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(tmp_path / "model")
    usual = vault_of(model, tmp_path, "usual.vault", **changes)
    copiers: list[LateCopier] = []
    monkeypatch.setattr(run, "copier_for", lambda _: copiers.append(LateCopier()) or copiers[-1])
    assert vault_of(model, tmp_path, "late.vault", **changes) == usual
    assert copiers[0].copies > 10
    assert copiers[0].live == 0


def test_bad_values_are_told_of_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkvault_extractor.run import Worker

    monkeypatch.setattr(run, "copier_for", lambda _: LateCopier())
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    model = tiny_bert(tmp_path / "model")
    options = ExtractOptions(str(model), (str(data),), tmp_path / "o.vault", device="cpu")
    fill = Worker._fill

    def spoil(self: Worker, buffer: Any) -> Any:
        with torch.no_grad():
            query = self._loaded.model.encoder.layer[1].attention.self.query
            query.weight[:] = float("nan")
        return fill(self, buffer)

    monkeypatch.setattr(Worker, "_fill", spoil)
    with pytest.raises(qkvault.InputError, match="layer 1"):
        extract(options)
    monkeypatch.setattr(Worker, "_fill", fill)
    assert not extract(replace(options)).already_complete
