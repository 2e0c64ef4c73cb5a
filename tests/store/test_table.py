"""The search table: filters, order and paging, against plain Python over the same rows."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from qkvault.errors import InputError, OutOfRange
from qkvault.table import Table
from store.table_source import SourceInMemory, make_record

WORDS = [
    "cat",
    "sat",
    "mat",
    "rug",
    "lay",
    "dog",
    "The",
    "naïve",
    "Über",
    "猫",
    "don't",
    "well-known",
]
GENRES: list[object] = ["news", "Fiction", "", None]
MIXED: list[object] = [1, 2.5, "2", True, None, "x", -3]


def _rows(count: int, seed: int = 0) -> list:
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        columns = {"genre": rng.choice(GENRES), "mixed": rng.choice(MIXED), "score": rng.random()}
        if rng.random() < 0.5:
            columns["rare"] = rng.randrange(1000)
        if rng.random() < 0.3:
            columns["label"] = rng.choice("ab")
        texts = [
            " ".join(rng.choices(WORDS, k=rng.randrange(1, 9))) for _ in range(rng.choice((1, 2)))
        ]
        label = rng.choice((0, 1, None))
        rows.append(
            make_record(
                f"r{n:03}", *texts, length=rng.randrange(1, 12), label=label, columns=columns
            )
        )
    return rows


@pytest.fixture(scope="module")
def source() -> SourceInMemory:
    logits = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    logits[7] = np.nan
    return SourceInMemory(_rows(300), logits)


@pytest.fixture(scope="module")
def table(source: SourceInMemory, tmp_path_factory: pytest.TempPathFactory) -> Table:
    return Table(source, folder=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def plain(source: SourceInMemory) -> list[dict]:
    """The same rows, worked out without the table."""
    rows = []
    for n, record in enumerate(source.records):
        prediction = None if n == 7 else int(source.logits[n].argmax())
        correct = None if prediction is None or record.label is None else record.label == prediction
        rows.append(
            {
                "index": n,
                "id": record.id,
                "text": list(record.text),
                "length": len(record.tokens),
                "label": record.label,
                "prediction": prediction,
                "correct": correct,
                "columns": dict(record.columns),
            }
        )
    return rows


def _value(row: dict, column: str) -> object:
    if column == "text":
        return "\n".join(row["text"])
    if column in row:
        return row[column]
    return row["columns"].get(column.removeprefix("columns."))


def _sorted(rows: list[dict], column: str, descending: bool) -> list[int]:
    def key(row: dict) -> tuple[int, object]:
        value = _value(row, column)
        return (1, value) if isinstance(value, str) else (0, value)

    present = [row for row in rows if _value(row, column) is not None]
    missing = [row["index"] for row in rows if _value(row, column) is None]
    return [row["index"] for row in sorted(present, key=key, reverse=descending)] + missing


SORTS = ["index", "id", "text", "length", "label", "prediction", "correct", "genre", "mixed"]
SORTS += ["score", "rare", "columns.label"]
FILTERS = [
    (None, lambda row: True),
    ({"label": 1}, lambda row: row["label"] == 1),
    ({"label": [0, None]}, lambda row: row["label"] in (0, None)),
    ({"correct": False}, lambda row: row["correct"] is False),
    ({"prediction": None}, lambda row: row["index"] == 7),
    ({"min_length": 4, "max_length": 6}, lambda row: 4 <= row["length"] <= 6),
    (
        {"length": {"min": 9}, "genre": "news"},
        lambda r: r["length"] >= 9 and r["columns"]["genre"] == "news",
    ),
    ({"score": (0.2, 0.4)}, lambda row: 0.2 <= row["columns"]["score"] <= 0.4),
    ({"columns.label": "a"}, lambda row: row["columns"].get("label") == "a"),
    (
        {"mixed": 1},
        lambda row: row["columns"]["mixed"] in (1, True) and row["columns"]["mixed"] is not None,
    ),
    ({"mixed": "2"}, lambda row: row["columns"]["mixed"] == "2"),
    ({"id": "r017"}, lambda row: row["id"] == "r017"),
    ({"index": {"max": 20}}, lambda row: row["index"] <= 20),
    ({"genre": []}, lambda row: False),
    ({"genre": ""}, lambda row: row["columns"]["genre"] == ""),
    ({"rare": None, "label": 0}, lambda r: r["columns"].get("rare") is None and r["label"] == 0),
]


@pytest.mark.parametrize(("where", "passes"), FILTERS)
def test_filters_and_orders_agree_with_plain_python(
    table: Table, plain: list[dict], where: dict | None, passes
) -> None:
    kept = [row for row in plain if passes(row)]
    for sort in SORTS:
        for descending in (False, True):
            expected = _sorted(kept, sort, descending)
            assert table.ids(where=where, sort=sort, descending=descending).tolist() == expected
            page = table.rows(where=where, sort=sort, descending=descending, limit=7)
            assert page.total == len(kept)
            assert [row["index"] for row in page.rows] == expected[:7]


def test_rows_show_what_the_records_say(table: Table, plain: list[dict]) -> None:
    for shown, expected in zip(table.rows(limit=300).rows, plain, strict=True):
        names = {"genre", "mixed", "score", "rare", "label"}
        assert shown["columns"] == {
            name: expected["columns"].get(name) for name in shown["columns"]
        }
        assert set(shown["columns"]) <= names
        assert set(expected["columns"]) <= set(shown["columns"])
        assert {**shown, "columns": None} == {**expected, "columns": None}


@pytest.mark.parametrize("limit", [1, 7, 299, 300])
@pytest.mark.parametrize("where", [None, {"label": 1}, {"min_length": 11}, {"id": "r017"}])
def test_paging_by_cursor_gives_every_row_once(
    table: Table, where: dict | None, limit: int
) -> None:
    seen, cursor = [], None
    while True:
        page = table.rows(where=where, sort="genre", descending=True, cursor=cursor, limit=limit)
        seen += [row["index"] for row in page.rows]
        cursor = page.next
        if cursor is None:
            break
    assert seen == table.ids(where=where, sort="genre", descending=True).tolist()


@pytest.mark.parametrize("where", [None, {"label": 1}, {"id": ["r017", "r200"]}])
def test_position_tells_place_and_neighbours(table: Table, where: dict | None) -> None:
    ids = table.ids(where=where, sort="length").tolist()
    for place, index in enumerate(ids):
        found = table.position(index, where=where, sort="length")
        assert (found.place, found.total) == (place, len(ids))
        assert found.previous == (ids[place - 1] if place else None)
        assert found.next == (ids[place + 1] if place + 1 < len(ids) else None)


def test_position_of_an_example_outside_the_list(table: Table) -> None:
    found = table.position(100, where={"id": ["r017", "r200"]})
    assert (found.place, found.previous, found.next, found.total) == (None, 17, 200, 2)
    with pytest.raises(OutOfRange, match="300 examples"):
        table.position(300)


def test_cursor_of_another_list_is_refused(table: Table) -> None:
    cursor = table.rows(sort="length", limit=5).next
    with pytest.raises(InputError, match="another search"):
        table.rows(sort="id", cursor=cursor)
    for wrong in ("", "x", "é", "AAAA", "\0", "=" * 9, cursor + "A"):
        with pytest.raises(InputError, match="another search"):
            table.rows(sort="length", cursor=wrong)


def test_unknown_column_names_the_nearest(table: Table) -> None:
    with pytest.raises(InputError, match=r"no column 'lable'; did you mean 'label'\?"):
        table.rows(where={"lable": 1})
    with pytest.raises(InputError, match=r"no column 'genres'; did you mean 'genre'\?"):
        table.rows(sort="genres")
    with pytest.raises(InputError, match="it has index, id, text"):
        table.ids(where={"zzzzz": 1})


@pytest.mark.parametrize(
    "where",
    [
        {"label": {"low": 1}},
        {"label": {}},
        {"label": (1, 2, 3)},
        {"label": [[1]]},
        {"label": float("nan")},
        {"label": object()},
        {"min_length": {"min": 3}},
    ],
)
def test_impossible_filters_are_refused(table: Table, where: dict) -> None:
    with pytest.raises(InputError):
        table.rows(where=where)


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_page_size_is_bounded(table: Table, limit: int) -> None:
    with pytest.raises(InputError, match="1 to 10000"):
        table.rows(limit=limit)


def test_columns_are_described(table: Table, plain: list[dict]) -> None:
    columns = {column.name: column for column in table.columns()}
    assert list(columns)[:7] == ["index", "id", "text", "length", "label", "prediction", "correct"]
    assert set(columns) == {*SORTS}
    kinds = {name: column.type for name, column in columns.items()}
    assert kinds["genre"] == "text"
    assert kinds["score"] == "number"
    assert kinds["mixed"] == "mixed"
    assert kinds["correct"] == "boolean"
    assert kinds["prediction"] == "integer"
    labels = [row["label"] for row in plain]
    assert columns["label"].distinct == ((0, labels.count(0)), (1, labels.count(1)))
    assert columns["label"].present == 300 - labels.count(None)
    assert columns["correct"].distinct[0][0] is False
    assert columns["score"].distinct is None
    scores = [row["columns"]["score"] for row in plain]
    assert (columns["score"].minimum, columns["score"].maximum) == (min(scores), max(scores))
    assert columns["columns.label"].user
    assert columns["columns.label"].original == "label"
    assert not columns["length"].user


def test_label_names_stand_for_their_numbers(tmp_path: Path) -> None:
    records = [make_record(f"{n}", "x", label=n % 2) for n in range(10)]
    logits = np.eye(2, dtype=np.float32)[[0, 0, 1, 1, 0, 0, 1, 1, 0, 0]]
    table = Table(SourceInMemory(records, logits, label_names=("no", "yes")), folder=tmp_path)
    assert table.ids(where={"label": "yes"}).tolist() == [1, 3, 5, 7, 9]
    assert table.ids(where={"prediction": ["yes"]}).tolist() == [2, 3, 6, 7]
    assert table.ids(where={"label": "maybe"}).tolist() == []
    assert table.ids(where={"correct": True}).tolist() == [0, 3, 4, 7, 8]


def test_labels_given_by_name_are_judged(tmp_path: Path) -> None:
    records = [
        make_record(f"{n}", "x", label=label) for n, label in enumerate(["yes", "no", "?", 1.0])
    ]
    logits = np.eye(2, dtype=np.float32)[[1, 1, 1, 1]]
    table = Table(SourceInMemory(records, logits, label_names=("no", "yes")), folder=tmp_path)
    assert [row["correct"] for row in table.rows().rows] == [True, False, None, None]


def test_one_output_is_a_score(tmp_path: Path) -> None:
    records = [make_record(f"{n}", "x", label=n) for n in range(3)]
    logits = np.array([[0.5], [-1.25], [np.nan]], np.float32)
    table = Table(SourceInMemory(records, logits), folder=tmp_path)
    rows = table.rows(sort="prediction").rows
    assert [(row["index"], row["prediction"], row["correct"]) for row in rows] == [
        (1, -1.25, None),
        (0, 0.5, None),
        (2, None, None),
    ]


def test_no_head_means_no_prediction(tmp_path: Path) -> None:
    table = Table(SourceInMemory([make_record("a", "x", label=1)]), folder=tmp_path)
    row = table.rows().rows[0]
    assert row["prediction"] is None
    assert row["correct"] is None
    assert {c.name: c.type for c in table.columns()}["prediction"] == "empty"


def test_an_empty_vault_has_an_empty_table(tmp_path: Path) -> None:
    table = Table(SourceInMemory([]), folder=tmp_path)
    assert table.rows(query="x", where={"label": 1}, sort="length", descending=True).rows == []
    assert table.ids().shape == (0,)


def test_fifty_thousand_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 100, 50_000)
    common = rng.random(50_000) < 0.7
    records = [
        make_record(str(n), f"w{n % 977} {'often' if common[n] else 'seldom'}", label=n % 3)
        for n in range(50_000)
    ]
    for n, length in enumerate(lengths.tolist()):
        object.__setattr__(records[n], "token_ids", range(length))
    table = Table(SourceInMemory(records), folder=tmp_path)
    expected = np.flatnonzero(common & (np.arange(50_000) % 3 == 1) & (lengths >= 90))
    expected = expected[np.argsort(-lengths[expected], kind="stable")]
    asked = {"query": "often", "where": {"label": 1, "min_length": 90}}
    assert (table.ids(**asked, sort="length", descending=True) == expected).all()
    assert table.rows(query="w5 oft*").total == np.count_nonzero(common[5::977])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qkvault.table.reader.matching_rows", None)  # the answer is remembered
        assert table.rows(**asked, sort="id").total == len(expected)


class SourceWithMetrics(SourceInMemory):
    """Two metrics of 2 layers of 2 heads, made of the example's number."""

    def __init__(self, count: int) -> None:
        super().__init__([make_record(f"{n}", "x", label=n % 2) for n in range(count)])
        self.spec = dataclasses.replace(self.spec, metrics=("entropy", "max"))
        self.asked: list[tuple] = []

    def metrics(self, name, stack=None, layer=None, head=None):
        self.asked.append((name, stack, layer, head))
        if layer > 1:
            raise OutOfRange(f"layer {layer} was asked for")
        values = ((np.arange(len(self)) * 7 + layer + 10 * head) % 5).astype(np.float32)
        values[3] = np.nan
        return values if name == "max" else -values


