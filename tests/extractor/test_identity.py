"""Hashes: equal for equal things, different for different ones."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from qkvault import InputError
from qkvault_extractor.identity import hub_commit, text_hash, tokenizer_hash, weights_hash
from qkvault_extractor.inputs import load_inputs
from qkvault_extractor.rows import Row

if TYPE_CHECKING:
    from pathlib import Path

ROW = Row(0, "a.tsv line 2", ("one", "two"), "7", 1, {"k": 1, "tags": ["x"]})


def test_the_hash_is_frozen() -> None:
    """Vaults compare it across releases; a change here stops every unfinished run from going on."""
    assert text_hash([ROW]) == "61a054cc734b17be0312955e925acf00ee58c9e4a81c747fb131dc2e318231d8"


@pytest.mark.parametrize(
    "other",
    [
        [replace(ROW, texts=("on", "etwo"))],
        [replace(ROW, texts=("onetwo",))],
        [replace(ROW, texts=("two", "one"))],
        [replace(ROW, id="8")],
        [replace(ROW, label=None)],
        [replace(ROW, label="1")],
        [replace(ROW, label=1.5)],
        [replace(ROW, columns={"k": 2, "tags": ["x"]})],
        [replace(ROW, columns={"k": 1})],
        [ROW, ROW],
        [],
    ],
)
def test_any_change_changes_the_hash(other: list[Row]) -> None:
    assert text_hash(other) != text_hash([ROW])


@pytest.mark.parametrize(
    "same",
    [
        replace(ROW, source="b.parquet row 0", number=3),
        replace(ROW, columns={"tags": ["x"], "k": 1}),
        replace(ROW, columns={"k": 1, "tags": ["x"], "none": None}),
    ],
)
def test_where_a_row_stood_does_not_count(same: Row) -> None:
    assert text_hash([same]) == text_hash([ROW])


def test_the_order_of_rows_counts() -> None:
    two = replace(ROW, id="8")
    assert text_hash([ROW, two]) != text_hash([two, ROW])


def test_formats_of_one_table_hash_alike(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = [
        {"text": 'é "quoted", 😀', "label": 1, "n": 5},
        {"text": "b\0", "label": 0, "n": 6},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    cells = "".join(f'"{r["text"]}",{r["label"]},{r["n"]}\n' for r in rows)
    cells = cells.replace('"quoted"', '""quoted""')
    (tmp_path / "a.csv").write_text("text,label,n\n" + cells, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = {load_inputs(data=[str(tmp_path / f"a.{f}")]).text_hash for f in ("jsonl", "csv")}
    found.add(load_inputs(data=[str(tmp_path / "a.parquet")]).text_hash)
    assert len(found) == 1
    (tmp_path / "copy.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    found.add(load_inputs(data=[str(tmp_path / "copy.jsonl")]).text_hash)
    assert len(found) == 1


def make_tokenizer(*words: str) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocab = {w: i for i, w in enumerate(("[UNK]", *words))}
    pipeline = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="[UNK]"))
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=pipeline, unk_token="[UNK]")


def test_tokenizers_hash_by_what_they_do(tmp_path: Path) -> None:
    one = make_tokenizer("the", "cat")
    before = tokenizer_hash(one)
    one(["the cat the cat"], truncation=True, max_length=2)
    assert tokenizer_hash(one) == before
    one.save_pretrained(tmp_path)
    assert tokenizer_hash(type(one).from_pretrained(tmp_path)) == before
    assert tokenizer_hash(make_tokenizer("cat", "the")) != before
    one.add_tokens(["mat"])
    assert tokenizer_hash(one) != before


def test_slow_tokenizers_hash_too() -> None:
    transformers = pytest.importorskip("transformers")
    one = tokenizer_hash(transformers.ByT5Tokenizer())
    assert tokenizer_hash(transformers.ByT5Tokenizer()) == one
    assert tokenizer_hash(transformers.ByT5Tokenizer(extra_ids=3)) != one


def test_weights_hash_by_their_bytes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model: it has no config.json"):
        weights_hash(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"it has no weights \(\*.safetensors or \*.bin\)"):
        weights_hash(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"old")
    by_bin = weights_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    by_safetensors = weights_hash(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"other")
    (tmp_path / "README.md").write_text("more")
    assert weights_hash(tmp_path) == by_safetensors
    (tmp_path / "model.safetensors").write_bytes(b"weighty")
    changed = weights_hash(tmp_path)
    (tmp_path / "config.json").write_text("{} ")
    assert len({by_bin, by_safetensors, changed, weights_hash(tmp_path)}) == 4


def test_hub_commit_is_read_off_the_config() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert hub_commit(SimpleNamespace(_commit_hash=commit)) == commit
    assert hub_commit(SimpleNamespace(_commit_hash=None)) is None
    assert hub_commit(SimpleNamespace()) is None
