"""``qkvault info``: what a vault holds."""

from __future__ import annotations

import json

import click

import qkvault

from .places import PLACE
from .progress import format_bytes

_ROWS = 20
"""Most rows of a table that is printed."""

_IN_WORDS = ("max_error", "max_relative_error", "max_error_of_largest")
"""What the column ``bound`` says in words."""


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
    plain = {name: str(value) for name, value in facts.items() if _is_plain(value)}
    shown = {"path": plain.pop("path"), **_origins(facts["model"]), **plain}
    lines = [f"{name:<12} {qkvault.one_line(value)}" for name, value in shown.items()]
    for name, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += ["", *_table(name, [row for row in value[:_ROWS] if isinstance(row, dict)])]
            if len(value) > _ROWS:
                lines.append(f"  and {len(value) - _ROWS} more, which --json lists")
    return "\n".join(lines)


def _origins(model: qkvault.Json) -> dict[str, str]:
    """Model and data in words, as far as the vault tells; they are what its maker wrote there."""
    told = model if isinstance(model, dict) else {}
    names = [str(told[key]) for key in ("type", "dtype") if key in told]
    parameters = told.get("parameters")
    if isinstance(parameters, int):
        names.insert(1, f"{parameters / 1e6:,.1f} M parameters")
    found = {"model": f"{told.get('name', '?')} ({', '.join(names)})"} if names else {}
    sources = told.get("sources")
    if isinstance(sources, list) and sources:
        found["data"] = ", ".join(str(source) for source in sources[:_ROWS])
    return {name: value[:200] for name, value in found.items()}


def _is_plain(value: qkvault.Json) -> bool:
    return isinstance(value, (str, int, float, bool))


def _table(title: str, rows: list[dict[str, qkvault.Json]]) -> list[str]:
    columns = [
        name
        for name in rows[0]
        if name not in _IN_WORDS and any(_is_plain(row.get(name)) for row in rows)
    ]
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
