"""The commands of docs/from-data.md, run as they stand there; what they print is what it says.

Run as a script, in a folder with the models and files that the page names, it writes into the page
what its commands print now.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from extractor.models import minilm, stories260k
from qkvault_cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "from-data.md"
VARYING = (
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\d+(\.\d+)? ([kMG]?B)\b", "SIZE"),  # libraries compress a little better or worse
    (r"\bin \d+:\d\d", "in TIME"),
    (r"within \d\.\de-\d\d", "within ERROR"),
    (r"[ -]+(?=\n|SIZE)", " "),
)
COMMAND = re.compile(r"^\$ (\w+) (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def read_sections() -> dict[str, list[tuple[str, str, str]]]:
    """Title of each section -> its commands: program, arguments, what is printed."""
    sections = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = re.findall(r"```console\n(.*?)```", part, re.DOTALL)
        sections[part.partition("\n")[0]] = [c for block in blocks for c in COMMAND.findall(block)]
    return sections


SECTIONS = read_sections()


def settle(printed: str) -> str:
    """What is printed, without what differs from machine to machine."""
    for pattern, name in VARYING:
        printed = re.sub(pattern, name, printed)
    return printed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give_model(section: str, folder: Path) -> None:
    """Put the model that a section uses where it says."""
    if section == "Conversations":
        shutil.copytree(stories260k(), folder / "talker")
        return
    (folder / "minilm").symlink_to(minilm())
    if section == "MRPC":
        beside = Path(__file__).parents[3] / "shared" / "data"
        file = Path(os.environ.get("QKVAULT_DATA", beside)) / "mrpc" / "msr_paraphrase_train.txt"
        if not file.is_file():
            pytest.skip(f"no MRPC at {file}; set QKVAULT_DATA to the folder that holds it")
        (folder / file.name).symlink_to(file)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_print_what_the_page_says(section: str, folder: Path) -> None:
    give_model(section, folder)
    for program, arguments, printed in SECTIONS[section]:
        if program == "cat":
            (folder / arguments).write_text(printed, encoding="utf-8")
            continue
        assert program == "qkvault"
        result = CliRunner().invoke(main, arguments.split())
        assert result.exit_code == 0, result.output
        assert settle(result.stdout) == settle(printed), arguments


def write_page() -> None:
    """Put into the page what its commands print, run in the current folder with its files there."""
    page = PAGE.read_text(encoding="utf-8")
    for program, arguments, printed in (c for part in SECTIONS.values() for c in part):
        if program == "qkvault":
            made = CliRunner().invoke(main, arguments.split()).stdout
            page = page.replace(
                f"$ qkvault {arguments}\n{printed}", f"$ qkvault {arguments}\n{made}"
            )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write_page())
