"""Readers: what is in a file comes out, byte for byte, whatever the format."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkvault import InputError, ResourceError
from qkvault_extractor.formats import FORMATS, Raw, open_source, open_sources
from qkvault_extractor.formats.delimited import find_delimiter
from qkvault_extractor.inputs import load_inputs

if TYPE_CHECKING:
    from qkvault_extractor.rows import Inputs

_DATA = Path(os.environ.get("QKVAULT_DATA", Path(__file__).parents[3] / "shared" / "data"))
MRPC = _DATA / "mrpc"
needs_mrpc = pytest.mark.skipif(
    not (MRPC / "train.tsv").is_file(), reason="needs MRPC; set QKVAULT_DATA to its parent folder"
)

PAIR = {"sentence1": "the cat sat", "sentence2": "the cat lay", "label": 1}


def rows_of(path: Path | str, **options: Any) -> list[Raw]:
    return list(open_source(str(path), **options).rows)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_parquet(path: Path, table: dict[str, list[Any]]) -> Path:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(table), path)
    return path


# ---- detection


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", '{"text": "x"}\n', "jsonl"),
        ("a.ndjson", '{"text": "x"}\n', "jsonl"),
        ("a.json", '{"text": "x"}\n', "jsonl"),
        ("a.csv", "text,label\nx,1\n", "csv"),
        ("A.TSV", "text\tlabel\nx\t1\n", "tsv"),
        ("a.txt", "one text\nanother\n", "text"),
        ("a.txt", '{"text": "x"}\n', "jsonl"),
        ("rows", '{"text": "x"}\n', "jsonl"),
        ("a.txt", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t2\t3\ta\tb\r\n", "mrpc"),
        ("a.tsv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\ta\tb\n", "mrpc"),
        ("a.csv", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t2\t3\ta\tb\n", "mrpc"),
    ],
)
def test_format_is_told_from_name_and_content(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    assert open_source(str(write(tmp_path / name, content))).format == expected


def test_parquet_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "data.bin", {"text": ["x"]})
    assert open_source(str(path)).format == "parquet"


def test_forced_format_wins_over_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "x"}\n')
    source = open_source(str(path), format="text")
    assert [r.values for r in source.rows] == [{"text": '{"text": "x"}'}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.dat", b"hello\n", "format of a.dat cannot be told .* say --format"),
        ("a.json", b"[{}]", "one JSON array; one object a line is needed"),
        ("a.jsonl.gz", b"\x1f\x8b\x08", r"compressed \(gzip\); unpack it first"),
        ("a.csv", b"\xff\xfet\x00", "UTF-16; save it as UTF-8"),
        ("a.tsv", b'text\n"he said ""no"""\n', "line 2: do the quotation marks enclose"),
        ("a.parquet", b"PAR1 but no more", "not a readable parquet file"),
    ],
)
def test_files_that_cannot_be_taken_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        rows_of(path)


# ---- text, JSON Lines


def test_text_lines_keep_every_character(tmp_path: Path) -> None:
    lines = ["plain", "  blanks kept \t", "nul \0 here", "\u200bzero\u2028width\x85", "e\u0301 😀"]
    path = write(tmp_path / "a.txt", "\ufeff" + "\n".join(lines) + "\r\n\n\n")
    assert [r.values["text"] for r in rows_of(path)] == lines
    assert [r.source for r in rows_of(path)][-1] == "a.txt line 5"


def test_only_the_first_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufeff\ufeffone\n\ufefftwo\n")
    assert [r.values["text"] for r in rows_of(path)] == ["\ufeffone", "\ufefftwo"]


def test_blank_lines_count_inside_a_text_but_not_in_jsonl(tmp_path: Path) -> None:
    text = rows_of(write(tmp_path / "a.txt", "one\n\ntwo\n"))
    assert [r.values["text"] for r in text] == ["one", "", "two"]
    jsonl = rows_of(write(tmp_path / "a.jsonl", '{"text": "one"}\n\n{"text": "two"}\n'))
    assert [r.source for r in jsonl] == ["a.jsonl line 1", "a.jsonl line 3"]


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        (b'{"text": "x"', r"broken JSON \(Expecting ',' delimiter, column 13\)"),
        (b'["x"]', "a JSON list where an object"),
        (b"null", "a JSON null where"),
        (b'{"text": "\xe9"}', r"not UTF-8 \(byte 0xe9 at byte 11\)"),
        (b"[" * 100_000, "JSON that cannot be read"),
        (b'{"n": ' + b"1" * 5000 + b"}", "JSON that cannot be read"),
    ],
)
def test_broken_json_is_named_with_its_line(tmp_path: Path, line: bytes, flaw: str) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "x"}\n' + line + b'\n{"text": "y"}\n')
    rows = rows_of(path)
    assert [bool(r.flaw) for r in rows] == [False, True, False]
    assert rows[1].source == "a.jsonl line 2"
    assert re.search(flaw, rows[1].flaw)


