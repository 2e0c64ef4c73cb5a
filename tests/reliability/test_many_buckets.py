"""The largest plan that is likely: every bucket there is, of a model with three stacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

import qkvault
from qkvault import STACKS, Stack, VaultSpec
from qkvault.axes import bucket_length
from vaults import make_record, make_target

if TYPE_CHECKING:
    from pathlib import Path


def test_a_vault_of_every_bucket_verifies(tmp_path: Path) -> None:
    lengths = sorted({bucket_length(tokens) for tokens in range(1, 8193)})
    layers = tuple(range(24))
    stacks = tuple(Stack(n, layers, 16, 16, 64, 64, False, (0.125,) * 24) for n in STACKS)
    arrays = ("attention", "query", "key", "value")
    spec = VaultSpec(stacks, arrays, "uint16", 2, (), {"model": "large"}, target=True)
    random = np.random.default_rng(0)
    records = (
        replace(make_record(i, n, random=random), target=make_target(n))
        for i, n in enumerate(lengths)
    )
    with qkvault.create(tmp_path / "v", spec, records) as writer:
        assert len(writer.pending()) == len(lengths)
    report = qkvault.verify(tmp_path / "v", full=True)
    # Nothing is wrong but that it is unfinished: one line for all missing units, one for the end.
    assert [damage.path for damage in report.damages] == ["commits/00000000.json", "manifest.json"]
    assert sorted(report.damages[0].examples) == list(range(len(lengths)))
