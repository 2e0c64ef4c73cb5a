"""The demo corpus is what its README says: unique, labelled, of every length, in families."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from qkvault_cli.corpus import corpus_path

FIELDS = ["id", "sentence1", "sentence2", "label", "topic", "phenomenon"]

Pair = dict[str, Any]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    lines = corpus_path().read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _fold(sentence: str) -> str:
    """Case and spacing do not make a sentence new; punctuation may."""
    return " ".join(sentence.casefold().split())


def _family(pair: Pair) -> str:
    return str(pair["id"]).rsplit("-", 1)[0]


def _words(pair: Pair) -> tuple[int, int]:
    return len(pair["sentence1"].split()), len(pair["sentence2"].split())


def test_there_are_enough_pairs_and_every_one_is_complete(pairs: list[Pair]) -> None:
    assert len(pairs) >= 200
    for pair in pairs:
        assert list(pair) == FIELDS
        texts = [pair[name] for name in FIELDS if name != "label"]
        assert all(isinstance(text, str) and text and text == text.strip() for text in texts)
        assert type(pair["label"]) is int


def test_ids_are_unique_slugs(pairs: list[Pair]) -> None:
    repeated = [name for name, count in Counter(p["id"] for p in pairs).items() if count > 1]
    assert repeated == []
    assert [p["id"] for p in pairs if not re.fullmatch(r"[a-z]+(-[a-z]+)+", p["id"])] == []


def test_both_labels_are_common(pairs: list[Pair]) -> None:
    count = Counter(p["label"] for p in pairs)
    assert set(count) == {0, 1}
    assert 0.5 < count[1] / len(pairs) < 0.7


def test_no_pair_is_repeated_in_either_order(pairs: list[Pair]) -> None:
    seen = [frozenset((_fold(p["sentence1"]), _fold(p["sentence2"]))) for p in pairs]
    assert [both for both in seen if len(both) == 1] == []
    assert [both for both, count in Counter(seen).items() if count > 1] == []


def test_only_members_of_a_family_share_a_sentence(pairs: list[Pair]) -> None:
    families: dict[str, set[str]] = {}
    for pair in pairs:
        for name in ("sentence1", "sentence2"):
            families.setdefault(_fold(pair[name]), set()).add(_family(pair))
    assert {text: names for text, names in families.items() if len(names) > 1} == {}


def test_the_known_examples_come_first(pairs: list[Pair]) -> None:
    first = {p["id"]: p for p in pairs[:4]}
    assert list(first) == ["cat-mat", "eminem-sick", "eminem-terrific", "eminem-available"]
    assert first["cat-mat"]["sentence1"] == "the cat sat on the mat"
    assert first["cat-mat"]["sentence2"] == "the cat lay on the rug"
    trio = {"sick": 1, "terrific": 1, "available": 0}
    for word, label in trio.items():
        pair = first[f"eminem-{word}"]
        one, two = (re.findall(r"\w+", pair[name]) for name in ("sentence1", "sentence2"))
        assert len(one) == len(two)
        changed = [(a, b) for a, b in zip(one, two, strict=True) if a != b]
        assert changed == [("awesome", word)]
        assert pair["label"] == label
    assert len({first[f"eminem-{word}"]["sentence1"] for word in trio}) == 1


def test_lengths_run_from_short_to_long(pairs: list[Pair]) -> None:
    lengths = [_words(p) for p in pairs]
    assert min(min(both) for both in lengths) >= 3
    assert sum(max(both) <= 6 for both in lengths) >= 10
    assert sum(min(both) >= 35 for both in lengths) >= 25
    assert sum(min(both) >= 90 for both in lengths) >= 2


def test_there_is_text_beyond_ascii(pairs: list[Pair]) -> None:
    text = "".join(p["sentence1"] + p["sentence2"] for p in pairs)
    for script in (
        "[\u00e0-\u00ff]",
        "\u2014",
        "[\u4e00-\u9fff]",
        "[\u0600-\u06ff]",
        "[\U0001f300-\U0001faff]",
    ):
        assert re.search(script, text), script


def test_the_readme_counts_and_names_what_is_there(pairs: list[Pair]) -> None:
    readme = (corpus_path().parent / "README.md").read_text(encoding="utf-8")
    label = Counter(p["label"] for p in pairs)
    assert f"{len(pairs)} English sentence pairs ({label[1]} paraphrases, {label[0]} not)" in readme
    assert {p["phenomenon"] for p in pairs} <= set(re.findall(r"`([a-z-]+)`", readme))
    longest = max(max(_words(p)) for p in pairs)
    shortest_long = min(min(_words(p)) for p in pairs if p["phenomenon"].startswith("long-"))
    assert f"Long ({shortest_long} to {longest} words a sentence)" in readme
