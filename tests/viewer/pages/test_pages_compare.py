"""Comparing examples in a browser: side by side, in step, and cell by cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Viewer

pytestmark = pytest.mark.browser

SUMMARY = ".difference-summary"


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(folder / "tuned") as vault:
        yield vault


def read_cell(viewer: Viewer, row: int, column: int, count: int) -> float:
    """The change that the difference map tells at a cell of a square map."""
    canvas = viewer.page.locator(".difference canvas[role=img]")
    box = canvas.bounding_box()
    # The cells end 8 pixels before the canvas does.
    size = viewer.page.locator(".difference").evaluate(
        "(e) => e.querySelector('canvas[role=img]').dataset.cell"
    )
    cell = float(size)
    left, top = box["width"] - 8 - count * cell, box["height"] - 8 - count * cell
    canvas.hover(position={"x": left + (column + 0.5) * cell, "y": top + (row + 0.5) * cell})
    return float(viewer.page.locator(".difference-readout").get_attribute("data-change"))


def test_the_same_example_of_two_vaults(
    viewer: Viewer, pairs: qkvault.Vault, tuned: qkvault.Vault
) -> None:
    viewer.open("?store=pairs&ex=1&view=compare&layer=4&heads=2")
    assert "Compare this example with another" in viewer.text(".compare-start")
    viewer.page.select_option(".compare-ways select", "tuned")
    viewer.settled("vs=tuned%7E1")
    change = tuned[1].attention[4, 2] - pairs[1].attention[4, 2]
    for row, column in ((0, 0), (3, 5), (11, 2)):
        assert read_cell(viewer, row, column, 12) == pytest.approx(change[row, column], abs=2e-6)
    every = np.abs(tuned[1].attention[:, :] - pairs[1].attention[:, :]).mean((-1, -2))
    assert float(viewer.text(".map-low")) == pytest.approx(every.min(), abs=0.003)
    assert float(viewer.text(".map-high")) == pytest.approx(every.max(), abs=0.003)
    viewer.page.get_by_label("Heads; double-click").locator("text=1").click()
    viewer.settled("heads=1.2")
    mean = (tuned[1].attention[4, [1, 2]] - pairs[1].attention[4, [1, 2]]).mean(0)
    assert read_cell(viewer, 5, 6, 12) == pytest.approx(mean[5, 6], abs=2e-6)


def test_tokens_move_in_step(viewer: Viewer) -> None:
    viewer.open("?ex=1&view=compare&vs=tuned~1&heads=0")
    viewer.page.locator('.compare-pane:nth-child(2) .tokens-left [data-token="4"]').click()
    viewer.settled("token=q4")
    for pane in (1, 2):
        row = viewer.page.locator(f".compare-pane:nth-child({pane}) .tokens-left .is-locked")
        assert row.get_attribute("data-token") == "4"


def test_a_difference_is_read_by_keyboard(
    viewer: Viewer, pairs: qkvault.Vault, tuned: qkvault.Vault
) -> None:
    viewer.open("?ex=1&view=compare&vs=tuned~1&layer=4&heads=2")
    canvas = viewer.page.locator(".difference canvas[role=img]")
    canvas.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        viewer.page.keyboard.press(key)
    change = (tuned[1].attention[4, 2] - pairs[1].attention[4, 2])[1, 1]
    said = viewer.page.locator(".difference-readout").get_attribute("data-change")
    assert float(str(said)) == pytest.approx(change, abs=2e-6)
    viewer.page.keyboard.press("Enter")
    viewer.settled("token=q1")


def test_pinning_from_the_list_and_swapping(viewer: Viewer) -> None:
    viewer.open("?ex=1")
    viewer.page.locator('.row[data-index="4"]').hover()
    viewer.page.locator('.row[data-index="4"] .row-pin').click()
    viewer.settled("view=compare", "vs=4")
    viewer.page.locator('.row[data-index="5"]').hover()
    viewer.page.locator('.row[data-index="5"] .row-pin').click()
    viewer.settled("vs=4.5")
    assert viewer.page.locator(".compare-pane").count() == 3
    assert viewer.page.locator(".difference").count() == 2
    viewer.page.get_by_label("Swap A and C").click()
    viewer.settled("ex=5", "vs=4.1")
    viewer.page.get_by_label("Compare no longer with B").click()
    viewer.settled("vs=1")
    assert viewer.page.locator(".compare-pane").count() == 2
    viewer.page.go_back()
    viewer.settled("vs=4.1")


def test_other_shapes_are_shown_side_by_side_only(viewer: Viewer) -> None:
    viewer.open("?store=pairs&ex=1&view=compare&vs=causal~0")
    said = viewer.text(".difference-none")
    assert "encoder" in said
    assert "decoder" in said
    assert viewer.page.locator(".difference canvas[role=img]").count() == 0
    assert viewer.page.locator(".compare-pane:nth-child(2) .token").count() == 28


def test_what_cannot_be_read_is_said_in_its_place(viewer: Viewer) -> None:
    viewer.open("?ex=1&view=compare&vs=nowhere~1.blind~0.99999")
    troubles = viewer.page.locator(".compare-area .is-error").all_text_contents()
    assert troubles[0] == "no vault is served under the name nowhere"
    assert troubles[1] == "This vault does not keep attention."
    assert "there are 120" in troubles[2]
    assert viewer.page.locator(".compare-pane:first-child .token").count() == 24
    viewer.troubles.clear()  # Chromium itself writes the 404 to the console


def test_hostile_text_stays_text(viewer: Viewer) -> None:
    viewer.open("?store=hostile&ex=0&view=compare&vs=1")
    assert viewer.page.locator("img, svg, script:not([src])").count() == 0
    assert "<img src=x" in viewer.text(".compare-pane:first-child .compare-head")
