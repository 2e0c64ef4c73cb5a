"""``qkvault verify``: is every byte of a vault what was committed?"""

from __future__ import annotations

import click

import qkvault

from .places import PLACE
from .progress import Meter, format_bytes

MAX_EXAMPLES_NAMED = 8


def check(vault: qkvault.Place, full: bool, derive: bool = False) -> bool:
    """Verify ``vault``, print one line per damage and a closing line; true where it is clean."""
    with Meter("verify", "units") as meter:
        report = qkvault.verify(
            vault,
            full=full,
            derive=derive,
            progress=lambda done, total: meter.update(done, total, ""),
        )
    for damage in report.damages:
        click.echo(describe_damage(damage))
    size = f"{report.units} units, {format_bytes(report.bytes)}"
    if report.derived is not None:
        size += f", derived attention within {report.derived:.1e}"
    if report.ok:
        click.echo(f"{vault.name}: clean ({size}{', every byte decoded' if full else ''})")
    else:
        click.echo(f"{vault.name}: {len(report.damages)} damaged parts ({size})")
    return bool(report.ok)


def describe_damage(damage: qkvault.Damage) -> str:
    """One line about a damage: the file, what is wrong with it, the examples it touches."""
    return f"{damage.path}: {damage.reason}{_touched(damage.examples)}"


def _touched(examples: tuple[int, ...]) -> str:
    if not examples:
        return ""
    shown = ", ".join(str(index) for index in examples[:MAX_EXAMPLES_NAMED])
    more = len(examples) - MAX_EXAMPLES_NAMED
    return f" (examples {shown}{f' and {more} more' if more > 0 else ''})"


@click.command()
@click.argument("vault", type=PLACE)
@click.option("--full", is_flag=True, help="Read and decode every byte, check values as well.")
@click.option(
    "--derive", is_flag=True, help="Compute attention from queries and keys and compare it."
)
@click.pass_context
def verify(ctx: click.Context, vault: qkvault.Place, full: bool, derive: bool) -> None:
    """Check that VAULT is whole: exit code 0 where it is, 3 where it is not.

    The quick check reads records, sizes and indexes; --full decodes every chunk.

    \b
    Examples:
      qkvault verify mrpc.vault
      qkvault verify mrpc.vault --full
      qkvault verify mrpc.vault --derive
    """
    if not check(vault, full, derive):
        ctx.exit(qkvault.VaultError.exit_code)
