"""``qkvault plan``: freeze a data set and an extraction into a vault, and run nothing."""

from __future__ import annotations

from typing import Any

import click

from .extract import echo_notes, extraction_options, options_from


@click.command()
@extraction_options
def plan(**chosen: Any) -> None:
    """Read a data set, check it and the model, and write a vault that is ready to be run.

    Texts and token ids are in the vault then: `qkvault run` needs only it and the model, on as many
    machines as see its folder.

    \b
    Examples:
      qkvault plan --model ./my-bert --data pairs.jsonl --out pairs.vault
      qkvault run pairs.vault --part 0/2 & qkvault run pairs.vault --part 1/2
      qkvault status pairs.vault --watch
    """
    from qkvault_extractor import plan as make_plan

    options = options_from(chosen)
    report = make_plan(options)
    state = "already planned" if report.already_planned else "planned"
    done = f", {report.done} done" if report.done else ""
    click.echo(f"{options.out}: {state}, {report.examples} examples in {report.units} units{done}")
    echo_notes(report.notes)
