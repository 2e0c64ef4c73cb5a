"""Every row that cannot be used is refused with its place and its reason; every other is kept."""

from __future__ import annotations

import datetime
import json
import math
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from qkvault import InputError
from qkvault_extractor.inputs import load_inputs

if TYPE_CHECKING:
    from pathlib import Path

    from qkvault_extractor.rows import Inputs


def load(folder: Path, *rows: Any, **options: Any) -> Inputs:
    """Load rows through a JSONL file; a string is a line as it is."""
    path = folder / "data.jsonl"
    lines = (r if isinstance(r, str) else json.dumps(r) for r in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return load_inputs(data=[str(path)], **options)


def load_csv(folder: Path, content: str, **options: Any) -> Inputs:
    (folder / "data.csv").write_text(content, encoding="utf-8")
    return load_inputs(data=[str(folder / "data.csv")], **options)


GOOD = {"text": "good", "label": 0}

BAD_ROWS = [
    ({"text": ""}, "empty text in column 'text'"),
    ({"text": " \t\u3000"}, "empty text in column 'text'"),
    ({"text": None}, "no text in column 'text'"),
    ({"label": 1}, "no text in column 'text' (it is missing)"),
    ({"text": 5}, "column 'text' holds a number where a text is expected"),
    ({"text": True}, "column 'text' holds true/false where a text is expected"),
    ({"text": ["x"]}, "column 'text' holds a list where a text is expected"),
    ({"text": {"a": 1}}, "column 'text' holds an object where a text is expected"),
    ({"text": "a\ud800b"}, "a lone surrogate (U+D800 at character 2)"),
    ({"text": "x", "note": {"k": ["\udfff"]}}, "a lone surrogate (U+DFFF at character 1)"),
    ({"text": "x", "\ud83d": 1}, "a lone surrogate (U+D83D at character 1)"),
    ({"text": "x", "label": [1]}, "the label is a list; a number or a string is expected"),
    ({"text": "x", "label": math.inf}, "the label is infinite"),
    ({"text": "x", "label": 2**63}, "the label is an integer of more than 64 bits"),
    ({"text": "x", "label": "one"}, "label 'one' is of another kind than label 0 at data.jsonl"),
    ('{"text": "x"', "broken JSON (Expecting ',' delimiter, column 13)"),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_bad_row_stops_with_its_line(tmp_path: Path, row: Any, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, GOOD, row, GOOD)
    message = str(caught.value)
    assert message.startswith(f"data.jsonl line 2: {reason}")
    assert message.endswith("; mend it, or leave out such rows with --on-bad skip")
    assert "\n" not in message


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_bad_row_is_skipped_and_listed(tmp_path: Path, row: Any, reason: str) -> None:
    found = load(tmp_path, GOOD, row, {"text": "last", "label": 1}, on_bad="skip")
    assert [(r.number, r.id, r.texts) for r in found.rows] == [
        (0, "0", ("good",)),
        (2, "2", ("last",)),
    ]
    (reject,) = found.rejects
    assert (reject.number, reject.source) == (1, "data.jsonl line 2")
    assert reject.reason.startswith(reason)
    assert reject.to_json()["row"] == 1
    json.dumps(reject.to_json()).encode()


def test_strange_but_sound_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    texts = ["nul \0", "\u202eevil", "\u200b", "a\u200db", "\ufeffbom", "e\u0301", " lead", "😀"]
    found = load(tmp_path, *({"text": t} for t in texts))
    assert [r.texts[0] for r in found.rows] == texts


def test_the_second_text_of_a_pair_is_checked(tmp_path: Path) -> None:
    content = "sentence1,sentence2\na,b\nc,\n"
    with pytest.raises(InputError, match="data.csv line 3: empty text in column 'sentence2'"):
        load_csv(tmp_path, content)


def test_duplicate_ids_name_both_rows(tmp_path: Path) -> None:
    rows = [{"text": "a", "key": 7}, {"text": "b", "key": "8"}, {"text": "c", "key": "7"}]
    with pytest.raises(
        InputError, match="data.jsonl line 3: id '7' stands at data.jsonl line 1 already"
    ):
        load(tmp_path, *rows, id_column="key")
    found = load(tmp_path, *rows, id_column="key", on_bad="skip")
    assert [r.id for r in found.rows] == ["7", "8"]
    assert [(r.id, r.number) for r in found.rejects] == [("7", 2)]
    assert found.id_column == "key"


def test_duplicate_ids_across_files_of_one_name(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "data.jsonl")
        paths[-1].write_text('{"text": "x", "key": "k"}\n')
    with pytest.raises(InputError, match="id 'k' stands at"):
        load_inputs(data=[str(p) for p in paths], id_column="key")


@pytest.mark.parametrize("key", [None, "", True, 1.5, ["a"], "\ud800"])
def test_ids_are_strings_or_integers(tmp_path: Path, key: Any) -> None:
    with pytest.raises(InputError, match=r"line 2: (no id|column 'key' holds|a lone surrogate)"):
        load(tmp_path, {"text": "a", "key": "x"}, {"text": "b", "key": key}, id_column="key")


def test_labels_keep_their_type(tmp_path: Path) -> None:
    labels = [0, 1.5, True, None, math.nan]
    found = load(tmp_path, *({"text": "x", "label": n} for n in labels), {"text": "y"})
    assert [r.label for r in found.rows] == [0, 1.5, 1, None, None, None]
    assert type(found.rows[2].label) is int
    assert load(tmp_path, {"text": "x", "label": "yes"}).rows[0].label == "yes"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("0 1 12", [0, 1, 12]),
        ("0 -1", [0, -1]),
        ("1 2.50 3e1", [1.0, 2.5, 30.0]),
        ("01 2x", ["01", "2x"]),
        ("yes no", ["yes", "no"]),
        ("1 two", ["1", "two"]),
        ("inf 1", ["inf", "1"]),
    ],
)
def test_csv_labels_become_numbers_when_all_are(
    tmp_path: Path, labels: str, expected: list[Any]
) -> None:
    content = "text,label\n" + "".join(f"x,{n}\n" for n in labels.split()) + "last,\n"
    found = load_csv(tmp_path, content)
    assert [r.label for r in found.rows] == [*expected, None]
    assert [type(r.label) for r in found.rows[:-1]] == [type(e) for e in expected]


