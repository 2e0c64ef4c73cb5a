"""What users get wrong, row by row, through the command line: one line that names row and remedy,
the right exit code, no model loaded for what can be told without it, nothing written, nothing lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import qkvault
from extractor.models import overflow_on, tiny_bert, tiny_gpt2, tiny_llama
from qkvault_cli.main import main

GOOD = {"text": "the cat sat on the mat", "id": "good"}
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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose weights cannot be read: whoever loads them says so."""
    home = tmp_path_factory.mktemp("models")
    made = {
        "bert": tiny_bert(home / "bert"),
        "gpt2": tiny_gpt2(home / "gpt2"),
        "llama": tiny_llama(home / "llama"),
    }
    changed: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
        "without specials": ("tokenizer.json", lambda d: d.update(post_processor=None)),
        "small vocabulary": ("config.json", lambda d: d.update(vocab_size=5)),
        "unknown type": ("config.json", lambda d: d.update(model_type="perpetuum")),
        "with code": (
            "config.json",
            lambda d: d.update(model_type="own", auto_map={"AutoConfig": "own.OwnConfig"}),
        ),
    }
    for name, (file, change) in changed.items():
        made[name] = Path(shutil.copytree(made["bert"], home / name))
        document = json.loads((made[name] / file).read_text(encoding="utf-8"))
        change(document)
        (made[name] / file).write_text(json.dumps(document), encoding="utf-8")
    for folder in made.values():
        shutil.copytree(folder, folder.with_name(f"{folder.name} whole"))
        (folder / "model.safetensors").write_bytes(b"not weights")
    return made


def whole(models: dict[str, Path], name: str = "bert") -> Path:
    """The model with its weights."""
    return models[name].with_name(f"{models[name].name} whole")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def extract(model: Path, data: Path, out: Path, *more: object) -> Result:
    return run("extract", "--model", model, "--data", data, "--out", out, "--device", "cpu", *more)


