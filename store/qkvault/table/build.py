"""The search table as a file: an SQLite database with full-text search, built from a vault.

It holds nothing that the vault does not: losing it costs the time to build it again. It is written
once, to a name of its own, and never changed, so that any number of threads and processes read it
without locks.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ResourceError, VaultError
from ..outcomes import Prediction, judge
from ..spec import Json, Label, Record, VaultSpec
from .columns import ColumnKinds
from .sorting import SORTING_SCHEMA, write_orders
from .terms import spaced, storable
from .words import WORDS_SCHEMA, write_frequent_words

TABLE_VERSION = 2
"""Goes up with every change of the file's layout or meaning; other versions are rebuilt."""

_BATCH = 10_000
_MAX_INTEGER = 2**63 - 1

_SCHEMA = (
    """
CREATE TABLE about (key TEXT PRIMARY KEY, value);
CREATE TABLE example (
    n INTEGER PRIMARY KEY, id TEXT, first TEXT, second TEXT, length INTEGER,
    label, prediction, correct INTEGER, columns TEXT, target TEXT
);
"""
    + WORDS_SCHEMA
    + SORTING_SCHEMA
)


class TableSource(Protocol):
    """What the table needs of a vault."""

    @property
    def digest(self) -> str:
        """Identifies the vault's content."""

    @property
    def complete(self) -> bool:
        """Whether every example has been extracted."""

    @property
    def spec(self) -> VaultSpec:
        """The vault's specification."""

    def __len__(self) -> int: ...

    def iter_records(self, start: int = 0) -> Iterator[Record]:
        """Every record from ``start`` on, in dataset order."""

    def metrics(
        self,
        name: str,
        stack: str | None = None,
        layer: int | None = None,
        head: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """A metric of one head: float32 (N,); asked for only if ``spec.metrics`` names it."""

    def iter_outcomes(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Example numbers (n,) and their logits (n, C), for all examples that have them."""


def build_table(
    source: TableSource, path: Path, progress: Callable[[float], None] | None = None
) -> None:
    """Write the table of ``source`` to ``path``, an empty file or one that does not exist.

    Args:
        source: the vault.
        path: where to; the caller removes what is left there after an error.
        progress: called with the share that is done, from 0 to 1.

    Raises:
        VaultError: the vault's records cannot be read, or do not fit together.
        ResourceError: the disk is full, or this Python's SQLite has no full-text search.
    """
    report = progress or (lambda share: None)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        _prepare(connection)
        connection.execute("BEGIN")
        kinds = _write_examples(connection, source, lambda share: report(0.6 * share))
        connection.execute("INSERT INTO words(words) VALUES ('optimize')")
        write_frequent_words(connection, len(source))
        report(0.8)
        write_orders(connection, kinds, len(source), lambda share: report(0.8 + 0.2 * share))
        _write_about(connection, source)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    finally:
        connection.close()


def predictions(source: TableSource) -> Callable[[int], Prediction]:
    """What the model answered for each example, by its number.

    The class with the highest logit where there are several; the one logit itself (a score) where
    there is only one; None where the example has none, or one that is not a number.
    """
    outputs = source.spec.logits
    answers: npt.NDArray[np.float64] = np.empty(0)
    for examples, logits in source.iter_outcomes() if outputs else ():
        if not answers.size:  # not before: a vault may say that it has any number of examples
            answers = np.full(len(source), np.nan)
        answer = logits[:, 0] if outputs == 1 else logits.argmax(axis=1)
        answers[examples] = np.where(np.isfinite(logits).all(axis=1), answer, np.nan)
    number: Callable[[float], int | float] = float if outputs == 1 else int

    def answer_for(example: int) -> Prediction:
        value = answers[example] if answers.size else math.nan
        return None if math.isnan(value) else number(value)

    return answer_for


def _prepare(connection: sqlite3.Connection) -> None:
    # Nobody uses the file until it is whole and renamed: no journal, no waiting for the disk.
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536", "temp_store=FILE"):
        connection.execute(f"PRAGMA {pragma}")
    connection.executescript(_SCHEMA)


def _write_about(connection: sqlite3.Connection, source: TableSource) -> None:
    connection.execute(f"PRAGMA user_version={TABLE_VERSION}")
    about = {"digest": source.digest, "examples": len(source)}
    connection.executemany("INSERT INTO about VALUES (?, ?)", about.items())


def _write_examples(
    connection: sqlite3.Connection, source: TableSource, report: Callable[[float], None]
) -> ColumnKinds:
    kinds = ColumnKinds()
    lines = _lines(source, kinds)
    written = 0
    while batch := list(islice(lines, _BATCH)):
        connection.executemany("INSERT INTO example VALUES (?,?,?,?,?,?,?,?,?,?)", batch)
        connection.executemany(
            "INSERT INTO words(rowid, first, second, target) VALUES (?,?,?,?)",
            ((line[0], *(spaced(text or "") for text in (*line[2:4], line[9]))) for line in batch),
        )
        written += len(batch)
        report(written / len(source))
    if written != len(source):
        raise VaultError(f"the vault says {len(source)} examples, its records are {written}")
    return kinds


_Line = tuple[int, str, str, str | None, int, Label, Prediction, bool | None, str, str | None]


def _lines(source: TableSource, kinds: ColumnKinds) -> Iterator[_Line]:
    answer_for = predictions(source)
    names = source.spec.label_names
    for n, record in enumerate(islice(source.iter_records(), len(source) + 1)):
        if not 1 <= len(record.text) <= 2:
            raise VaultError(f"example {n} has {len(record.text)} texts; one or two are allowed")
        texts = [storable(text) for text in record.text]
        answer = answer_for(n) if n < len(source) else None
        label = _scalar(record.label, n)
        kinds.see("label", label)
        kinds.see("prediction", answer)
        yield (
            n,
            storable(record.id),
            texts[0],
            texts[1] if len(texts) == 2 else None,
            len(record.token_ids),
            label,
            answer,
            judge(label, answer, names),
            _columns_text(kinds.place(record.columns), kinds),
            None if record.target is None else storable(record.target.text),
        )


def _columns_text(values: Iterable[tuple[str, Json]], kinds: ColumnKinds) -> str:
    stored: list[Json] = []
    for name, value in values:
        stored.append(storable_value(value))
        kinds.see(name, stored[-1])
    return storable(json.dumps(stored, ensure_ascii=False, allow_nan=False))


def storable_value(value: Json) -> Json:
    """``value`` as SQLite and strict JSON can hold it: no NaN, no infinity, no lone surrogate."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if abs(value) <= _MAX_INTEGER else _as_float(value)
    if isinstance(value, list | tuple):
        return [storable_value(item) for item in value]
    if isinstance(value, dict):
        return {storable(str(key)): storable_value(item) for key, item in value.items()}
    return value


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None


def _scalar(label: Json, n: int) -> Label:
    if isinstance(label, list | dict):
        raise VaultError(f"example {n} has a label that is no number or text: {str(label)[:40]}")
    stored = storable_value(label)
    return stored if not isinstance(stored, list | dict) else None


def _explained(error: sqlite3.Error, path: Path) -> ResourceError:
    if "fts5" in str(error):
        return ResourceError(
            "this Python's SQLite has no full-text search (FTS5): use a Python that has it, such"
            " as python.org's or Debian's"
        )
    return ResourceError(f"the search table cannot be built at {path}: {error}")
