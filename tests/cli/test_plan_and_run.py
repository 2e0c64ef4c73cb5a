"""``plan``, ``run`` and ``status`` as typed, and logs as machines read them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import qkvault
from extractor.models import tiny_bert, write_texts
from qkvault_cli.main import main
from qkvault_extractor.pack import Packer

LENGTHS = [3, 12, 40, 70, 20, 5, 33, 90]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "bert")


@pytest.fixture
def planned(model: Path, tmp_path: Path) -> Path:
    data, out = write_texts(tmp_path / "t.jsonl", LENGTHS), tmp_path / "out.vault"
    result = run("plan", "--model", model, "--data", data, "--out", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert f"planned, {len(LENGTHS)} examples in" in result.output
    return out


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_plan_parts_status_and_finish(planned: Path) -> None:
    first = json.loads(run("status", planned, "--json").stdout)
    assert (first["done"], first["pending"], first["complete"]) == (0, first["units"], False)
    assert "nobody is at work" in run("status", planned).output

    part = run("run", planned, "--part", "0/2")
    assert part.exit_code == 0, part.output
    assert "are left to other parts" in part.output
    half = json.loads(run("status", planned, "--json").stdout)
    assert half["done"] == (first["units"] + 1) // 2

    assert "; complete" in run("run", planned).output
    watched = run("status", planned, "--watch")
    assert watched.exit_code == 0
    assert watched.output.startswith("state      complete")
    assert run("verify", planned, "--full").exit_code == 0


@pytest.mark.parametrize("part", ["2/2", "x/2", "1", "/", "0/0"])
def test_a_part_that_is_none_is_told(planned: Path, part: str) -> None:
    result = run("run", planned, "--part", part)
    assert result.exit_code == 2
    assert "K/N" in result.output


def test_logs_for_machines(planned: Path, tmp_path: Path) -> None:
    result = run("run", planned, "--log-json")
    assert result.exit_code == 0
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert [event["event"] for event in events] == ["progress", "finished"]
    assert {"time", "done", "total", "rate", "bytes", "eta"} <= events[0].keys()
    assert events[0]["done"] == events[0]["total"] == len(LENGTHS)
    assert events[1]["complete"] is True
    assert events[1]["bytes"] > 0

    failed = run("run", tmp_path / "nothing", "--log-json")
    assert failed.exit_code == qkvault.VaultError.exit_code
    (event,) = [json.loads(line) for line in failed.stderr.splitlines()]
    assert event["event"] == "error"
    assert "nothing does not exist" in event["message"]


def test_sigterm_ends_a_run_with_143_and_a_word(
    planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Packer.finish

    def finish_and_be_killed(self: Packer, logits: Any) -> None:
        finish(self, logits)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Packer, "finish", finish_and_be_killed)
        ended = run("run", planned, "--log-json")
    assert ended.exit_code == 128 + signal.SIGTERM
    assert json.loads(ended.stderr.splitlines()[-1])["event"] == "stopped"
    assert not list(planned.glob(".partial/*")), "its claim is given back"
    assert run("run", planned).exit_code == 0
