"""A million rows: each question is answered within 5 ms once one of its kind has been asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_table import SyntheticSource, measure, questions
from qkvault.table import Table

LIMIT_MS = 5.0
# What is worked out once per column, and what the engine has to walk through, takes longer.
SLOWER = {
    "sort by a column, first use of each": 50.0,
    "sort descending, first use of each": 50.0,
    "search a phrase of common words": 200.0,
    "all ids of a filter": 50.0,
}


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    source = SyntheticSource(1_000_000)
    table = Table(source, folder=tmp_path)
    table.build()
    late = {}
    for name, asked in questions(table, source.words.tolist()).items():
        _, after = measure(name, asked)
        if after > SLOWER.get(name, LIMIT_MS):
            late[name] = after
    assert late == {}
