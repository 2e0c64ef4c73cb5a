"""Measure the page's list of examples over a million rows against the same over a thousand.

    python scripts/bench_corpus.py [--rows 1000000]

The rows are those of ``bench_table.py``, made on the fly; both lists are worked by the same acts
in headless Chromium: next page, sort, search, filter. Times are from the act until the list stands,
and each act is varied, so that no answer is one given before. Their ratio is what counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from bench_load import make_vault
from bench_table import SyntheticSource
from browser_meter import NODES, metered
from qkvault.table import Table
from qkvault_viewer import make_server

SMALL = 1000
VARIATIONS = 5
PATIENCE_MS = 120_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        few, _ = measure(Path(scratch) / "few", SMALL)
        many, nodes = measure(Path(scratch) / "many", options.rows)
    print(f"{'act (ms)':<36}{SMALL:>10}{options.rows:>10}{'ratio':>8}  bar")
    for what, time_of_few in few.items():
        ratio = many[what] / time_of_few
        verdict = "" if ratio <= 2 else "  MISSED"
        print(f"{what:<36}{time_of_few:>10.0f}{many[what]:>10.0f}{ratio:>8.2f}  <= 2{verdict}")
    print(f"{'nodes of the page':<36}{'':>10}{nodes:>10}{'':>8}  <= 3000")


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


def measure(folder: Path, rows: int) -> tuple[dict[str, float], int]:
    """Median milliseconds of each act in the page, and the page's nodes at the end."""
    folder.mkdir()
    taken: dict[str, float] = {}
    with serving(folder, rows) as (origin, words), metered(origin) as meter:
        page = meter.page

        def act(what: str, addresses: list[str]) -> None:
            walls = []
            for address in addresses:
                page.evaluate("() => delete document.documentElement.dataset.ready")
                began = time.perf_counter()
                page.evaluate(
                    "(address) => { history.pushState(null, '', address);"
                    " dispatchEvent(new PopStateEvent('popstate')); }",
                    address,
                )
                page.wait_for_selector("html[data-ready]", state="attached", timeout=PATIENCE_MS)
                walls.append(1e3 * (time.perf_counter() - began))
            taken[what] = statistics.median(walls[1:])  # the first works something out, once

        page.goto(origin)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=PATIENCE_MS)
        turns = []
        for _ in range(VARIATIONS):
            page.wait_for_selector("html[data-ready]", state="attached")
            before = page.locator(".corpus-range").text_content()
            began = time.perf_counter()
            page.locator(".corpus-pages button").last.click()
            page.wait_for_function(
                "(before) => document.querySelector('.corpus-range').textContent !== before",
                arg=before,
            )
            turns.append(1e3 * (time.perf_counter() - began))
        taken["next page"] = statistics.median(turns)
        some = range(VARIATIONS + 1)
        act("search", [f"?q={words[100 + n]}" for n in some])
        act("search and sort", [f"?q={words[120 + n]}&sort=length" for n in some])
        act("sort", [f"?sort=score&order=desc&q={words[n]}" for n in some])
        wheres = [quote(f'{{"length":{{"min":{20 + n}}}}}') for n in some]
        act("filter", [f"?where={where}" for where in wheres])
        act("filter and sort", [f"?where={where}&sort=score" for where in wheres])
        rows_shown = page.locator(".corpus-list .row").count()
        assert rows_shown == 50, f"{rows_shown} rows are shown"
        nodes = page.evaluate(NODES)
    return taken, nodes


if __name__ == "__main__":
    main()
