"""``qkvault status``: how far a vault is, from its records alone."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import qkvault

from .places import PLACE
from .progress import format_bytes, format_seconds

if TYPE_CHECKING:
    from qkvault import Place, Status


@click.command()
@click.argument("vault", type=PLACE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option("--watch", is_flag=True, help="Say it again and again until VAULT is complete.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=10.0,
    show_default=True,
    help="Seconds between two looks with --watch.",
)
def status(vault: Place, as_json: bool, watch: bool, every: float) -> None:
    """Say how far VAULT is: units done, running and pending, pace and time left.

    It reads the vault's own records, so it works on any machine that sees VAULT, whoever is running
    it. Units of a process that was killed count as running for two minutes.

    \b
    Examples:
      qkvault status pairs.vault
      qkvault status pairs.vault --watch --every 30
      qkvault status pairs.vault --json | jq .eta_s
    """
    while True:
        found = qkvault.status(vault)
        facts = {**asdict(found), "pending": found.pending}
        text = json.dumps(facts) if as_json else describe_status(found)
        if watch and not as_json and sys.stdout.isatty():
            click.clear()
        click.echo(text)
        if not watch or found.complete:
            return
        time.sleep(every)


def describe_status(found: Status) -> str:
    """The facts as a few aligned lines."""
    stale = f" ({found.stale} of dead processes)" if found.stale else ""
    share = f"{100 * found.examples_done / found.examples:.1f} %"
    lines = {
        "state": _state(found),
        "units": f"{found.done} done, {found.running} running, {found.pending} pending{stale}"
        f" of {found.units}",
        "examples": f"{found.examples_done} of {found.examples} ({share})",
        "bytes": format_bytes(found.bytes_done),
    }
    if found.examples_per_s is not None and found.bytes_per_s is not None:
        pace = f"{found.examples_per_s:.1f} examples/s, {format_bytes(found.bytes_per_s)}/s"
        lines["pace"] = pace
    if found.idle_s is not None:
        lines["last unit"] = f"{format_seconds(found.idle_s)} ago"
    if found.eta_s:
        lines["time left"] = format_seconds(found.eta_s)
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())


def _state(found: Status) -> str:
    if found.complete:
        return "complete"
    if found.done == found.units:
        return "all units done; to be finished by qkvault run"
    return "running" if found.running else "unfinished; nobody is at work on it"
