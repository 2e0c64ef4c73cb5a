"""A vault whose every string tries something: nothing fires in any view, export or picture."""

from __future__ import annotations

import re
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import quote

import pytest
from conftest import HOSTILE, Viewer
from test_pages_takeaway import take

import qkvault
from qkvault_viewer import Choice, draw_figure
from qkvault_viewer.figures import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser

VIEWS = (
    "heads",
    "heads&draw=matrix",
    "heads&words=1&special=hide&token=q2",
    "model",
    "model&draw=lines&enlarged=1",
    "neuron&token=q1",
    "neuron&expanded=1&token=q1",
    "compare&vs=1",
)
LIVE = {"script", "img", "iframe", "object", "embed", "link", "base", "form"}


class Markup(HTMLParser):
    """What of a document could act: elements, and attributes that are scripts or lead away."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.acting: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.acting += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if not name.startswith("xmlns")
            if name.startswith("on") or re.match(r"\s*(?:javascript|https?):", value or "")
        ]


@contextmanager
def opened(viewer: Viewer, path: Path) -> Iterator[Any]:
    """A file in a tab of its own, as a person opens it; nothing in it may call out or speak."""
    page = viewer.page.context.new_page()
    fired: list[str] = []
    page.on("dialog", lambda dialog: (fired.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: fired.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.wait_for_timeout(50)
    page.close()
    assert [one for one in fired if not one.startswith((path.as_uri(), "data:"))] == []


@pytest.mark.parametrize("query", VIEWS)
def test_nothing_fires_in_a_view_or_in_what_is_taken_from_it(
    viewer: Viewer, tmp_path: Path, query: str
) -> None:
    viewer.open(f"?store=hostile&view={query}")
    viewer.page.keyboard.press("Control+k")
    viewer.page.keyboard.type("<img")
    viewer.page.keyboard.press("Escape")
    viewer.page.keyboard.press("Escape")
    assert viewer.page.locator("img, iframe, object, script:not([src])").count() == 0
    for kind in ("svg", "html"):
        path = tmp_path / f"taken.{kind}"
        text = take(viewer, kind).read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        markup = Markup(text)
        assert markup.acting == []
        own = {"script": 2} if kind == "html" else {}
        assert {tag: markup.elements.count(tag) for tag in LIVE & {*markup.elements}} in (own, {})
        with opened(viewer, path) as page:
            assert page.locator("svg").count() >= 1


def test_nothing_fires_in_the_list_by_hostile_columns(viewer: Viewer) -> None:
    name = quote(HOSTILE[0])
    where = quote(f'{{"columns.{HOSTILE[0]}": "x"}}')
    for query in (f"sort=columns.{name}", f"sort={name}&order=desc", f"q={name}", f"where={where}"):
        viewer.open(f"?store=hostile&{query}")
        assert viewer.page.locator("img, iframe, object, script:not([src])").count() == 0
    viewer.troubles[:] = [  # a column that is not there is a 400, which the console notes
        trouble for trouble in viewer.troubles if "400" not in trouble
    ]


def test_nothing_fires_in_figures_and_notebooks(
    viewer: Viewer, folder: Path, tmp_path: Path
) -> None:
    with qkvault.open(folder / "hostile") as vault:
        pictures = {
            f"{example.index}-{view}.svg": draw_figure(example, view, Choice(token=1))
            for example in vault
            for view in get_args(View)
        }
        html = vault[0]._repr_html_()
    assert html
    for name, text in {**pictures, "notebook.html": f"<meta charset=utf-8>{html}"}.items():
        markup = Markup(text)
        assert markup.acting == []
        allowed = {"img"} if name == "notebook.html" else set()
        assert LIVE & {*markup.elements} <= allowed
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with opened(viewer, path) as page:
            assert page.locator("script").count() == 0
