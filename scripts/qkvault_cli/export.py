"""``qkvault export``: part of a vault, or all of it, as one file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

import qkvault

from .places import PLACE
from .progress import Meter, format_bytes
from .subset import Subset, subset_options


@click.command()
@click.argument("vault", type=PLACE)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write; ends in .h5, .npz or .csv.",
)
@subset_options
def export(vault: qkvault.Place, target: Path, subset: Subset) -> None:
    """Write VAULT, or part of it, to one file for other programs.

    An .h5 file explains itself, and qkvault.open reads it like a vault. An .npz file holds numpy
    arrays by example; a .csv file has a weight, or a vector, per line.

    \b
    Examples:
      qkvault export mrpc.vault --to wrong.h5 --where '{"correct": false}'
      qkvault export mrpc.vault --to subset.npz --examples 0:100,417 --layers 3,5 --arrays query,key
      qkvault export mrpc.vault --to head.csv --label 1 --limit 20 --layers 3 --heads 5
    """
    with qkvault.open(vault) as opened, Meter("export", "parts") as meter:
        examples = subset.find_examples(opened)
        qkvault.export(
            opened,
            target,
            examples=examples,
            stack=subset.stack,
            layers=subset.layers,
            heads=subset.heads,
            arrays=subset.arrays,
            progress=lambda done, total: meter.update(done, total, ""),
        )
        count = len(opened) if examples is None else len(examples)
    click.echo(f"{target}: {count} examples, {format_bytes(target.stat().st_size)}")