def test_head_metrics_are_columns(tmp_path: Path) -> None:
    source = SourceWithMetrics(40)
    table = Table(source, folder=tmp_path)
    values = source.metrics("entropy", None, 1, 0)
    present = [n for n in range(40) if n != 3]
    rising = sorted(present, key=lambda n: values[n])
    falling = sorted(present, key=lambda n: -values[n])
    assert table.ids(sort="entropy[1,0]").tolist() == [*rising, 3]
    assert table.ids(sort="entropy[1,0]", descending=True).tolist() == [*falling, 3]
    high = [n for n in present if values[n] >= -1 and n % 2]
    where = {"entropy[1,0]": {"min": -1}, "label": 1}
    assert table.ids(where=where).tolist() == high
    page = table.rows(where=where, sort="max[0,1]", limit=5)
    most = source.metrics("max", None, 0, 1)
    for row in page.rows:
        n = row["index"]
        assert row["metrics"] == {"max[0,1]": most[n], "entropy[1,0]": values[n]}
    assert table.rows(where={"index": 3}, sort="max[0,1]").rows[0]["metrics"] == {"max[0,1]": None}
    assert "metrics" not in table.rows().rows[0]
    asked = len(source.asked)
    table.rows(sort="max[0,1]", descending=True, cursor=None)
    assert table.position(9, sort="max[0,1]").total == 40
    assert len(source.asked) == asked
    table.ids(sort="encoder.max[ 0, -1 ]")
    assert source.asked[-1] == ("max", "encoder", 0, -1)


def test_head_metrics_that_are_not_there(tmp_path: Path) -> None:
    table = Table(SourceWithMetrics(10), folder=tmp_path)
    with pytest.raises(OutOfRange, match="layer 2"):
        table.rows(sort="max[2,0]")
    for name in ("mean[0,0]", "max[0]", "max[a,b]", "max[0,0]x", "max[99999999999,0]"):
        with pytest.raises(InputError, match="no column"):
            table.rows(sort=name)
