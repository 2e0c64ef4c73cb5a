"""Vaults are true to models of every architecture in the fidelity table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from extractor.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from extractor.architecture import Architecture

DOCUMENT = Path(__file__).parents[2] / "docs" / "fidelity.md"
QUICK = [row for row in ARCHITECTURES if row.quick]


def check(row: Architecture, folder: Path) -> None:
    """Measure a row, and hold it to what a vault promises."""
    figures = row.measure(folder)
    if row.refused:
        assert not figures.way, "it is captured after all"
        assert figures.notes
        return
    assert figures.way, figures.notes
    if figures.kernel_difference is None:
        assert figures.difference == 0.0
    else:
        assert figures.kernel_difference <= 1e-6
    assert (figures.derived is None) == (figures.derived_half is None)
    # It is of the stacks that are derived, one or more.
    stacks = figures.notes.split("; ")
    assert (figures.derived is None) == all("not derived" in stack for stack in stacks)
    if figures.derived is not None and figures.derived_half is not None:
        assert figures.derived <= 5e-6
        assert figures.derived < figures.derived_half <= 1e-2


@pytest.mark.parametrize("row", QUICK, ids=lambda row: row.title)
def test_vaults_are_true_to_their_models(row: Architecture, tmp_path: Path) -> None:
    check(row, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.title)
def test_vaults_are_true_to_models_of_the_whole_table(row: Architecture, tmp_path: Path) -> None:
    check(row, tmp_path)


def test_the_document_lists_exactly_the_rows() -> None:
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    listed = [
        line.split(" | ")[0].removeprefix("| ")
        for line in lines
        if line.startswith("| ") and not line.startswith("| architecture")
    ]
    expected = [row.title for row in ARCHITECTURES if not row.refused]
    expected += [row.title for row in ARCHITECTURES if row.refused]
    assert listed == expected
    assert len(set(listed)) == len(listed) >= 45
