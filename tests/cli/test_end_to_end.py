"""A corpus through a model into a vault, by the commands a user types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import qkvault
from extractor.models import tiny_bert, tiny_encoder_decoder
from qkvault_cli.main import main

PAIRS = [
    ("the cat sat on the mat", "the cat lay on the rug", 1),
    ("a dog barked", "nobody heard a dog bark in the long and quiet night", 0),
    ("rain", "snow", 0),
    ("the rug lay on the mat and the dog sat on the cat", "the mat", 1),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert", labels=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"sentence1": a, "sentence2": b, "label": y, "id": f"p{i}"}
        for i, (a, b, y) in enumerate(PAIRS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def extract(model: Path, data: Path, out: Path, *more: object) -> Result:
    return run("extract", "--model", model, "--data", data, "--out", out, "--device", "cpu", *more)


def test_extract_verify_info_and_slice(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.vault"
    result = extract(model, data, out, "--id-column", "id")
    assert result.exit_code == 0, result.output
    assert "4 examples" in result.output

    verified = run("verify", out, "--full")
    assert verified.exit_code == 0, verified.output
    assert "clean" in verified.output

    facts = json.loads(run("info", out, "--json").stdout)
    assert facts["examples"] == 4
    assert facts["complete"] is True
    assert "examples" in run("info", out).output

    with qkvault.open(out) as vault:
        assert [example.id for example in vault] == ["p0", "p1", "p2", "p3"]
        assert [example.label for example in vault] == [1, 0, 0, 1]
        example = vault.by_id("p1")
        assert example.text == PAIRS[1][:2]
        attention = example.attention[0, 0]
        assert attention.shape == (len(example.tokens), len(example.tokens))
        np.testing.assert_allclose(attention.sum(-1), 1.0, atol=len(example.tokens) * 7.7e-6)
        assert example.prediction in (0, 1)


def test_running_again_has_nothing_to_do_and_another_plan_is_refused(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "pairs.vault"
    assert extract(model, data, out).exit_code == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert "already complete" in extract(model, data, out).output
    refused = extract(model, data, out, "--precision", "float32")
    assert refused.exit_code == 2
    assert "precision" in refused.output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def bad_inputs(tmp_path: Path) -> dict[str, tuple[Path, list[str], str]]:
    good = '{"text": "the cat sat", "id": "a"}\n'
    long_text = " ".join(["cat"] * 700)
    return {
        "missing file": (tmp_path / "none.jsonl", [], "none.jsonl"),
        "unknown column": (write(tmp_path / "c.jsonl", good), ["--text-columns", "txet"], "'text'"),
        "empty file": (write(tmp_path / "e.jsonl", ""), [], "empty"),
        "empty text": (write(tmp_path / "t.jsonl", good + '{"text": "", "id": "b"}\n'), [], "2"),
        "too long": (
            write(tmp_path / "l.jsonl", json.dumps({"text": long_text})),
            [],
            "--truncate",
        ),
        "duplicate ids": (write(tmp_path / "d.jsonl", good + good), ["--id-column", "id"], "'a'"),
        "broken line": (write(tmp_path / "b.jsonl", good + '{"text": \n'), [], "2"),
    }


CASES = (
    "missing file",
    "unknown column",
    "empty file",
    "empty text",
    "too long",
    "duplicate ids",
    "broken line",
)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_exit_code_2(case: str, model: Path, tmp_path: Path) -> None:
    data, more, named = bad_inputs(tmp_path)[case]
    out = tmp_path / "out.vault"
    result = extract(model, data, out, *more)
    assert result.exit_code == 2, result.output
    assert named in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir() if "planning" in path.name] == []


def test_unknown_model_type_is_refused(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "perpetuum"}', encoding="utf-8")
    result = extract(folder, data, tmp_path / "out.vault")
    assert result.exit_code == 2
    assert "perpetuum" in result.stderr
    assert "remote" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_folder_that_is_no_vault_is_left_alone(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "cat.txt").write_text("purr", encoding="utf-8")
    result = extract(model, data, out)
    assert result.exit_code == 2
    assert "photos" in result.stderr
    assert [path.name for path in out.iterdir()] == ["cat.txt"]


@pytest.mark.parametrize("command", ["info", "verify", "view"])
def test_a_missing_vault_is_exit_code_3(command: str, tmp_path: Path) -> None:
    result = run(command, tmp_path / "none.vault")
    assert result.exit_code == 3
    assert "none.vault" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_damaged_vault_is_exit_code_3(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs.vault"
    assert extract(model, data, out).exit_code == 0
    shard = max(out.rglob("c.*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-40])
    result = run("verify", out)
    assert result.exit_code == 3
    assert shard.parent.name in result.stdout


def test_ctrl_c_says_how_to_go_on(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qkvault_extractor.extract", interrupt)
    result = extract(model, data, tmp_path / "pairs.vault")
    assert result.exit_code == 130
    assert "again" in result.stderr


def test_an_encoder_decoder_from_pairs_to_slices(tmp_path: Path) -> None:
    marian = tiny_encoder_decoder(tmp_path / "marian", "marian")
    data, out = tmp_path / "pairs.jsonl", tmp_path / "pairs.vault"
    rows = [{"english": a, "german": b, "id": f"p{i}"} for i, (a, b, _) in enumerate(PAIRS)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = ("--text-columns", "english", "--id-column", "id")
    refused = extract(marian, data, out, *columns)
    assert refused.exit_code == 2
    assert "say with --target-column" in refused.output
    assert not out.exists()
    result = extract(marian, data, out, *columns, "--target-column", "german")
    assert result.exit_code == 0, result.output
    verified = run("verify", out, "--full", "--derive")
    assert verified.exit_code == 0, verified.output
    facts = json.loads(run("info", out, "--json").stdout)
    assert [stack["name"] for stack in facts["stacks"]] == ["encoder", "decoder", "cross"]
    assert "target_length" in run("info", out).output
    with qkvault.open(out) as vault:
        e = vault.by_id("p1")
        assert e.target is not None
        assert e.target.text == PAIRS[1][1]
        weights = e.stack("cross").attention[1, 0]
        assert weights.shape == (len(e.target.tokens), len(e.tokens))
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=len(e.tokens) * 7.7e-6)
    part = tmp_path / "cross.vault"
    copied = run("copy", out, "--out", part, "--stack", "cross")
    assert copied.exit_code == 0, copied.output
    with qkvault.open(part) as vault:
        assert [stack.name for stack in vault.spec.stacks] == ["cross"]
    table = tmp_path / "cross.csv"
    exported = run("export", out, "--to", table, "--stack", "cross", "--layers", "0")
    assert exported.exit_code == 0, exported.output
    assert "<pad>" in table.read_text(encoding="utf-8")  # what Marian's decoder starts with
    again = extract(marian, data, out, *columns, "--target-column", "german")
    assert "already complete" in again.output
