"""A page stays light however long the text: few nodes, few requests, none of them elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from browser_meter import NODES

if TYPE_CHECKING:
    from conftest import Viewer

pytestmark = pytest.mark.browser

MOST_NODES = 3000
MOST_REQUESTS = 25


@pytest.mark.parametrize("view", ["heads", "model", "neuron", "neuron&expanded=1"])
def test_a_long_text_needs_no_more_than_a_short_one(viewer: Viewer, view: str) -> None:
    viewer.open(f"?store=long&view={view}")
    asked = [url for url in viewer.asked if "/attention/" not in url]  # one for each of 48 heads
    assert len(asked) <= MOST_REQUESTS
    assert viewer.page.evaluate(NODES) <= MOST_NODES
    assert all(url.startswith((viewer.site, "blob:")) for url in viewer.asked)
