"""The command line as a user types it, and what must hold of what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from qkvault_cli.main import main

GOOD = {"text": "the cat sat on the mat", "id": "good"}


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
