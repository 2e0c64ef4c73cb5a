"""Which columns are taken for what, and what is said when that cannot be told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from qkvault import InputError
from qkvault_extractor.columns import LABEL_COLUMNS, TEXT_COLUMNS, Columns, choose_columns
from qkvault_extractor.formats import FORMATS, open_source
from qkvault_extractor.inputs import load_inputs

if TYPE_CHECKING:
    from qkvault_extractor.formats import Source


def make_source(folder: Path, *columns: str, **values: Any) -> Source:
    path = folder / "data.jsonl"
    path.write_text(json.dumps({c: values.get(c, "x") for c in columns}) + "\n")
    return open_source(str(path))


@pytest.mark.parametrize(
    ("columns", "texts", "label"),
    [
        (("text", "label"), ("text",), "label"),
        (("sentence", "label", "idx"), ("sentence",), "label"),
        (("index", "label", "sentence1", "sentence2"), ("sentence1", "sentence2"), "label"),
        (("question1", "question2", "is_duplicate"), ("question1", "question2"), "is_duplicate"),
        (("premise", "hypothesis", "label"), ("premise", "hypothesis"), "label"),
        (("question", "sentence", "label"), ("question", "sentence"), "label"),
        (
            ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"),
            ("#1 String", "#2 String"),
            "Quality",
        ),
        (("gold_label", "sentence1", "sentence2"), ("sentence1", "sentence2"), "gold_label"),
        (("tweet",), ("tweet",), None),
    ],
)
def test_columns_are_told_by_name(
    tmp_path: Path, columns: tuple[str, ...], texts: tuple[str, ...], label: str | None
) -> None:
    assert choose_columns(make_source(tmp_path, *columns)) == Columns(texts, label, None)


def test_the_manual_lists_the_names_that_are_known() -> None:
    page = Path(__file__).parents[2] / "docs" / "inputs.md"
    manual = " ".join(page.read_text(encoding="utf-8").split())
    for names in TEXT_COLUMNS:
        assert ", ".join(f"`{n}`" for n in names) in manual
    assert ", ".join(f"`{n}`" for n in LABEL_COLUMNS) in manual
    assert ", ".join(f"`{n}`" for n in FORMATS) in manual


def test_columns_are_taken_as_given(tmp_path: Path) -> None:
    source = make_source(tmp_path, "a", "b", "text", "label", "key")
    assert choose_columns(source, ("b", "a"), "text", "key") == Columns(("b", "a"), "text", "key")
    # The label is guessed as long as nothing else claims the column.
    assert choose_columns(source, ("label",)) == Columns(("label",), None, None)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (
            ("index", "label", "sentence1", "sentence2"),
            {"text_columns": ("sentnce1", "sentence2")},
            "column 'sentnce1' is not in data.jsonl; did you mean 'sentence1'?"
            " columns: index, label, sentence1, sentence2",
        ),
        (
            ("text", "label"),
            {"label_column": "Lable"},
            "column 'Lable' is not in data.jsonl; did you mean 'label'? columns: text, label",
        ),
        (
            ("text", "label"),
            {"id_column": "zzz"},
            "column 'zzz' is not in data.jsonl; columns: text, label",
        ),
        (
            ("a", "b"),
            {},
            "which columns of data.jsonl hold the texts? no column has a known name;"
            " say --text-columns NAME or NAME,NAME (columns: a, b)",
        ),
        (
            ("text", "sentence1", "sentence2"),
            {},
            "it could be sentence1,sentence2 or text;",
        ),
        (("a", "b", "c"), {"text_columns": ("a", "b", "c")}, "takes one column, or two"),
        (("a", "b"), {"text_columns": ("a", "a")}, "column 'a' is named twice"),
        (("a", "b"), {"text_columns": ("a",), "label_column": "a"}, "named twice"),
        (("text", "b"), {"label_column": "text"}, "column 'text' holds the texts"),
    ],
)
def test_wrong_columns_are_named(
    tmp_path: Path, columns: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        choose_columns(make_source(tmp_path, *columns), **options)
    assert "\n" not in str(caught.value)


def test_a_label_per_token_is_not_the_label(tmp_path: Path) -> None:
    source = make_source(tmp_path, "text", "labels", labels=[0, 1])
    assert choose_columns(source).label is None


def test_all_files_have_to_agree(tmp_path: Path) -> None:
    one, two = tmp_path / "one.tsv", tmp_path / "two.tsv"
    one.write_text("text\tlabel\na\t1\n")
    two.write_text("sentence\tlabel\nb\t0\n")
    with pytest.raises(InputError, match=r"one.tsv and two.tsv have other columns .* own vault"):
        load_inputs(data=[str(one), str(two)])
    two.write_text("label\ttext\n0\tb\n")
    found = load_inputs(data=[str(one), str(two)])
    assert [(r.id, r.texts, r.label) for r in found.rows] == [("0", ("a",), 1), ("1", ("b",), 0)]


def test_long_column_lists_stay_on_one_line(tmp_path: Path) -> None:
    source = make_source(tmp_path, "a\nb", "x" * 500, *(f"c{i}" for i in range(50)))
    with pytest.raises(InputError) as caught:
        choose_columns(source)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert "(52 in all)" in message
