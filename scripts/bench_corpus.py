"""Measure the page's list of examples over a million rows against the same over a thousand.

    python scripts/bench_corpus.py [--rows 1000000]

The rows are those of ``bench_table.py``, made on the fly; both lists are worked by the same acts
in headless Chromium: next page, sort, search, filter. Times are from the act until the list stands,
CPU is that of browser and server; each act is varied, so that no answer is one given before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bench_load import make_vault
from bench_table import SyntheticSource
from browser_meter import NODES, browser_cpu, metered
from qkvault.table import Table
from qkvault_viewer import make_server

SMALL = 1000
VARIATIONS = 10
PATIENCE_MS = 120_000
GO = """(address) => {
  delete document.documentElement.dataset.ready;
  history.pushState(null, "", address);
  dispatchEvent(new PopStateEvent("popstate"));
}"""
TURN = """() => {
  delete document.documentElement.dataset.ready;
  document.querySelector(".corpus-pages button:last-child").click();
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        few, _ = measure(Path(scratch) / "few", SMALL)
        many, nodes = measure(Path(scratch) / "many", options.rows)
    print(f"{'act':<20}{'CPU ms':>8}{'CPU ms':>8}{'ratio':>8}  bar  {'wall ms':>8}{'wall ms':>8}")
    print(f"{'':<20}{SMALL:>8}{options.rows:>8}{'':>15}{SMALL:>8}{options.rows:>8}")
    for what, (wall, cpu) in few.items():
        ratio = many[what][1] / cpu
        print(
            f"{what:<20}{cpu:>8.0f}{many[what][1]:>8.0f}{ratio:>8.2f}  <= 2 {wall:>8.0f}"
            f"{many[what][0]:>8.0f}{'' if ratio <= 2 else '  MISSED'}"
        )
    print(f"nodes of the page: {nodes}, at most 3000{'' if nodes <= 3000 else '  MISSED'}")


@contextmanager
def serving(folder: Path, rows: int) -> Iterator[tuple[str, list[str]]]:
    """Origin of a server whose vault has so many rows in its table, and words of their texts."""
    source = SyntheticSource(rows)
    began = time.perf_counter()
    Table(source, folder=folder).build()
    print(f"{rows} rows: table built in {time.perf_counter() - began:.1f} s", flush=True)
    server = make_server([make_vault(folder / "vault", [16], 1, 2)])
    (store,) = server._app.extensions["qkvault"].values()
    store.vault.__dict__["table"] = Table(source, folder=folder)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url.rstrip("/"), source.words.tolist()
    finally:
        server.stop()
        thread.join(10)


def measure(folder: Path, rows: int) -> tuple[dict[str, tuple[float, float]], int]:
    """Per act milliseconds of wall (median) and CPU (mean); the page's nodes at the end."""
    folder.mkdir()
    taken: dict[str, tuple[float, float]] = {}
    with serving(folder, rows) as (origin, words), metered(origin) as meter:
        page = meter.page

        def timed(what: str, acts: Sequence[Callable[[], object]]) -> None:
            acts[0]()  # the first works something out, once
            meter.quieten()
            walls, used = [], browser_cpu() + time.process_time()
            for act in acts[1:]:
                began = time.perf_counter()
                act()
                page.wait_for_selector("html[data-ready]", state="attached", timeout=PATIENCE_MS)
                walls.append(1e3 * (time.perf_counter() - began))
            cpu = browser_cpu() + time.process_time() - used
            taken[what] = statistics.median(walls), 1e3 * cpu / len(walls)

        def show(address: str) -> Callable[[], object]:
            return lambda: page.evaluate(GO, address)

        page.goto(origin)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=PATIENCE_MS)
        some = range(VARIATIONS + 1)
        wheres = [quote(f'{{"length":{{"min":{20 + n}}}}}') for n in some]
        timed("next page", [lambda: page.evaluate(TURN) for _ in some])
        timed("search", [show(f"?q={words[100 + n]}") for n in some])
        timed("search and sort", [show(f"?q={words[120 + n]}&sort=length") for n in some])
        timed("sort", [show(f"?sort=score&order=desc&q={words[n]}") for n in some])
        timed("filter", [show(f"?where={where}") for where in wheres])
        timed("filter and sort", [show(f"?where={where}&sort=score") for where in wheres])
        rows_shown = page.locator(".corpus-list .row").count()
        assert rows_shown == 50, f"{rows_shown} rows are shown"
        nodes = page.evaluate(NODES)
    return taken, nodes


if __name__ == "__main__":
    main()
