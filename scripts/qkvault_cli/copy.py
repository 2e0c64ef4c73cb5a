"""``qkvault copy`` and ``qkvault append``: new vaults of old ones."""

from __future__ import annotations

import click

import qkvault

from .places import PLACE
from .progress import Meter, format_bytes
from .subset import Subset, subset_options
from .vectors import vectors_option

out_option = click.option("--out", required=True, type=PLACE, help="Vault to write.")


@click.command()
@click.argument("vault", type=PLACE)
@out_option
@subset_options
@click.option(
    "--precision",
    type=click.Choice(qkvault.PRECISIONS),
    help="Keep attention at fewer bits; the vault's own precision otherwise.",
)
@vectors_option("Keep float32 queries, keys or values at fewer bits, as in qkvault extract.")
def copy(
    vault: qkvault.Place,
    out: qkvault.Place,
    subset: Subset,
    precision: qkvault.Precision | None,
    vectors: dict[qkvault.ArrayName, qkvault.VectorPrecision],
) -> None:
    """Copy VAULT, or part of it, into a new vault.

    What keeps its precision is copied code by code. Heads are numbered anew, from 0; layers keep
    their numbers. Run the same command again to go on where it stopped.

    \b
    Examples:
      qkvault copy mrpc.vault --out small.vault --precision uint8
      qkvault copy mrpc.vault --out wrong.vault --where '{"correct": false}'
      qkvault copy mrpc.vault --out part.vault --examples 0:100,417 --layers 3,5 --heads 0:4
    """
    with qkvault.open(vault) as opened, Meter("copy", "units") as meter:
        made = qkvault.copy(
            opened,
            out,
            examples=subset.find_examples(opened),
            stack=subset.stack,
            layers=subset.layers,
            heads=subset.heads,
            arrays=subset.arrays,
            precision=precision,
            vectors=vectors,
            progress=lambda done, total: meter.update(done, total, ""),
        )
    with made:
        click.echo(_summarise(made))


@click.command()
@click.argument("base", type=PLACE)
@click.argument("more", nargs=-1, required=True, type=PLACE)
@out_option
def append(base: qkvault.Place, more: tuple[qkvault.Place, ...], out: qkvault.Place) -> None:
    """Make a new vault of the examples of BASE, followed by those of MORE.

    BASE stays as it is. All must be of one model, with the same arrays at the same precision; no id
    may stand in two of them. Run the same command again to go on where it stopped.

    \b
    Examples:
      qkvault append january.vault february.vault --out both.vault
      qkvault append base.vault more-1.vault more-2.vault --out all.vault
    """
    with Meter("append", "units") as meter:
        made = qkvault.append(
            base, more, out, progress=lambda done, total: meter.update(done, total, "")
        )
    with made:
        click.echo(_summarise(made))


def _summarise(vault: qkvault.Vault) -> str:
    sizes = vault.info()["bytes"]
    total = sum(n for n in sizes.values() if isinstance(n, int)) if isinstance(sizes, dict) else 0
    return f"{vault.path}: {len(vault)} examples, {format_bytes(total)}"
