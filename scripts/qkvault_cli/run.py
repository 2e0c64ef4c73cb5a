"""``qkvault run``: run what is pending in a planned vault."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .engine import engine_options, open_engine
from .places import PLACE
from .progress import RunLog, format_bytes, format_seconds

if TYPE_CHECKING:
    from qkvault import Place
    from qkvault_extractor import Part, RunReport


class PartType(click.ParamType[Any]):
    """``K/N``: part K of N, from 0."""

    name = "K/N"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Part | None:
        """Parse it; an impossible part is the user's error."""
        from qkvault_extractor import Part

        index, slash, count = str(value).partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            self.fail(f"{value!r} is not of the form K/N, such as 0/4", param, ctx)
        return Part(int(index), int(count))


@click.command()
@click.argument("vault", type=PLACE)
@click.option("--model", help="Folder or Hub name of the model, where it is not where it was.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto.")
@click.option("--part", type=PartType(), help="Run only units whose number leaves K modulo N.")
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    help="Tokens per forward pass, where memory is short; moves results by rounding.",
)
@engine_options
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
def run(vault: Place, log_json: bool, **chosen: Any) -> None:
    """Run what is pending in VAULT, and finish it once nothing is.

    Any number of these may run at once, on any machines that see VAULT; each unit is written by
    one of them. With --part, as for job arrays, whoever is done last finishes the vault.

    \b
    Examples:
      qkvault run pairs.vault
      qkvault run pairs.vault --part $SLURM_ARRAY_TASK_ID/16
      qkvault run pairs.vault --engine ray --workers 8
    """
    from qkvault_extractor import run_vault

    with RunLog("run", log_json) as log, open_engine(chosen) as engine:
        report = run_vault(
            vault, engine.executor, window=engine.window, progress=log.progress, **chosen
        )
        log.finish(summarise_run(report, vault), **asdict(report))


def summarise_run(report: RunReport, vault: Place) -> str:
    """One line about a run."""
    what = (
        f"{report.units} units ({report.examples} examples, {format_bytes(report.bytes)}) in "
        f"{format_seconds(report.seconds)}"
    )
    left = "complete" if report.complete else f"{report.pending} units are left to other parts"
    return f"{vault}: {what}; {left}"
