"""The options that say who runs the units, and the executor that comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from qkvault import InputError

if TYPE_CHECKING:
    from concurrent.futures import Executor

_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(("here", "ray")),
        default="here",
        show_default=True,
        help="Who runs the units: this process, or Ray's actors.",
    ),
    click.option("--workers", type=click.IntRange(min=1), help="How many of Ray's actors."),
    click.option(
        "--cpus-per-worker",
        type=click.FloatRange(min=0, min_open=True),
        default=1,
        show_default=True,
        help="Processors that Ray sets aside for each.",
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        help="GPUs for each; one where the cluster has any.",
    ),
)


@dataclass(frozen=True)
class Engine:
    """Who runs the units; an executor of None is this process."""

    executor: Executor | None
    window: int


HERE = Engine(None, 1)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say who runs the units."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@contextmanager
def open_engine(chosen: dict[str, Any]) -> Iterator[Engine]:
    """Take the options of :func:`engine_options` out of what was chosen, and start the engine.

    Where the run is stopped or fails, workers drop their units and end.
    """
    name, workers = chosen.pop("engine"), chosen.pop("workers")
    cpus, gpus = chosen.pop("cpus_per_worker"), chosen.pop("gpus_per_worker")
    if name == "here":
        if workers is not None:
            raise InputError("--workers needs an engine that has some: add --engine ray")
        yield HERE
        return
    from qkvault_extractor import RayExecutor

    workers = workers or 1
    executor = RayExecutor(workers, cpus=cpus, gpus=gpus)
    try:
        yield Engine(executor, 4 * workers)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()
