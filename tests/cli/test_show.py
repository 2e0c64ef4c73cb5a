"""``qkvault show``: a figure from the command line."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from qkvault_cli.main import main
from vaults import make_encoder_decoder_vault, make_vault


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_vault(tmp_path_factory.mktemp("show") / "made.vault", layers=(3, 5), lengths=[9, 9])


@pytest.mark.parametrize("view", ["heads", "model", "neuron"])
@pytest.mark.parametrize("name", ["1", "r00001"])
def test_a_view_is_written(vault: Path, tmp_path: Path, view: str, name: str) -> None:
    out = tmp_path / "figure.svg"
    options = ["--view", view, "--layer", "5", "--head", "2", "-o", str(out)]
    done = CliRunner().invoke(main, ["show", str(vault), name, *options])
    assert done.exit_code == 0, done.output
    assert "example 1 (r00001)" in "".join(ElementTree.parse(out).getroot().itertext())


@pytest.fixture(scope="module")
def translated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder_decoder_vault(tmp_path_factory.mktemp("show") / "translated")


@pytest.mark.parametrize("view", ["heads", "model", "neuron"])
@pytest.mark.parametrize("stack", ["encoder", "decoder", "cross"])
def test_a_stack_is_chosen(translated: Path, view: str, stack: str) -> None:
    done = CliRunner().invoke(
        main, ["show", str(translated), "2", "--view", view, "--stack", stack, "--layer", "1"]
    )
    assert done.exit_code == 0, done.output
    said = "".join(ElementTree.fromstring(done.output).itertext())
    assert f"{stack}, " in said
    if view != "model":
        assert ("Wort7" in said) == (stack != "encoder")
        assert ("playing" in said) == (stack != "decoder")


def test_standard_output(vault: Path) -> None:
    done = CliRunner().invoke(main, ["show", str(vault), "0", "--matrix"])
    assert done.exit_code == 0
    assert ElementTree.fromstring(done.output).tag.endswith("svg")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["9"], "9"),
        (["nobody"], "nobody"),
        (["0", "--layer", "4"], "layer 4"),
        (["0", "--head", "7"], "head 7"),
    ],
)
def test_what_is_not_there_is_said(vault: Path, options: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["show", str(vault), *options])
    assert done.exit_code == 2
    assert said in done.output