def write_rows(folder: Path, rows: tuple[Any, ...]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "data.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder / "data.jsonl"


def files_below(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def assert_told(result: Result, code: int, *says: str) -> None:
    """One line on standard error, beside those of progress, holds all of it; no remedy runs a
    stranger's code."""
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("extract: ")]
    assert len(lines) == 1, result.stderr
    for part in says:
        assert part in result.stderr
    assert "trust_remote_code" not in result.stderr
    assert "cannot be loaded" not in result.stderr, "the weights were opened"


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


OVERFLOWING = (
    GOOD,
    {"text": "snow and the dog", "id": "bad"},
    {"text": "a cat and a dog", "id": "b"},
    {"text": "a big red rug with snow", "id": "worse"},
    {"text": "the night was long and quiet and nobody heard the dog by the lake", "id": "long"},
)
NOT_FINITE = "the attention of layer 0 is not finite"


def test_values_that_are_not_finite_stop_the_run(models: dict[str, Path], tmp_path: Path) -> None:
    model = overflow_on("snow", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    stopped = extract(model, data, out, "--id-column", "id")
    assert_told(stopped, 2, f"data.jsonl line 2: {NOT_FINITE}", "--dtype float32", "--on-bad skip")
    assert qkvault.vault_state(out) == "unfinished", "it can be gone on with"
    with pytest.raises(qkvault.VaultError, match="never extracted"):
        qkvault.open(out, partial=True).by_id("bad").attention[0]
    assert run("run", out).exit_code == 2
    assert f"example bad: {NOT_FINITE}" in run("run", out).stderr


def test_rows_that_overflow_are_left_out_as_if_they_had_not_been_there(
    models: dict[str, Path], tmp_path: Path
) -> None:
    model = overflow_on("snow", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    assert extract(model, data, out, "--id-column", "id").exit_code == 2
    done = extract(model, data, out, "--id-column", "id", "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "3 examples, 2 rejected" in done.stdout
    rejected = json.loads(run("info", out, "--json").stdout)["rejected"]
    assert [(r["row"], r["id"], r["source"]) for r in rejected] == [
        (1, "bad", "data.jsonl line 2"),
        (3, "worse", "data.jsonl line 4"),
    ]
    assert {r["reason"] for r in rejected} == {NOT_FINITE}
    shown = run("info", out).stdout
    assert NOT_FINITE in shown
    assert "nan" not in shown.lower()
    verified = run("verify", out, "--full")
    assert verified.exit_code == 0, verified.output
    assert "already complete" in extract(model, data, out, "--id-column", "id").stdout

    sound = tuple(row for row in OVERFLOWING if "snow" not in row["text"])
    other = tmp_path / "sound.vault"
    assert extract(model, write_rows(tmp_path, sound), other, "--id-column", "id").exit_code == 0
    arrays = {name: data for name, data in files_below(out).items() if name.startswith("b")}
    same = files_below(other)
    assert arrays.keys() == {name for name in same if name.startswith("b")}
    with qkvault.open(out) as ours, qkvault.open(other) as theirs:
        assert [example.id for example in ours] == [example.id for example in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert (a.attention[0] == b.attention[0]).all()
            assert (a.value[2] == b.value[2]).all()


def test_the_longest_text_may_overflow(models: dict[str, Path], tmp_path: Path) -> None:
    """The model is tried on it before anything is planned."""
    model = overflow_on("lake", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    assert_told(extract(model, data, out), 2, f"data.jsonl line 5: {NOT_FINITE}")
    assert not out.exists()
    done = extract(model, data, out, "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "4 examples, 1 rejected" in done.stdout


@pytest.mark.parametrize("more", [(), ("--on-bad", "skip")])
def test_a_model_that_gives_nothing_finite_is_refused(
    more: tuple[str, ...], models: dict[str, Path], tmp_path: Path
) -> None:
    model = overflow_on("[CLS]", whole(models), tmp_path / "model")
    data, out = write_rows(tmp_path, OVERFLOWING), tmp_path / "out.vault"
    assert_told(extract(model, data, out, *more), 2, NOT_FINITE)
    assert not out.exists()


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Let forward passes of more tokens run out of a device's memory, once units are filled."""
    import torch

    from qkvault_extractor.model import LoadedModel
    from qkvault_extractor.run import Worker

    def limit(most: int) -> list[int]:
        forward, fill = LoadedModel.forward, Worker._fill
        tried: list[int] = []

        def run_out(self: LoadedModel, records: Any, **given: Any) -> Any:
            tried.append(sum(len(record.tokens) for record in records))
            if tried[-1] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(self, records, **given)

        def limited(self: Worker, buffer: Any) -> Any:
            with monkeypatch.context() as patch:
                patch.setattr(LoadedModel, "forward", run_out)
                return fill(self, buffer)

        monkeypatch.setattr(Worker, "_fill", limited)
        return tried

    return limit


MANY = tuple({"text": "the cat sat on the mat"} for _ in range(9))  # of 8 tokens each
TOO_LARGE = ({"text": " ".join(["cat"] * 100)}, *MANY)


def test_batches_that_do_not_fit_are_halved_and_the_size_is_kept_and_noted(
    models: dict[str, Path], tmp_path: Path, little_memory: Callable[[int], list[int]]
) -> None:
    tried = little_memory(20)
    data, out = write_rows(tmp_path, MANY + MANY), tmp_path / "out.vault"
    assert extract(whole(models), data, out).exit_code == 0
    assert [size for size in tried if size > 20] == [144, 72, 40, 24], "none is tried twice"
    commits = [json.loads(path.read_bytes()) for path in (out / "commits").iterdir()]
    assert [commit["batches_below"] for commit in commits] == [24]
    assert run("verify", out, "--full").exit_code == 0


def test_one_example_that_does_not_fit_stops_or_is_left_out(
    models: dict[str, Path], tmp_path: Path, little_memory: Callable[[int], list[int]]
) -> None:
    little_memory(40)
    data, out = write_rows(tmp_path, TOO_LARGE), tmp_path / "out.vault"
    says = ("data.jsonl line 1: cpu has not the memory for one example of 102 tokens",)
    assert_told(extract(whole(models), data, out), 4, *says, "--on-bad skip")
    done = extract(whole(models), data, out, "--on-bad", "skip")
    assert done.exit_code == 0, done.output
    assert "9 examples, 1 rejected" in done.stdout
    assert "has not the memory for one example" in run("info", out).stdout
    assert run("verify", out, "--full").exit_code == 0
