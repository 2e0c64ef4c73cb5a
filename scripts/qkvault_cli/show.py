"""``qkvault show``: one view of one example as an SVG file, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

import qkvault

from .places import PLACE

if TYPE_CHECKING:
    from qkvault import Example, Place, Vault


def find_example(vault: Vault, name: str) -> Example:
    """The example of an id, else of a number in dataset order."""
    try:
        return vault.by_id(name)
    except qkvault.UnknownExample:
        if not (name.isascii() and name.isdigit()):
            raise
    return vault[int(name)]


@click.command()
@click.argument("vault", type=PLACE)
@click.argument("example", metavar="ID")
@click.option(
    "--view",
    type=click.Choice(["heads", "model", "neuron"]),
    default="heads",
    show_default=True,
    help="Heads of a layer, all heads small, or one query of one head.",
)
@click.option("--stack", help="encoder, decoder or cross; the first if not given.")
@click.option("--layer", type=int, help="The model's own number; the first if not given.")
@click.option("--head", "heads", type=int, multiple=True, help="Once for each; all if not given.")
@click.option("--token", type=int, help="Query of the neuron view; the first word if not given.")
@click.option("--matrix", is_flag=True, help="Heads as squares rather than lines.")
@click.option("--dark", is_flag=True, help="Light on dark.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Standard output if not given.",
)
def show(
    vault: Place,
    example: str,
    view: Literal["heads", "model", "neuron"],
    stack: str | None,
    layer: int | None,
    heads: tuple[int, ...],
    token: int | None,
    matrix: bool,
    dark: bool,
    output: Path | None,
) -> None:
    """Draw one view of example ID of VAULT as SVG, without a browser.

    ID is an example's id, or its number counted from 0.

    \b
    Examples:
      qkvault show mrpc.vault 17 --layer 3 --head 5 -o fig.svg
      qkvault show mrpc.vault mrpc-17 --view model -o all.svg
      qkvault show mrpc.vault 17 --view neuron --layer 3 --head 5 --token 4 -o neuron.svg
    """
    from qkvault_viewer import Choice, draw_figure

    drawing: Literal["lines", "matrix"] = "matrix" if matrix else "lines"
    choice = Choice(stack, layer, heads, token, drawing, dark)
    with qkvault.open(vault) as opened:
        svg = draw_figure(find_example(opened, example), view, choice)
    if output is None:
        click.echo(svg, nl=False)
    else:
        output.write_text(svg, encoding="utf-8")
        click.echo(f"{output} written")