# ---- CSV, TSV


def test_csv_keeps_quoted_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\r\n"a, ""b""\r\nc",1\r\n\0d,2\r\n\r\n')
    rows = rows_of(path)
    assert [r.values for r in rows] == [
        {"text": 'a, "b"\r\nc', "label": "1"},
        {"text": "\0d", "label": "2"},
    ]
    assert [r.source for r in rows] == ["a.csv line 2", "a.csv line 4"]


def test_csv_takes_fields_of_any_length(tmp_path: Path) -> None:
    long = "x" * 200_000
    rows = rows_of(write(tmp_path / "a.csv", f"text,label\n{long},1\n"))
    assert rows[0].values["text"] == long


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("a,b", ","), ("a;b;c", ";"), ("a\tb", "\t"), ("text", ","), ('"a;b",c', ",")],
)
def test_delimiter_is_read_off_the_header(header: str, delimiter: str) -> None:
    assert find_delimiter(header) == delimiter


def test_csv_flaws_name_their_lines_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        b'text,label\ngood,1\nlone\n\n"x"y,2\ncaf\xe9,3\nnew\rline,4\nlast,5\n',
    )
    rows = rows_of(path)
    assert [(r.source, r.flaw) for r in rows if r.flaw] == [
        ("a.csv line 3", "1 field where the header has 2 columns"),
        ("a.csv line 4", "a blank line"),
        ("a.csv line 5", "broken CSV (text right after a closing quotation mark)"),
        ("a.csv line 6", "not UTF-8 (byte 0xe9 at byte 4); save the file as UTF-8"),
        ("a.csv line 7", "a carriage return inside a field that is not quoted"),
    ]
    assert [r.values["text"] for r in rows if not r.flaw] == ["good", "last"]


def test_an_open_quotation_mark_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\nfine,1\n"never closed,2\nswallowed,3\n')
    with pytest.raises(InputError, match="a.csv line 3: a quotation mark .* never closed"):
        rows_of(path)


def test_tsv_takes_quotation_marks_as_text(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "a.tsv", 'text\tlabel\n"open\t1\n"whole"\t0\n'))
    assert [r.values["text"] for r in rows] == ['"open', '"whole"']


def test_tsv_with_quoted_fields_is_read_as_csv_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", 'text\tlabel\n"he said ""no"""\t1\n')
    assert rows_of(path, format="csv")[0].values == {"text": 'he said "no"', "label": "1"}
    assert rows_of(path, format="tsv")[0].values["text"] == '"he said ""no"""'


def test_tsv_counts_fields(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path / "a.tsv", 'text\tlabel\n"a\nb"\t1\nx\t1\n\ny\t0\n'))
    assert [r.flaw.split(";")[0] for r in rows] == [
        "1 field where the header has 2 columns",
        "",
        "",
        "1 field where the header has 2 columns",
        "",
    ]
    assert "--format csv" in rows[0].flaw


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_headers_are_checked(tmp_path: Path, name: str) -> None:
    mark = "," if name == "a.csv" else "\t"
    twice = write(tmp_path / name, f"text{mark}text\nx{mark}y\n")
    with pytest.raises(InputError, match="column 'text' stands twice in the header"):
        open_source(str(twice))
    unnamed = write(tmp_path / name, f"{mark}text\n0{mark}y\n")
    assert open_source(str(unnamed)).columns == ("column 1", "text")
    bare = write(tmp_path / name, f"text{mark}label\n")
    with pytest.raises(InputError, match="has no rows"):
        open_source(str(bare))


def test_mrpc_has_to_have_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "text\tlabel\nx\t1\n")
    with pytest.raises(InputError, match="not one of MRPC's own files"):
        open_source(str(path), format="mrpc")


# ---- parquet


