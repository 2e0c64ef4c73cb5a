"""The head map in a browser: pictures or a metric's colours, and moving by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import qkvault

if TYPE_CHECKING:
    from conftest import Viewer

pytestmark = pytest.mark.browser


def place_of(viewer: Viewer, depth: int, head: int) -> dict[str, float]:
    """Middle of a cell, in pixels of the map's canvas: 2 layers of 4 heads."""
    box = viewer.page.locator(".map-surface canvas").bounding_box()
    pitch = (box["width"] - 20) / 4
    return {"x": 20 + (head + 0.4) * pitch, "y": 20 + (depth + 0.4) * pitch}


def test_pictures_are_the_default_where_no_metrics_are_kept(viewer: Viewer) -> None:
    viewer.open("?store=bare")
    assert viewer.page.get_by_label("Colour of the head map").is_hidden()
    assert viewer.page.locator(".map-legend").is_hidden()
    assert viewer.ink(".map-surface canvas") > 20


def test_a_metric_colours_the_map_and_tells_its_numbers(
    viewer: Viewer, pairs: qkvault.Vault
) -> None:
    viewer.open("?ex=1&layer=1&heads=2")
    menu = viewer.page.get_by_label("Colour of the head map")
    assert menu.locator("option").count() == 1 + len(qkvault.METRICS)
    menu.select_option(label="Entropy")
    viewer.settled("metric=entropy")
    stored = pairs[1].metrics["entropy"]
    assert float(viewer.text(".map-low")) == pytest.approx(stored.min(), abs=0.006)
    assert float(viewer.text(".map-high")) == pytest.approx(stored.max(), abs=0.006)
    for depth, head in ((0, 0), (0, 3), (1, 1)):
        viewer.page.hover(".map-surface canvas", position=place_of(viewer, depth, head))
        said = viewer.text(".map-where")
        assert said.startswith(f"layer {(1, 4)[depth]}, head {head} · Entropy ")
        assert float(said.split()[-1]) == pytest.approx(stored[depth, head], abs=0.006)
    viewer.page.mouse.move(600, 500)
    assert float(viewer.text("#map-cell").split()[-1]) == pytest.approx(stored[0, 2], abs=0.006)


def test_what_an_example_has_no_number_for_is_said(viewer: Viewer, folder: object) -> None:
    viewer.open("?store=single&metric=a_to_b&heads=0")
    assert viewer.page.locator(".map-legend").is_hidden()
    assert viewer.text(".map-where").endswith("A→B is not defined here")


def test_clicks_and_keys_move(viewer: Viewer) -> None:
    viewer.open("?ex=1&metric=max")
    viewer.page.click(".map-surface canvas", position=place_of(viewer, 1, 2))
    viewer.settled("layer=4", "heads=2")
    viewer.page.click(".map-surface canvas", position=place_of(viewer, 1, 0), modifiers=["Shift"])
    viewer.settled("heads=0.2")
    viewer.page.click(".map-surface canvas", position=place_of(viewer, 1, 1))
    viewer.settled("heads=1&")
    for key, shown in (
        ("ArrowUp", "layer=1"),
        ("l", "heads=2"),
        ("j", "layer=4"),
        ("h", "heads=1"),
    ):
        viewer.page.keyboard.press(key)
        viewer.settled(shown)
    viewer.page.keyboard.press("Enter")
    viewer.settled("view=model", "layer=4", "head=1", "enlarged=1")