def test_csv_columns_become_integers_only_without_loss(tmp_path: Path) -> None:
    found = load_csv(tmp_path, "text,n,code,ratio,big\nx,1,007,1.10,1234567890123456\ny,,010,2,5\n")
    assert [dict(r.columns) for r in found.rows] == [
        {"n": 1, "code": "007", "ratio": "1.10", "big": "1234567890123456"},
        {"n": None, "code": "010", "ratio": "2", "big": "5"},
    ]


def test_one_column_is_read_alike_over_several_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("text,label\nx,1\n")
    two.write_text("text,label\ny,neutral\n")
    assert [r.label for r in load_inputs(data=[str(one), str(two)]).rows] == ["1", "neutral"]
    two.write_text("text,label\ny,2\n")
    assert [r.label for r in load_inputs(data=[str(one), str(two)]).rows] == [1, 2]


def test_other_columns_are_kept_as_json(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = {
        "text": ["x"],
        "when": [datetime.date(2026, 1, 2)],
        "price": [Decimal("1.10")],
        "nested": [{"a": [1.0, math.nan]}],
        "image": [b"\x89PNG"],
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    found = load_inputs(data=[str(tmp_path / "a.parquet")])
    assert found.rows[0].columns == {
        "when": "2026-01-02",
        "price": "1.10",
        "nested": {"a": [1.0, None]},
    }
    assert found.dropped == ("image",)
    json.dumps(dict(found.rows[0].columns), allow_nan=False)


def test_limit_counts_rows_read_over_all_files(tmp_path: Path) -> None:
    rows = [GOOD, {"text": ""}, GOOD, "broken"]
    found = load(tmp_path, *rows, limit=3, on_bad="skip")
    assert ([r.number for r in found.rows], len(found.rejects)) == ([0, 2], 1)
    path = str(tmp_path / "data.jsonl")
    assert len(load_inputs(data=[path, path], limit=1).rows) == 1
    with pytest.raises(InputError, match="--limit 0 leaves no row"):
        load_inputs(data=[path], limit=0)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the 2 rows .*; data.jsonl line 1: empty"):
        load(tmp_path, {"text": ""}, {"text": ""}, on_bad="skip")


def test_a_first_line_that_is_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="data.jsonl line 1: broken JSON"):
        load(tmp_path, "{oops")


def test_inputs_are_checked_without_torch(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\nx,1\n")
    code = (
        "import sys\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from qkvault_extractor.inputs import load_inputs\n"
        f"found = load_inputs(data=[{str(tmp_path / 'data.csv')!r}])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'zarr'} & set(sys.modules)\n"
        "print(len(found.rows), sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 []\n", "")