def test_parquet_rows_come_with_their_types(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {"text": ["x", "y"], "label": [1, None], "tags": [["a"], []]}
    rows = rows_of(write_parquet(tmp_path / "a.parquet", table))
    assert [r.values for r in rows] == [
        {"text": "x", "label": 1, "tags": ["a"]},
        {"text": "y", "label": None, "tags": []},
    ]
    assert [r.source for r in rows] == ["a.parquet row 0", "a.parquet row 1"]


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", b"PAR1PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ResourceError, match=r"pip install 'qkvault\[extract\]'"):
        open_source(str(path))


_TEXTS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n\t"), min_size=1
).filter(lambda s: bool(s.strip()))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pairs=st.lists(st.tuples(_TEXTS, _TEXTS, st.integers(0, 9)), min_size=1, max_size=8))
def test_all_formats_give_the_same_rows(tmp_path: Path, pairs: list[tuple[str, str, int]]) -> None:
    names = ("sentence1", "sentence2", "label", "score")
    table = [(a, b, n, 3 * n) for a, b, n in pairs]
    dicts = [dict(zip(names, row, strict=True)) for row in table]
    write(tmp_path / "a.jsonl", "".join(json.dumps(d) + "\n" for d in dicts))
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([names, *table])
    lines = ["\t".join(map(str, row)) for row in (names, *table)]
    write(tmp_path / "a.tsv", "\n".join(lines))
    write_parquet(tmp_path / "a.parquet", {n: [d[n] for d in dicts] for n in names})
    found = [
        load_inputs(data=[str(tmp_path / f"a.{kind}")], format=kind)
        for kind in ("jsonl", "csv", "tsv", "parquet")
    ]
    assert [r.texts for r in found[0].rows] == [(a, b) for a, b, _ in pairs]
    assert [(r.texts, r.label, r.columns) for r in found[1].rows] == [
        (r.texts, r.label, r.columns) for r in found[0].rows
    ]
    assert len({f.text_hash for f in found}) == 1


# ---- data sets


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "sentence1": datasets.Value("string"),
            "sentence2": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["different", "same"]),
        }
    )
    one = datasets.Dataset.from_list([PAIR, {**PAIR, "label": -1}], features=features)
    two = datasets.Dataset.from_list([PAIR], features=features)
    folder = tmp_path / "saved"
    datasets.DatasetDict({"train": one, "test": two}).save_to_disk(str(folder))
    return folder


def test_saved_dataset_dict(saved: Path) -> None:
    found = load_inputs(data=[str(saved)], split="train")
    assert [r.texts for r in found.rows] == [("the cat sat", "the cat lay")] * 2
    assert [r.label for r in found.rows] == [1, None]
    assert found.label_names == ("different", "same")
    assert found.formats == ("datasets",)
    assert found.rows[1].source == "saved (train) row 1"


def test_saved_dataset_needs_a_split_only_among_several(saved: Path) -> None:
    with pytest.raises(InputError, match=r"several splits \(train, test\); say --split NAME"):
        load_inputs(data=[str(saved)])
    with pytest.raises(InputError, match="no split 'trian'; did you mean 'train'"):
        load_inputs(data=[str(saved)], split="trian")
    assert len(load_inputs(data=[str(saved / "train")]).rows) == 2
    with pytest.raises(InputError, match="has no --config"):
        load_inputs(data=[str(saved)], split="train", config="mrpc")


def test_load_dataset_reads_a_plain_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "pairs"
    folder.mkdir()
    write(folder / "train.jsonl", json.dumps(PAIR) + "\n")
    write(folder / "test.jsonl", json.dumps(PAIR) + "\n" + json.dumps(PAIR) + "\n")
    found = load_inputs(data=[str(folder)], format="datasets", split="test")
    assert len(found.rows) == 2
    assert len(load_inputs(data=[str(folder)], format="datasets", split="test[:1]").rows) == 1
    with pytest.raises(InputError, match="no split 'dev'; splits: t"):
        load_inputs(data=[str(folder)], format="datasets", split="dev")


def test_hub_name_is_loaded_with_its_config(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name: str, config: str | None, split: str | None = None) -> Any:
        asked.append((name, config, split))
        return datasets.load_from_disk(str(saved))[split]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = load_inputs(data=["nyu-mll/glue"], config="mrpc", split="train")
    assert asked == [("nyu-mll/glue", "mrpc", "train")]
    assert found.sources == ("nyu-mll/glue (train)",)
    assert found.rows[0].label == 1


def test_a_data_set_that_cannot_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(*args: Any, **options: Any) -> Any:
        raise ConnectionError("Couldn't reach 'org/none' on the Hub\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match="no data set 'org/none' that could be loaded") as caught:
        open_source("org/none")
    assert "\n" not in str(caught.value)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError, match=r"pip install 'qkvault\[datasets\]'"):
        open_source("org/name")


