"""Sentences of one word a line, with their annotations."""

from __future__ import annotations

from pathlib import Path

import pytest

import qkvault
from extractor.models import tiny_bert
from qkvault import InputError
from qkvault_extractor import ExtractOptions, extract
from qkvault_extractor.formats import open_source

NER = """-DOCSTART- -X- -X- O

the DT B-NP O
cats NNS I-NP O
sat VBD B-VP O
. . O O

snow NN B-NP O
"""
UNIVERSAL = """# newdoc
# sent_id = weather-1
# text = it was not rain
1\tit\tit\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\twasn't\t_\t_\t_\t_\t_\t_\t_\t_
2\twas\tbe\tAUX\tVBD\t_\t4\tcop\t_\t_
3\tnot\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
3.1\tghost\t_\t_\t_\t_\t_\t_\t_\t_
4\train\train\tNOUN\tNN\t_\t0\troot\t_\t_

# sent_id = weather-2
1\tsnow\tsnow\tNOUN\tNN\t_\t0\troot\t_\t_
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_words_and_tags_of_a_shared_task(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "ner.conll", NER)))
    first, second = source.rows
    assert (first.source, second.source) == ("ner.conll line 3", "ner.conll line 8")
    assert first.values == {
        "text": "the cats sat .",
        "words": ["the", "cats", "sat", "."],
        "column 2": ["DT", "NNS", "VBD", "."],
        "column 3": ["B-NP", "I-NP", "B-VP", "O"],
        "tags": ["O"] * 4,
    }
    assert second.values["text"] == "snow"


def test_universal_dependencies(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "a.conllu", UNIVERSAL)))
    first, second = source.rows
    assert first.values["text"] == "it was not rain"
    assert first.values["id"] == ["1", "2", "3", "4"], "spans and empty nodes are no words"
    assert first.values["head"] == ["4", "4", "4", "0"]
    assert (first.values["sent_id"], second.values["sent_id"]) == ("weather-1", "weather-2")


def test_words_alone(tmp_path: Path) -> None:
    rows = list(open_source(str(write(tmp_path / "w.txt", "it\nwas\n\nrain\n")), "conll").rows)
    assert [row.values for row in rows] == [
        {"text": "it was", "words": ["it", "was"]},
        {"text": "rain", "words": ["rain"]},
    ]


def test_a_line_of_another_width_is_named(tmp_path: Path) -> None:
    source = open_source(str(write(tmp_path / "ner.conll", NER + "it PRP\n\nsnow NN B-NP O\n")))
    flaws = [(row.source, row.flaw) for row in source.rows if row.flaw]
    assert flaws == [("ner.conll line 9", "2 columns where the lines before have 4")]


def test_tokens_know_the_datas_words(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "model")
    out = tmp_path / "out.vault"
    data = write(tmp_path / "ner.conll", NER.replace("cats", "catss-dog"))
    report = extract(ExtractOptions(str(model), (str(data),), out, device="cpu"))
    assert report.examples == 2
    with qkvault.open(out) as vault:
        record = vault[0].record
        words = record.columns["words"]
        assert words == ["the", "catss-dog", "sat", "."]
        assert record.columns["tags"] == ["O"] * 4
        for number, special, (start, end) in zip(
            record.words, record.special, record.offsets, strict=True
        ):
            if special:
                assert number == -1
            else:
                assert record.text[0][start:end] in words[number]
        assert record.words.count(1) > 2, "one word of the data is several of the tokenizer"


def test_a_broken_sentence_stops_before_anything_is_loaded(tmp_path: Path) -> None:
    data = write(tmp_path / "ner.conll", NER + "it PRP\n")
    options = ExtractOptions("no-such-model", (str(data),), tmp_path / "out.vault")
    with pytest.raises(InputError, match="ner.conll line 9: 2 columns"):
        extract(options)
