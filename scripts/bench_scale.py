"""A million examples: opening, against a thousand; pages, sorting and search of the table."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import qkvault
from bench_corpus import Bar
from bench_table import SyntheticSource, ask_all
from qkvault import Record

FEW = 1000
ROUNDS = 31


def bench_scale(scratch: Path, rows: int) -> list[Bar]:
    """Open, page, sort, search; after the first, in milliseconds."""
    paths = [_planned(scratch / f"{count}.vault", count) for count in (FEW, rows)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for path, spent in zip(paths, times, strict=True):
            begun = time.perf_counter()
            qkvault.open(path, partial=True)[0].length  # noqa: B018
            spent.append(time.perf_counter() - begun)
    few, many = map(statistics.median, times)
    print(f"open: {1e3 * few:.2f} ms at {FEW}, {1e3 * many:.2f} ms at {rows}")
    figures = ask_all(rows)
    groups = {
        "page": ("next page of 50", "page by number, from the middle"),
        "sort": ("sort by a column, again",),
        "search": tuple(name for name in figures if name.startswith("search")),
    }
    return [
        Bar(f"open at {rows} / at {FEW}", many / few, 1.5, "<="),
        *(
            Bar(f"{group} after the first, ms", max(figures[n][1] for n in names), 5.0, "<=")
            for group, names in groups.items()
        ),
    ]


def _planned(path: Path, count: int) -> Path:
    """A vault's plan and records, as they stand before its units are written."""
    spec = SyntheticSource(count).spec
    tokens = 8
    records = (
        Record(f"row-{n}", ("text",), ("t",) * tokens, (1,) * tokens, (0,) * tokens, (0,) * tokens)
        for n in range(count)
    )
    qkvault.create(path, spec, records).close()
    return path
