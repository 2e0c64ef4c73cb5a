"""A headless Chromium of its own per page, and what the page costs it: time, CPU, bytes, memory.

Reads Linux's ``/proc``: CPU seconds are those of all of the browser's processes. A page's own are
counted from a browser at rest that has shown an empty page already; with the browser's start, which
is 0.6 to 0.9 s whatever is shown, they are told as ``gross``.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_MS = 240_000
PAUSE = 0.25
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--enable-precise-memory-info"),
)
TICKS = os.sysconf("SC_CLK_TCK")

READY = """(selector) => new Promise((resolve) => {
  const look = () => {
    if (!document.querySelector(selector)) { setTimeout(look, 10); return; }
    requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())));
  };
  look();
})"""
"""Milliseconds since navigation until the selector fits and two frames have passed."""

ACT = """async (selector) => {
  const began = performance.now();
  %s
  while (!document.querySelector(selector)) await new Promise((go) => { setTimeout(go, 4); });
  await new Promise((go) => { requestAnimationFrame(() => setTimeout(go)); });
  return performance.now() - began;
}"""
"""Milliseconds from an act until the frame that shows it has been made."""

NODES = """() => {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let count = 1;
  while (walker.nextNode()) count += 1;
  return count;
}"""


@dataclass
class Cost:
    """What it took to show a page.

    Attributes:
        wall: seconds from navigation to two frames after the picture stood.
        cpu: CPU seconds of all browser processes from navigation until the page is painted.
        gross: the same with the start of the browser.
        sent: bytes received.
        nodes: nodes of the document, text included.
        resident: bytes of the page's process in memory.
        foreign: addresses asked for beyond the page's own origin.
        acts: per act, (wall, CPU) seconds.
    """

    wall: float
    cpu: float
    gross: float
    sent: int
    nodes: int
    resident: int
    foreign: list[str]
    acts: dict[str, tuple[float, float]] = field(default_factory=dict)


class Meter:
    """One page in one browser.

    Args:
        page: playwright's.
    """

    def __init__(self, page: Any, origin: str) -> None:
        self._page = page
        self._origin = origin
        self._sent = 0
        self._foreign: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", self._asked)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")
        devtools.on("Network.loadingFinished", self._received)

    @property
    def page(self) -> Any:
        """Playwright's page."""
        return self._page

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self._origin, "blob:", "data:")):
            self._foreign.append(request.url)

    def _received(self, event: Mapping[str, Any]) -> None:
        self._sent += int(event["encodedDataLength"])

    def open(self, address: str, ready: str) -> Cost:
        """Show a page; ``ready`` is a selector that fits once its picture stands."""
        self._page.goto("about:blank")
        self._page.evaluate(READY, "html")
        self._show()
        self.quieten()
        used = browser_cpu()
        self._page.goto(address, wait_until="commit", timeout=PATIENCE_MS)
        wall = self._page.evaluate(READY, ready) / 1000
        self._show()
        gross, resident, sent = browser_cpu(), page_memory(), self._sent
        nodes = self._page.evaluate(NODES)
        return Cost(wall, gross - used, gross, sent, nodes, resident, self._foreign)

    def _show(self) -> None:
        """Wait until the page is painted: a picture of a corner needs the whole of it."""
        corner = {"x": 0, "y": 0, "width": 32, "height": 32}
        self._page.screenshot(timeout=PATIENCE_MS, clip=corner)

    def act(self, codes: Sequence[str], ready: str) -> tuple[float, float]:
        """Wall and CPU seconds of statements in the page and of drawing what they change.

        One after another, as by a hand that moves on; means of all. The CPU is counted until the
        browser is at rest, so that nothing that an act sets off is left out.
        """
        self.quieten()
        used = browser_cpu()
        walls = []
        for code in codes:
            walls.append(self._page.evaluate(ACT % code, ready) / 1000)
            time.sleep(PAUSE)
        self.quieten()
        return sum(walls) / len(walls), (browser_cpu() - used) / len(walls)

    def quieten(self) -> None:
        """Wait until the browser has nothing left to do: work ahead is nobody's act."""
        used = browser_cpu()
        for _ in range(100):
            time.sleep(0.4)
            now = browser_cpu()
            if now - used < 0.03:
                return
            used = now


@contextmanager
def metered(origin: str, width: int = 1400, height: int = 900) -> Iterator[Meter]:
    """A browser with a fresh profile, and a page in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        try:
            context = browser.new_context(viewport={"width": width, "height": height})
            yield Meter(context.new_page(), origin)
        finally:
            browser.close()


def find_chromium() -> str:
    """$QKVAULT_CHROMIUM, else a Chromium on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("QKVAULT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise SystemExit("no Chromium: install it, or name it in QKVAULT_CHROMIUM")
    return found


def browser_cpu() -> float:
    """CPU seconds of this process's browsers, those of their ended children included."""
    total = 0
    for process in _browsers():
        stat = _read(process / "stat").rpartition(")")[2].split()
        total += sum(map(int, stat[11:15]))  # utime, stime, cutime, cstime
    return total / TICKS


def page_memory() -> int:
    """Resident bytes of the largest renderer."""
    largest = 0
    for process in _browsers():
        if "--type=renderer" in _read(process / "cmdline"):
            fields = _read(process / "statm").split()
            largest = max(largest, int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0)
    return largest


def _browsers() -> list[Path]:
    """Folders under /proc of the browser processes that descend from this one."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        stat = _read(folder / "stat").rpartition(")")[2].split()
        if stat:
            parents[int(folder.name)] = int(stat[1])
    own = {os.getpid()}
    while True:
        more = {process for process, parent in parents.items() if parent in own} - own
        if not more:
            break
        own |= more
    folders = [Path("/proc") / str(process) for process in own]
    return [folder for folder in folders if "chrom" in _read(folder / "cmdline").split("\0")[0]]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""
