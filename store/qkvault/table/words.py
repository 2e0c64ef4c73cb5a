"""Full-text search in the table: which rows hold the words asked for.

The engine lists the rows of a rare word at once, but takes a hundred milliseconds for a word that
half of a million texts hold. Those words are few, so the rows of each are kept as a bit map.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from .terms import Search, Term

if TYPE_CHECKING:
    from .order import Mask

FREQUENT: Final = 32
"""A word that one row in this many holds has a bit map."""
_MANY_ROWS: Final = 30_000
_LONGEST_PREFIX: Final = 4
_PLAIN_WORD = re.compile(r"[0-9a-z]+\Z")

WORDS_SCHEMA: Final = """
CREATE VIRTUAL TABLE words USING fts5(
    first, second, target, content='', columnsize=0, tokenize='unicode61 remove_diacritics 2'
);
CREATE TABLE frequent (
    word TEXT, prefix INTEGER, bits BLOB, PRIMARY KEY (word, prefix)
) WITHOUT ROWID;
"""


def write_frequent_words(connection: sqlite3.Connection, examples: int) -> None:
    """Keep a bit map for every word, and every beginning of words, that very many rows hold."""
    least = max(_MANY_ROWS, examples // FREQUENT)
    if examples < least:
        return
    connection.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, words, row)")
    words: list[Term] = []
    beginnings: Counter[str] = Counter()
    for word, rows in connection.execute("SELECT term, doc FROM temp.vocabulary"):
        if not _PLAIN_WORD.match(word):
            continue
        if rows >= least:
            words.append(Term(word))
        beginnings.update({word[:size]: rows for size in range(1, _LONGEST_PREFIX + 1)})
    words += [Term(start, prefix=True) for start, rows in beginnings.items() if rows >= least]
    for term in words:
        bits = np.packbits(_as_mask(_listed_rows(connection, (term,)), examples)).tobytes()
        connection.execute(
            "INSERT INTO frequent VALUES (?,?,?)", (term.text, int(term.prefix), bits)
        )
    connection.execute("DROP TABLE temp.vocabulary")


def matching_rows(connection: sqlite3.Connection, search: Search, examples: int) -> Mask | None:
    """Which rows hold every term of a search: bool (examples,), or None where every row does."""
    if search == "nothing":
        return np.zeros(examples, np.bool_)
    mask: Mask | None = None
    rare: list[Term] = []
    for term in search:
        kept = _frequent_rows(connection, term, examples)
        if kept is None:
            rare.append(term)
        else:
            mask = kept if mask is None else mask & kept
    if rare:
        listed = _as_mask(_listed_rows(connection, rare), examples)
        mask = listed if mask is None else mask & listed
    return mask


def _frequent_rows(connection: sqlite3.Connection, term: Term, examples: int) -> Mask | None:
    if term.plain is None:
        return None
    kept = connection.execute(
        "SELECT bits FROM frequent WHERE word=? AND prefix=?", (term.plain, int(term.prefix))
    ).fetchone()
    if kept is None:
        return None
    return np.unpackbits(np.frombuffer(kept[0], np.uint8), count=examples).view(np.bool_)


def _listed_rows(
    connection: sqlite3.Connection, terms: tuple[Term, ...] | list[Term]
) -> npt.NDArray[np.int64]:
    expression = " ".join(term.expression() for term in terms)
    # One string for all rows: handing them to Python one by one would take longer than the search.
    (listed,) = connection.execute(
        "SELECT group_concat(rowid) FROM words WHERE words MATCH ?", (expression,)
    ).fetchone()
    if listed is None:
        return np.empty(0, np.int64)
    return np.fromstring(listed, dtype=np.int64, sep=",")


def _as_mask(rows: npt.NDArray[np.int64], examples: int) -> Mask:
    mask = np.zeros(examples, np.bool_)
    mask[rows] = True
    return mask
