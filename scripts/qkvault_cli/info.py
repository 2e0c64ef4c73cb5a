"""``qkvault info``: what a vault holds."""

from __future__ import annotations

import json

import click

import qkvault

from .places import PLACE
from .progress import format_bytes

_ROWS = 20
"""Most rows of a table that is printed."""


@click.command()
@click.argument("vault", type=PLACE)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def info(vault: qkvault.Place, as_json: bool) -> None:
    """Say what VAULT holds: model, examples, arrays, precision, size.

    An unfinished vault is described too, with what is still pending.

    \b
    Examples:
      qkvault info mrpc.vault
      qkvault info mrpc.vault --json | jq .arrays
    """
    with qkvault.open(vault, partial=True) as opened:
        facts = opened.info()
        if facts["rejects"]:
            facts["rejected"] = [*opened.rejects()]
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else describe(facts))


def describe(facts: dict[str, qkvault.Json]) -> str:
    """The facts of :meth:`qkvault.Vault.info` as a few aligned lines."""
    lines = [f"{name:<12} {value}" for name, value in facts.items() if _is_plain(value)]
    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += ["", *_table(name, [row for row in value[:_ROWS] if isinstance(row, dict)])]
            if len(value) > _ROWS:
                lines.append(f"  and {len(value) - _ROWS} more, which --json lists")
    return "\n".join(lines)


def _is_plain(value: qkvault.Json) -> bool:
    return isinstance(value, (str, int, float, bool))


def _table(title: str, rows: list[dict[str, qkvault.Json]]) -> list[str]:
    columns = [name for name in rows[0] if any(_is_plain(row.get(name)) for row in rows)]
    cells = [[_cell(name, row.get(name)) for name in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    lines = [
        "  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)) for r in [columns, *cells]
    ]
    return [f"{title}:", *(f"  {line}".rstrip() for line in lines)]


def _cell(name: str, value: qkvault.Json) -> str:
    if name.endswith("bytes") and isinstance(value, int):
        return format_bytes(value)
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else qkvault.one_line(str(value))
