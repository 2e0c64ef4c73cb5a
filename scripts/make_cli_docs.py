"""Write docs/cli.md from the commands themselves: ``python scripts/make_cli_docs.py``."""

from __future__ import annotations

from pathlib import Path

import click

from qkvault_cli.main import main

TARGET = Path(__file__).parent.parent / "docs" / "cli.md"
WIDTH = 96


def render() -> str:
    """The whole reference as Markdown: one section a command, its help word for word."""
    parts = [
        "# Command line",
        "",
        "Made by `scripts/make_cli_docs.py`; a test holds it to the code.",
        "",
    ]
    parts += _section("qkvault", main)
    for name, command in sorted(main.commands.items()):
        parts += _section(f"qkvault {name}", command)
    parts += [
        "## Exit codes",
        "",
        "0 done; 2 the input cannot be used; 3 the vault is damaged, unfinished or not a vault;",
        "4 the machine ran out of something (disk, memory, workers, an extra missing), or others",
        "hold units still; 130 interrupted; 143 stopped by SIGTERM, as schedulers send before they",
        "take a machine away. After 4, 130 and 143 run the same command again to go on.",
    ]
    return "\n".join(parts) + "\n"


def _section(title: str, command: click.Command) -> list[str]:
    context = click.Context(
        command,
        info_name=title,
        max_content_width=WIDTH,
        terminal_width=WIDTH,
        **main.context_settings,
    )
    return [f"## {title}", "", "```text", command.get_help(context).rstrip(), "```", ""]


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
