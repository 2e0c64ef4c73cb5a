"""Progress for people (a bar on a terminal) and for logs (a plain line now and then)."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click

LOG_INTERVAL_S = 10.0
"""Seconds between two lines where standard error is not a terminal."""


def format_bytes(count: float) -> str:
    """``1234567`` → ``1.2 MB`` (powers of ten, as disks are sold)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def format_seconds(seconds: float) -> str:
    """``3725`` → ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Meter:
    """Shows how far a job is: a bar with ETA on a terminal, a line every ten seconds elsewhere.

    Use as a context manager and call :meth:`update` with the absolute number done.
    """

    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = unit
        self._bar: Any = None
        self._shown = 0
        self._last_line = time.monotonic()
        self._note = ""
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the bar's line; safe to call twice."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.render_finish()

    def update(self, done: int, total: int, note: str, eta_s: float | None = None) -> None:
        """Show ``done`` of ``total``; ``note`` is free text such as the rates."""
        self._note = note
        if self._live:
            self._draw(done, total)
        elif done >= total or time.monotonic() - self._last_line >= LOG_INTERVAL_S:
            self._last_line = time.monotonic()
            parts = [f"{self._label}: {done}/{total} {self._unit}", note]
            if eta_s is not None and done < total:
                parts.append(f"{format_seconds(eta_s)} left")
            click.echo(", ".join(part for part in parts if part), err=True)

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = click.progressbar(
                length=total,
                label=self._label,
                show_pos=True,
                show_eta=True,
                item_show_func=lambda _: self._note,
                file=sys.stderr,
                width=24,
            )
            self._shown = 0
        self._bar.update(done - self._shown)
        self._shown = done