# ---- paths


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "train.tsv", "text\nx\n")
    with pytest.raises(InputError, match=r"no file 'trian.tsv' in .*; did you mean 'train.tsv'\?"):
        open_source(str(tmp_path / "trian.tsv"))
    with pytest.raises(InputError, match="the folder .* does not exist"):
        open_source(str(tmp_path / "none" / "train.tsv"))


def test_a_missing_second_file_is_found_before_the_first_is_read(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", "broken\n")
    with pytest.raises(InputError, match="no file 'b.jsonl'"):
        next(open_sources([str(first), str(tmp_path / "b.jsonl")], None, None, None))


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder, but not one .* saved; name a file"):
        open_source(str(tmp_path))
    write(tmp_path / "a.csv", "text\nx\n")
    with pytest.raises(InputError, match=r"name its files one by one \(a.csv\)"):
        open_source(str(tmp_path))
    with pytest.raises(InputError, match="is a folder, not a file of format csv"):
        open_source(str(tmp_path), format="csv")


def test_empty_files_and_odd_options(tmp_path: Path) -> None:
    empty = write(tmp_path / "a.jsonl", "")
    with pytest.raises(InputError, match="a.jsonl is empty"):
        open_source(str(empty))
    path = write(tmp_path / "b.jsonl", '{"text": "x"}\n')
    with pytest.raises(InputError, match="is a file; --split and --config are for data sets"):
        open_source(str(path), split="train")
    with pytest.raises(InputError, match="no format 'jsnl'; did you mean 'jsonl'"):
        next(open_sources([str(path)], "jsnl", None, None))
    with pytest.raises(InputError, match="no data; give --data"):
        next(open_sources([], None, None, None))


# ---- the real corpus


@needs_mrpc
@pytest.mark.parametrize(
    "names",
    [("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"), ("train.tsv", "test.tsv")],
)
def test_mrpc_is_read_whole(names: tuple[str, str]) -> None:
    found = load_inputs(data=[str(MRPC / n) for n in names])
    assert len(found.rows) == 5801
    assert Counter(r.label for r in found.rows) == {1: 3900, 0: 1901}
    assert found.rejects == []


@needs_mrpc
def test_mrpc_own_files_and_glue_tables_hold_the_same_texts() -> None:
    own = load_inputs(data=[str(MRPC / f"msr_paraphrase_{n}.txt") for n in ("train", "test")])
    glue = load_inputs(data=[str(MRPC / f"{n}.tsv") for n in ("train", "test")])
    assert own.formats == ("mrpc", "mrpc")
    assert [(r.texts, r.label) for r in own.rows] == [(r.texts, r.label) for r in glue.rows]
    assert own.rows[0].columns == {"#1 ID": 702876, "#2 ID": 702977}
    assert any("\x12" in t for r in own.rows for t in r.texts)


_PIECES = ["text", "label", "a", "1", ",", "\t", "\n", "\r", '"', '{"text": "x"}', "{", "}", "\0"]
_ODD_PIECES = [b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b":", b"[", b"\xe2\x80\xa8"]
_CONTENTS = st.lists(
    st.sampled_from([*(p.encode() for p in _PIECES), *_ODD_PIECES]), max_size=40
).map(b"".join)


def load_or_explain(path: Path, format: str, on_bad: Literal["stop", "skip"]) -> Inputs | str:
    try:
        return load_inputs(data=[str(path)], format=format, on_bad=on_bad)
    except InputError as error:
        return str(error)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=_CONTENTS, format=st.sampled_from([f for f in FORMATS if f != "datasets"]))
def test_any_bytes_give_rows_or_one_clear_line(tmp_path: Path, content: bytes, format: str) -> None:
    path = write(tmp_path / "data", b"text\tlabel\n" + content)
    strict, found = (load_or_explain(path, format, on_bad) for on_bad in ("stop", "skip"))
    assert not isinstance(strict, str) or strict.isprintable()
    if isinstance(found, str):
        assert found.isprintable()
        assert isinstance(strict, str)
        return
    assert isinstance(strict, str) == bool(found.rejects)
    numbers = sorted([*(r.number for r in found.rows), *(r.number for r in found.rejects)])
    assert numbers == list(range(len(numbers)))
    for row in found.rows:
        plain = [row.texts, row.id, row.label, dict(row.columns)]
        assert json.dumps(plain, ensure_ascii=False, allow_nan=False).encode()
