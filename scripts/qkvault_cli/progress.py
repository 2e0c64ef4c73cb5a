"""Progress: a bar on a terminal, a plain line now and then elsewhere, or JSON for machines."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from qkvault_extractor import Progress

LOG_INTERVAL_S = 30.0
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
    """Shows how far a job is: a bar with ETA on a terminal, a line every 30 seconds elsewhere.

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


class RunLog:
    """The log of a run: a :class:`Meter`, or one JSON object a line on standard error.

    Each object has ``time`` (seconds since 1970) and ``event``: ``progress`` with ``done``,
    ``total`` (examples), ``rate`` (examples/s), ``bytes`` (written by this run) and ``eta``
    (seconds, or null); ``finished`` with what came of it; ``stopped`` or ``error`` with a message.
    """

    def __init__(self, label: str, as_json: bool) -> None:
        self._json = as_json
        self._meter = Meter(label, "examples")
        self._last = time.monotonic()

    def __enter__(self) -> RunLog:
        if self._json:
            click.get_current_context().meta[_LOG] = self
        return self

    def __exit__(self, *_: object) -> None:
        self._meter.close()

    def progress(self, step: Progress) -> None:
        """Show how far the run is."""
        if not self._json:
            rates = f"{step.examples_per_s:.1f} examples/s, {format_bytes(step.bytes_per_s)}/s"
            self._meter.update(step.done, step.total, rates, step.eta_s)
        elif step.done >= step.total or time.monotonic() - self._last >= LOG_INTERVAL_S:
            self._last = time.monotonic()
            self.tell(
                "progress",
                done=step.done,
                total=step.total,
                rate=step.examples_per_s,
                bytes=step.bytes,
                eta=step.eta_s,
            )

    def finish(self, line: str, **facts: object) -> None:
        """Say what came of the run: to people the line, to machines the facts."""
        self._meter.close()
        if self._json:
            self.tell("finished", **facts)
        else:
            click.echo(line)

    def tell(self, event: str, **facts: object) -> None:
        """Log an event as JSON."""
        click.echo(json.dumps({"time": round(time.time(), 3), "event": event, **facts}), err=True)


_LOG = "qkvault.log"


def say(ctx: click.Context, event: str, message: str) -> None:
    """Tell standard error how a command ended, in the form that its log has."""
    log = ctx.meta.get(_LOG)
    if isinstance(log, RunLog):
        log.tell(event, message=message)
    else:
        click.echo(message, err=True)
