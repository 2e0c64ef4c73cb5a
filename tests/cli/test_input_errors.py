"""What users get wrong, row by row, through the command line: one line that names row and remedy,
the right exit code, no model loaded for what can be told without it, nothing written, nothing lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import qkvault
from cli.commands import GOOD, assert_told, extract, files_below, run, whole, write_rows

LONG = " ".join(["cat"] * 200)


@dataclass(frozen=True)
class Mistake:
    """One row of the table of errors.

    Attributes:
        rows: of the data, dictionaries or raw lines; the second one is bad, if any is.
        says: what the one line on standard error must hold.
        options: of the command line.
        model: name of the fixture's model.
        reason: what is noted of the bad row where it is skipped; "" where no row is to blame.
    """

    rows: tuple[Any, ...]
    says: tuple[str, ...]
    options: tuple[str, ...] = ()
    model: str = "bert"
    reason: str = ""


def bad_row(row: Any, reason: str, *says: str, model: str = "bert", **given: Any) -> Mistake:
    """A row that cannot be used, between two that can; the message names its line."""
    rows = (GOOD, row, {**GOOD, "id": "last"})
    told = ("data.jsonl line 2: ", reason, "--on-bad skip", *says)
    return Mistake(rows, told, model=model, reason=reason, **given)


TOO_LONG = "tokens where the model takes 160 at most"
BEFORE_THE_MODEL = {
    "bad column": Mistake(
        (GOOD,),
        ("column 'txet'", "did you mean 'text'?", "columns: text, id"),
        ("--text-columns", "txet"),
    ),
    "bad label column": Mistake(
        (GOOD,), ("'labl'", "columns: text, id"), ("--label-column", "labl")
    ),
    "empty text": bad_row({"text": ""}, "empty text in column 'text'"),
    "blank text": bad_row({"text": " \t\u3000"}, "empty text in column 'text'"),
    "no tokens": bad_row(
        {"text": "\u200b"}, "the tokenizer makes no tokens of the text", model="without specials"
    ),
    "nothing but special tokens": bad_row(
        {"text": "\u200b"}, "the tokenizer makes no tokens of the text"
    ),
    "too long, learnt positions": bad_row({"text": LONG}, TOO_LONG, "--truncate"),
    "too long, GPT-2": bad_row({"text": LONG}, TOO_LONG, "--truncate", model="gpt2"),
    "too long, rotary positions": bad_row({"text": LONG}, TOO_LONG, "--truncate", model="llama"),
    "tokenizer of another model": Mistake(
        (GOOD,),
        ("data.jsonl line 1", "vocabulary ends at 4: the tokenizer belongs to another model"),
        model="small vocabulary",
    ),
    "unknown model type": Mistake(
        (GOOD,), ("'perpetuum'", "supported: BERT"), model="unknown type"
    ),
    "code of its own": Mistake((GOOD,), ("supported: BERT",), model="with code"),
    "a number": bad_row({"text": 5}, "column 'text' holds a number where a text is expected"),
    "None": bad_row({"text": None}, "no text in column 'text'"),
    "a list": bad_row({"text": ["a"]}, "column 'text' holds a list where a text is expected"),
    "mixed labels": bad_row(
        {"text": "a cat", "label": [1]},
        "the label is a list; a number or a string is expected",
        options=("--label-column", "label"),
    ),
    "lone surrogate": bad_row('{"text": "a\\ud800b"}', "a lone surrogate (U+D800 at character 2)"),
    "duplicate ids": bad_row(
        GOOD, "id 'good' stands at data.jsonl line 1 already", options=("--id-column", "id")
    ),
    "broken line": bad_row('{"text": ', "broken JSON"),
}


@pytest.mark.parametrize("name", BEFORE_THE_MODEL)
def test_it_is_told_before_the_model_is_loaded(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    mistake = BEFORE_THE_MODEL[name]
    data, out = write_rows(tmp_path, mistake.rows), tmp_path / "out.vault"
    result = extract(models[mistake.model], data, out, *mistake.options)
    assert_told(result, 2, *mistake.says)
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"], "nothing was written"


def test_weights_that_cannot_be_read_are_told_last(models: dict[str, Path], tmp_path: Path) -> None:
    """What the tests above rest on: loading these models does fail, in other words."""
    result = extract(models["bert"], write_rows(tmp_path, (GOOD,)), tmp_path / "out.vault")
    assert result.exit_code == 2
    assert "its weights cannot be loaded" in result.stderr


@pytest.mark.parametrize("name", [n for n, m in BEFORE_THE_MODEL.items() if m.reason])
def test_a_bad_row_is_skipped_listed_and_shown(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    mistake = BEFORE_THE_MODEL[name]
    data, out = write_rows(tmp_path, mistake.rows), tmp_path / "out.vault"
    done = extract(whole(models, mistake.model), data, out, *mistake.options, "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "2 examples, 1 rejected" in done.stdout
    (reject,) = map(json.loads, (out / "rejects.jsonl").read_text("utf-8").splitlines())
    assert (reject["row"], reject["source"]) == (1, "data.jsonl line 2")
    assert mistake.reason in reject["reason"]
    shown = run("info", out)
    assert "rejects      1" in shown.stdout
    assert "data.jsonl line 2" in shown.stdout
    assert mistake.reason in shown.stdout
    assert json.loads(run("info", out, "--json").stdout)["rejected"] == [reject]
    assert run("verify", out, "--full").exit_code == 0


@pytest.mark.parametrize("name", ["empty text", "too long, rotary positions", "duplicate ids"])
def test_a_vault_that_is_there_loses_nothing(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    mistake = BEFORE_THE_MODEL[name]
    data, out = write_rows(tmp_path, (GOOD,)), tmp_path / "out.vault"
    assert extract(whole(models, mistake.model), data, out, *mistake.options).exit_code == 0
    before = files_below(out)
    write_rows(tmp_path, mistake.rows)
    assert_told(extract(models[mistake.model], data, out, *mistake.options), 2)
    assert files_below(out) == before


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
def test_what_is_cut_says_so(model: str, models: dict[str, Path], tmp_path: Path) -> None:
    data, out = write_rows(tmp_path, (GOOD, {"text": LONG})), tmp_path / "out.vault"
    done = extract(whole(models, model), data, out, "--truncate")
    assert done.exit_code == 0, done.output
    with qkvault.open(out) as vault:
        assert vault[1].columns["truncated"] is True
        assert "truncated" not in vault[0].columns
        assert len(vault[1].tokens) == 160


STRANGE = {
    "NUL": "the cat\0sat",
    "bidi": "the \u202ecat\u202c sat \u200f",
    "ZWJ": "the \U0001f468\u200d\U0001f469\u200d\U0001f467 sat",
    "zero width": "the\u200b cat\u2060",
    "BOM": "\ufeffthe cat",
    "NFD": "the cafe\u0301",
    "NFC": "the caf\u00e9",
    "line separators": "the\u2028cat\x0bsat\x85",
    "markup": "<img src=x onerror=alert(1)> the cat",
}


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_strange_characters_come_back_byte_for_byte(
    model: str, models: dict[str, Path], tmp_path: Path
) -> None:
    data, out = tmp_path / "data.jsonl", tmp_path / "out.vault"
    rows = [{"text": text, "id": text, "note": text} for text in STRANGE.values()]
    written = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data.write_bytes(written.encode())
    done = extract(whole(models, model), data, out, "--id-column", "id")
    assert done.exit_code == 0, done.output
    with qkvault.open(out) as vault:
        for text in STRANGE.values():
            example = vault.by_id(text)
            assert example.text == (text,)
            assert example.text[0].encode() == text.encode()
            assert example.columns["note"] == text
    assert run("verify", out, "--full").exit_code == 0


def test_a_spelled_special_token_is_text_and_is_told(
    models: dict[str, Path], tmp_path: Path
) -> None:
    rows = (GOOD, {"text": "the [SEP] cat [PAD]"}, {"text": "a </s> cat"})
    data, out = write_rows(tmp_path, rows), tmp_path / "out.vault"
    done = extract(whole(models), data, out)
    assert done.exit_code == 0, done.output
    assert "1 row spells special tokens such as [SEP] (data.jsonl line 2)" in done.stderr
    assert "it is text there" in done.stderr
    with qkvault.open(out) as vault:
        assert sum(vault[1].record.special) == 2, "those that the tokenizer put there"
        assert vault.info()["model"]["spelled_specials"] == 1  # type: ignore[index,call-overload]


def test_padding_is_never_served(models: dict[str, Path], tmp_path: Path) -> None:
    rows = ({"text": "cat"}, {"text": "the cat sat on the mat"}, {"text": "the cat sat"})
    data, out = write_rows(tmp_path, rows), tmp_path / "out.vault"
    assert extract(whole(models), data, out).exit_code == 0
    with qkvault.open(out) as vault:
        assert len({example.bucket for example in vault}) == 1, "they share a padded batch"
        for example in vault:
            tokens = len(example.tokens)
            for layer in range(3):
                weights = example.attention[layer]
                assert weights.shape == (4, tokens, tokens)
                assert abs(weights.sum(-1) - 1).max() < 1e-3, "no weight went to padding"
                assert example.query[layer].shape == (4, tokens, 8)
            assert "[PAD]" not in example.tokens


def test_another_plan_names_what_differs(models: dict[str, Path], tmp_path: Path) -> None:
    data, out = write_rows(tmp_path, (GOOD,)), tmp_path / "out.vault"
    assert extract(whole(models), data, out).exit_code == 0
    before = files_below(out)
    refused = extract(models["bert"], data, out, "--precision", "uint8", "--max-length", "9")
    says = ("differs in", "precision (was", "max_length (was 160, now 9)", "model (was")
    assert_told(refused, 2, *says)
    assert "data (was" not in refused.stderr
    write_rows(tmp_path, ({**GOOD, "text": "the dog"},))
    assert_told(extract(whole(models), data, out), 2, "data (was")
    assert files_below(out) == before
