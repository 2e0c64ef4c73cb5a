"""The ``qkvault`` command group; ``main`` is the installed entry point."""

from __future__ import annotations

import click

from .copy import append, copy
from .demo import demo
from .export import export
from .extract import extract
from .info import info
from .plan import plan
from .repair import repair
from .run import run
from .shell import Shell
from .show import show
from .status import status
from .verify import verify
from .view import view


@click.group(cls=Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="qkvault", message="qkvault %(version)s")
def main() -> None:
    """Keep every attention head of a whole corpus, and look at any of it at once.

    \b
    Start here:
      qkvault demo                                      a small corpus, end to end
      qkvault extract --model M --data D --out X.vault  your own model and data
      qkvault view X.vault                              look at it in a browser
    """


for command in (
    append,
    copy,
    demo,
    export,
    extract,
    info,
    plan,
    repair,
    run,
    show,
    status,
    verify,
    view,
):
    main.add_command(command)
