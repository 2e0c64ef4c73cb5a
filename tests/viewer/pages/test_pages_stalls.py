"""The page's thread is never held up for long, however long the text; stale work is dropped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Viewer

from browser_tasks import longest_task
from qkvault_viewer.server import make_server
from vaults import make_vault

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LIMIT_MS = 100.0
TOKENS = 512


@pytest.fixture(scope="module")
def long_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("stalls") / "long"
    make_vault(path, lengths=[TOKENS, 24], layers=4, heads=12, head_dim=64)
    server = make_server([path])
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.stop()
    thread.join(timeout=10)


@pytest.fixture
def page(browser: Any, long_site: str) -> Iterator[Viewer]:
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    viewer = Viewer(context.new_page(), long_site)
    yield viewer
    context.close()
    assert viewer.troubles == []


def acts_of(viewer: Viewer, query: str) -> dict[str, Callable[[], object]]:
    def step() -> None:
        viewer.page.keyboard.press("j")
        viewer.settled("layer=1")

    def point() -> None:
        for token in (1, 3, 5):
            viewer.hover("left", token)

    def scroll() -> None:
        viewer.page.mouse.move(500, 500)
        for _ in range(6):
            viewer.page.mouse.wheel(0, 700)
            viewer.page.wait_for_timeout(50)
        viewer.settled()

    acts = {"open": lambda: viewer.open(query), "next layer": step}
    if "model" not in query:
        acts |= {"point": point, "scroll": scroll}
    return acts


@pytest.mark.parametrize(
    "query",
    [
        "?view=heads",
        "?view=heads&draw=matrix",
        "?view=heads&special=renormalise&mass=80",
        "?view=model",
        "?view=model&draw=lines",
        "?view=neuron",
        "?view=neuron&expanded=1",
        "?view=compare&vs=1",
    ],
)
def test_no_task_is_long(page: Viewer, query: str) -> None:
    """CPU time of the thread, so that a busy machine does not count."""
    acts = acts_of(page, query)
    if "matrix" in query or "compare" in query:
        acts = {name: act for name, act in acts.items() if name in ("open", "next layer")}
    longest = {name: longest_task(page.page, act) for name, act in acts.items()}
    print(query, {name: f"{task.cpu:.0f} ms" for name, task in longest.items()})
    assert {name: task for name, task in longest.items() if task.cpu > LIMIT_MS} == {}


def test_of_many_steps_only_the_last_is_drawn(page: Viewer) -> None:
    page.open("?view=heads")
    before = int(page.page.locator("html").get_attribute("data-ready"))
    page.page.evaluate(
        """() => {
          for (const key of "jjjkjkj") dispatchEvent(new KeyboardEvent("keydown", { key }));
        }"""
    )
    page.settled("layer=3")
    page.page.wait_for_timeout(500)
    assert int(page.page.locator("html").get_attribute("data-ready")) == before + 1
