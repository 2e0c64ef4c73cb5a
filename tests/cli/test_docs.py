"""Documents that state what the code does are held to it."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click
import pytest

from qkvault_cli.main import main

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help_and_an_example(name: str) -> None:
    help_text = main.commands[name].help or ""
    assert "Examples:" in help_text
    assert f"qkvault {name}" in help_text
    for param in main.commands[name].params:
        if isinstance(param, click.Option):
            assert param.help, f"{name}: {param.name} has no help"


def test_cli_reference_is_what_the_commands_say() -> None:
    module = runpy.run_path(str(ROOT / "scripts" / "make_cli_docs.py"))
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == module["render"](), "run: python scripts/make_cli_docs.py"


def test_links_in_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "store").glob("*.md")]
    assert documents
    for document in documents:
        text = document.read_text(encoding="utf-8")
        text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)\)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
