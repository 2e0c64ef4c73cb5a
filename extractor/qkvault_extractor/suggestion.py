"""The nearest name to one that does not exist, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to ``name``, or ``""``.

    Nearness is difflib's ratio, upper and lower case taken as equal.
    """
    by_folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[near[0]]!r}?" if near else ""


def list_names(names: Iterable[str], most: int = 20) -> str:
    """Join names for a message on one line, cutting long names and long lists."""
    shown = [_one_line(n) for n in names]
    tail = f", ... ({len(shown)} in all)" if len(shown) > most else ""
    return ", ".join(shown[:most]) + tail


def _one_line(name: str) -> str:
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= 60 else text[:57] + "..."
