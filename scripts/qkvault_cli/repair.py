"""``qkvault repair``: redo what is damaged, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

import qkvault

from .progress import Meter, format_bytes, format_seconds
from .verify import describe_damage

if TYPE_CHECKING:
    from qkvault_extractor import RepairReport


@click.command()
@click.argument("vault", type=click.Path(path_type=Path))
@click.option(
    "--model", help="Folder or Hub name of the vault's model, where it is not where it was."
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, mps or auto.")
@click.option("--full", is_flag=True, help="Look for damage in every byte.")
@click.pass_context
def repair(ctx: click.Context, vault: Path, model: str | None, device: str, full: bool) -> None:
    """Verify VAULT and run the model again for what is damaged, and nothing else.

    The texts come from the vault itself; the model must be the one it was made with. Exit code 0
    where VAULT is whole then, 3 where something cannot be redone. Run the same command again to go
    on where it stopped.

    \b
    Examples:
      qkvault repair mrpc.vault
      qkvault repair mrpc.vault --full --model ./my-bert
    """
    from qkvault_extractor import Progress
    from qkvault_extractor import repair as run_repair

    with Meter("verify", "units") as checked, Meter("repair", "examples") as redone:

        def show(step: Progress) -> None:
            checked.close()
            redone.update(
                step.done, step.total, f"{step.examples_per_s:.1f} examples/s", step.eta_s
            )

        report = run_repair(
            vault,
            model,
            device,
            full,
            show,
            checking=lambda done, total: checked.update(done, total, ""),
        )
    for line in _tell(report, vault.name):
        click.echo(line)
    if not report.ok:
        ctx.exit(qkvault.VaultError.exit_code)


def _tell(report: RepairReport, name: str) -> list[str]:
    """What was damaged, what was done, what is left."""
    lines = [describe_damage(damage) for damage in report.damages]
    if not lines:
        return [f"{name}: nothing is damaged"]
    done = [f"{len(report.restored)} metadata files made again"] if report.restored else []
    if report.units:
        done.append(
            f"{report.units} units run again ({report.examples} examples,"
            f" {format_bytes(report.bytes)}, {format_seconds(report.seconds)})"
        )
    if report.same is not None:
        done.append("the same digest as before" if report.same else "another digest than before")
    if report.remaining:
        lines += [f"still damaged: {describe_damage(damage)}" for damage in report.remaining]
        why = report.obstacle or "what is left cannot be made again from the vault and its model"
        done.append(f"{len(report.remaining)} parts still damaged: {why}")
    return [*lines, f"{name}: {'; '.join(done) or 'whole again'}"]
