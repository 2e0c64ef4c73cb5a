"""``--vectors``: how queries, keys and values are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = ("query", "key", "value")


def _parse(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, str]:
    """``int16`` for all, or ``query=int16,key=int16``."""
    chosen: dict[str, str] = {}
    for part in (value or "").split(","):
        if not part.strip():
            continue
        left, equals, right = (word.strip() for word in part.partition("="))
        names, kept = ((left,), right) if equals else (KEPT, left)
        if any(name not in KEPT for name in names) or kept not in qkvault.VECTOR_PRECISIONS:
            raise click.BadParameter(
                f"{part.strip()!r} is neither one of {', '.join(qkvault.VECTOR_PRECISIONS)}, nor"
                " query=, key= or value= one of them"
            )
        chosen.update(dict.fromkeys(names, kept))
    return chosen


def vectors_option(help_text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add ``--vectors`` to a command, which gets a mapping of array to type."""
    return click.option("--vectors", callback=_parse, metavar="TYPE|ARRAY=TYPE,...", help=help_text)
