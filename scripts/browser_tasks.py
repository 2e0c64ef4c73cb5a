"""The longest task of a page's main thread: while it runs, the page answers nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TASKS = ("ThreadControllerImpl::RunTask", "RunTask")
MAIN_THREAD = "CrRendererMain"


@dataclass(frozen=True)
class Task:
    """Milliseconds of the longest task.

    Attributes:
        cpu: that the thread worked; the machine's other work does not count.
        wall: that passed, as the Long Tasks API counts.
    """

    cpu: float
    wall: float


def longest_task(page: Any, act: Callable[[], object]) -> Task:
    """Trace a page while ``act`` runs; ``act`` returns once what it set off is done.

    Args:
        page: playwright's, of a Chromium.
    """
    browser = page.context.browser
    browser.start_tracing(page=page, categories=["toplevel"])
    try:
        act()
    finally:
        events = json.loads(browser.stop_tracing())["traceEvents"]
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == MAIN_THREAD
    }
    tasks = [
        event
        for event in events
        if event["name"] in TASKS and event["ph"] == "X" and (event["pid"], event["tid"]) in main
    ]
    if not tasks:
        raise RuntimeError("the trace holds no task of the page's main thread")
    cpu = max(event.get("tdur", 0) for event in tasks)
    return Task(cpu / 1000, max(event["dur"] for event in tasks) / 1000)
