"""Measure the search table at a million rows: build, page, sort, search, filter.

    python scripts/bench_table.py [--rows 1000000]

Texts are drawn from a vocabulary with the frequencies of natural language (Zipf's law: the n-th
most frequent of 50,000 words has a share proportional to 1/n), 38 words to a pair, as in MRPC.
Prints one line per question: the first time it is asked, and the median of variations on it. The
column "new" is for a search or filter never asked before, so that no remembered answer helps.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qkvault import Record, Stack, VaultSpec
from qkvault.table import Table

COMMON = ("the", "of", "to", "and", "in", "a", "is", "that", "for", "on")


class SyntheticSource:
    """Records made on the fly, so that memory holds the table and nothing else."""

    def __init__(self, rows: int, vocabulary: int = 50_000) -> None:
        stack = Stack("encoder", (0,), 1, 1, 4, 4, False, (0.5,))
        self.spec = VaultSpec((stack,), ("attention",), "uint16", 2, ("no", "yes"), {})
        self.digest = f"synthetic-{rows}"
        self.complete = True
        self._rows = rows
        shares = 1 / np.arange(1, vocabulary + 1)
        self._shares = shares / shares.sum()
        syllables = [first + second for first in "bcdfghjklm" for second in "ao"]
        self.words = np.array([*COMMON, *(_spelled(n, syllables) for n in range(10, vocabulary))])

    def __len__(self) -> int:
        return self._rows

    def iter_records(self, start: int = 0) -> Iterator[Record]:
        """The records, the same each time."""
        rng = np.random.default_rng(0)
        empty: tuple[int, ...] = ()
        for first in range(0, self._rows, 20_000):
            drawn = self.words[rng.choice(len(self.words), (20_000, 38), p=self._shares)]
            lengths = rng.integers(10, 100, 20_000).tolist()
            for n, (words, length) in enumerate(zip(drawn, lengths, strict=True), first):
                if n == self._rows:
                    return
                text = (" ".join(words[:19]), " ".join(words[19:]))
                columns = {"source": f"part {n % 17}", "score": (n * 7919 % 1_000_003) / 1e6}
                ids = (0,) * length
                identity = f"row-{n:07}"
                yield Record(
                    identity, text, ("x",), ids, empty, empty, label=n % 2, columns=columns
                )

    def iter_outcomes(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """One batch of logits for all rows."""
        logits = np.random.default_rng(1).normal(size=(self._rows, 2)).astype(np.float32)
        yield np.arange(self._rows), logits


def _spelled(number: int, syllables: Sequence[str]) -> str:
    word = ""
    while number:
        number, rest = divmod(number, len(syllables))
        word += syllables[rest]
    return word


def measure(name: str, asked: Sequence[Callable[[], object]]) -> tuple[float, float]:
    """Ask each question once, print and return the first time and the median of the rest (ms)."""
    times = []
    for ask in asked:
        begun = time.perf_counter()
        ask()
        times.append(1e3 * (time.perf_counter() - begun))
    first, after = times[0], statistics.median(times[1:])
    print(
        f"{name:<44} first {first:8.2f} ms   new {after:7.2f} ms   worst {max(times[1:]):7.2f} ms"
    )
    return first, after


def questions(table: Table, words: Sequence[str]) -> dict[str, list[Callable[[], object]]]:
    """What is asked: each list varies one question."""
    return {**_lists(table), **_searches(table, words)}


def _lists(table: Table) -> dict[str, list[Callable[[], object]]]:
    rows = table.rows
    cursors = [rows(limit=50, sort="score").next]
    for _ in range(8):
        cursors.append(rows(limit=50, sort="score", cursor=cursors[-1]).next)
    names = ["length", "label", "prediction", "correct", "score", "source", "id", "text"]
    return {
        "next page of 50": [lambda c=c: rows(sort="score", cursor=c) for c in cursors],
        "page by number, from the middle": [
            lambda n=n: rows(where={"index": {"min": n}}) for n in range(400_000, 400_009)
        ],
        "sort by a column, first use of each": [lambda s=s: rows(sort=s) for s in names],
        "sort descending, first use of each": [
            lambda s=s: rows(sort=s, descending=True) for s in names
        ],
        "sort by a column, again": [lambda s=s: rows(sort=s, descending=True) for s in names],
        "filter": [lambda n=n: rows(where={"min_length": n}) for n in range(20, 29)],
        "filter + sort": [
            lambda n=n: rows(where={"label": 1, "max_length": n}, sort="score")
            for n in range(60, 69)
        ],
        "filter on the sorted column": [
            lambda n=n: rows(where={"min_length": n}, sort="length") for n in range(70, 79)
        ],
        "next and previous in a filtered list": [
            lambda n=n: table.position(n, "to", {"label": 1}, "score")
            for n in range(0, 900_000, 99_999)
        ],
        "all ids of a filter": [
            lambda n=n: table.ids(where={"min_length": n}) for n in range(40, 49)
        ],
    }


def _searches(table: Table, words: Sequence[str]) -> dict[str, list[Callable[[], object]]]:
    rows = table.rows
    many = [f"{a} {b}" for a in COMMON[:4] for b in COMMON[4:7]]
    return {
        "search a rare word": [lambda w=w: rows(query=w) for w in words[5000:5009]],
        "search a fairly common word": [lambda w=w: rows(query=w) for w in words[150:159]],
        "search a very common word": [lambda w=w: rows(query=w) for w in COMMON],
        "search two very common words": [lambda w=w: rows(query=w) for w in many],
        "search rare and common, sorted": [
            lambda w=w: rows(query=f"the {w}", sort="length", descending=True)
            for w in words[900:909]
        ],
        "search a beginning, 1 letter": [lambda w=w: rows(query=f"{w}*") for w in "bcdfghjkl"],
        "search a beginning, 4 letters": [
            lambda w=w: rows(query=f"{w[:4]}*") for w in words[900:909]
        ],
        "search a phrase": [
            lambda a=a, b=b: rows(query=f'"{a} {b}"')
            for a, b in zip(words[100:109], words[200:209], strict=True)
        ],
        "search a phrase of common words": [lambda w=w: rows(query=f'"{w}"') for w in many],
    }


def main() -> None:
    """Build, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures = ask_all(options.rows)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"most memory held: {memory:.0f} MiB")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def ask_all(rows: int) -> dict[str, tuple[float, float]]:
    """Build a table of so many rows and ask everything: (first, median of the rest), ms."""
    source = SyntheticSource(rows)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        Table(source, folder=Path(folder)).build()
        built = time.perf_counter() - begun
        (path,) = Path(folder).iterdir()
        print(f"{rows} rows built in {built:.1f} s, {path.stat().st_size / 1e6:.0f} MB")
        table = Table(source, folder=Path(folder))
        begun = time.perf_counter()
        table.rows()
        print(f"opened, first page: {1e3 * (time.perf_counter() - begun):.1f} ms")
        asked = questions(table, source.words.tolist())
        return {name: measure(name, variants) for name, variants in asked.items()}


if __name__ == "__main__":
    main()
