"""Full-text search in the table: what is found, and that nothing typed can break it."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest
from table_source import SourceInMemory, make_record

from qkvault.errors import InputError
from qkvault.table import Table
from qkvault.table.terms import parse_search

TEXTS = [
    ("The cat sat on the mat", "the cat lay on the rug"),
    ("Eminem was sick!", "Eminem was terrific!"),
    ("A naïve café, über alles", "NAIVE CAFE"),
    ("well-known facts don't lie",),
    ("猫がマットに座った", "犬"),
    ("catalogue of mats",),
    ("mat", "the"),
    ('she said "AND" OR NOT NEAR(a b, 2) col:x ^a -b +c {a} a*b',),
    ("\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645",),
    ("lone \ud800 surrogate\0nul",),
]


@pytest.fixture(scope="module")
def source() -> SourceInMemory:
    return SourceInMemory([make_record(f"{n}", *text) for n, text in enumerate(TEXTS)])


@pytest.fixture(scope="module")
def table(source: SourceInMemory, tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table(source, folder=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", range(10)),
        ("   ", range(10)),
        ('"', range(10)),
        ("*", range(10)),
        ("cat", [0]),
        ("CAT rug", [0]),
        ("cat*", [0, 5]),
        ("mat", [0, 6]),
        ("mat* of", [5]),
        ('"the mat"', [0]),
        ('"the mat', [0]),
        ('"mat the"', []),
        ('"the ma"*', [0]),
        ('"the cat" lay', [0]),
        ("naive", [2]),
        ("café", [2]),
        ("uber", [2]),
        ("well-known", [3]),
        ("known-well", []),
        ("don't", [3]),
        ("known", [3]),
        ("猫", [4]),
        ("マット", [4]),
        ("猫が", [4]),
        ("が猫", []),
        ("犬 猫", [4]),
        ("sick!", [1]),
        ("?!", []),
        ("cat ?!", [0]),
        ("AND", [7]),
        ("AND OR NOT", [7]),
        ("col:x", [7]),
        ("-b", [7]),
        ("cat AND mat", []),
        ("مرحبا", [8]),
        ("surrogate", [9]),
        ("nul", [9]),
        ("nothing of the kind", []),
    ],
)
def test_what_is_found(table: Table, query: str, expected: list[int]) -> None:
    page = table.rows(query=query)
    assert [row["index"] for row in page.rows] == list(expected)
    assert page.total == len(expected)


def test_nothing_typed_can_break_the_search(table: Table, source: SourceInMemory) -> None:
    rng = random.Random(3)
    pieces = ['"', "*", "'", "(", ")", ":", "^", "-", "+", "{", "}", ",", "\\", "\0", "\ud800", "%"]
    pieces += ["AND", "OR", "NOT", "NEAR", "NEAR(", "cat", "mat", "first", "rowid", " ", " ", "猫"]
    pieces += ["\u0300", "\u200d", "\u202e", "\U0001f600", "\U00010ffff", "\n", "\x1f", ";", "--"]
    table.build()
    built = source.read
    for _ in range(3000):
        query = "".join(rng.choices(pieces, k=rng.randrange(1, 12)))
        page = table.rows(query=query)
        assert page.total == len(page.rows), query
    for point in range(0x3000):
        table.rows(query=f"{chr(point)}* cat")
    assert source.read == built  # a search that failed would have had the table rebuilt


def test_too_many_words_are_refused(table: Table) -> None:
    table.rows(query=" ".join(f"w{n}" for n in range(64)))
    with pytest.raises(InputError, match="64 words, this one has 65"):
        table.rows(query=" ".join(f"w{n}" for n in range(65)))
    table.rows(query="same " * 1000)
    table.rows(query="x" * 1_000_000)


def test_every_term_holds_a_letter_or_digit() -> None:
    for point in range(0x3000):
        found = parse_search(chr(point))
        category = unicodedata.category(chr(point))
        if category[0] in "LN":
            assert len(found) == 1
        elif category == "Zs" or chr(point) in '"*' or chr(point).isspace() or point == 0:
            assert found == ()
        else:
            assert found == "nothing"


def test_bit_maps_of_frequent_words_change_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    words = ["the", "cat", "car", "cab", "dog", "über", "x1", "x2"]
    weights = [50, 20, 20, 10, 5, 5, 1, 1]
    texts = [" ".join(rng.choices(words, weights, k=6)) for _ in range(400)]
    records = [make_record(f"{n}", text, "the end") for n, text in enumerate(texts)]
    plain = Table(SourceInMemory(records), folder=tmp_path / "plain")
    plain.build()
    monkeypatch.setattr("qkvault.table.words._MANY_ROWS", 40)
    mapped = Table(SourceInMemory(records), folder=tmp_path / "mapped")
    kept = []
    monkeypatch.setattr("qkvault.table.words._frequent_rows", _noted(kept))
    asked = ["the", "ca*", "c*", "THE cat", "the car do*", '"the cat"', "cat x1", "über", "end"]
    for query in asked:
        assert mapped.ids(query=query).tolist() == plain.ids(query=query).tolist()
    assert {"the", "ca", "c", "cat", "car", "do"} <= set(kept)


def _noted(kept: list[str]):
    from qkvault.table.words import _frequent_rows

    def noted(connection, term, examples):
        found = _frequent_rows(connection, term, examples)
        if found is not None:
            kept.append(term.text)
        return found

    return noted
