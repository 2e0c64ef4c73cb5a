"""Texts that are hard to lay out: very long ones, right-to-left scripts, scripts without blanks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import qkvault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Viewer

pytestmark = pytest.mark.browser

LONG = pytest.mark.parametrize(("example", "length"), [(0, 512), (1, 2048)])


@pytest.fixture(scope="module")
def longest(folder: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(folder / "longest") as vault:
        yield vault


class TestLong:
    @LONG
    def test_the_last_token_is_a_key_away_and_has_its_numbers(
        self, viewer: Viewer, longest: qkvault.Vault, example: int, length: int
    ) -> None:
        viewer.open(f"?store=longest&ex={example}&heads=1")
        assert viewer.page.locator("*").count() <= 3000
        viewer.page.locator("#view-heads .tokens-left").focus()
        viewer.page.keyboard.press("End")
        viewer.page.wait_for_selector(f'#inspector[data-focus="left-{length - 1}"]')
        assert viewer.token("left", length - 1).is_visible()
        shown = viewer.weights()
        stored = longest[example].attention[0, 1][length - 1]
        assert list(shown) == list((-stored).argsort(kind="stable")[:24])
        assert list(shown.values()) == pytest.approx(stored[list(shown)], abs=1e-7)
        assert f"{length - 24} more share" in viewer.text("#inspector")
        assert viewer.page.locator("*").count() <= 3000

    @LONG
    @pytest.mark.parametrize(
        ("query", "drawn"),
        [
            ("&heads=0", "#view-heads .pane-back canvas"),
            ("&draw=matrix", "#view-heads .panels canvas"),
            ("&view=model&enlarged=1", "#view-model .grid-canvas"),
            ("&view=neuron&expanded=1", "#view-neuron .pane-overlay"),
        ],
    )
    def test_every_view_is_drawn_and_stays_small(
        self, viewer: Viewer, example: int, length: int, query: str, drawn: str
    ) -> None:
        viewer.open(f"?store=longest&ex={example}{query}")
        assert viewer.ink(drawn) > 0.5
        assert viewer.page.locator("*").count() <= 3000
        assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 1400

    @LONG
    def test_a_link_shows_the_token_it_names(
        self, viewer: Viewer, example: int, length: int
    ) -> None:
        viewer.open(f"?store=longest&ex={example}&heads=0&token=q{length - 40}")
        assert "is-locked" in str(viewer.token("left", length - 40).get_attribute("class"))
        assert viewer.token("left", length - 40).is_visible()
        viewer.page.locator("#inspector .rank").first.click()
        first = next(iter(viewer.weights()))
        viewer.token("right", first).wait_for()


class TestScripts:
    @pytest.mark.parametrize("example", [0, 1, 2, 3])
    def test_labels_keep_to_their_columns_and_to_themselves(
        self, viewer: Viewer, example: int
    ) -> None:
        viewer.open(f"?store=scripts&ex={example}")
        edges = viewer.page.locator("#view-heads .token").evaluate_all(
            """(rows) => rows.map((row) => {
              const box = row.getBoundingClientRect();
              const text = row.querySelector("bdi").getBoundingClientRect();
              const side = row.closest(".tokens-left") ? "left" : "right";
              return [side, text.left - box.left, box.right - text.right, text.width];
            })"""
        )
        assert all(width > 2 for _, _, _, width in edges)
        # One side keeps its right edge, the other its left one, whatever way a script runs.
        assert len({round(right) for side, _, right, _ in edges if side == "left"}) == 1
        assert len({round(left) for side, left, _, _ in edges if side == "right"}) == 1

    @pytest.mark.parametrize("example", [0, 1, 3])
    def test_numbers_stand_after_tokens_of_any_direction(
        self, viewer: Viewer, example: int
    ) -> None:
        viewer.open(f"?store=scripts&ex={example}")
        viewer.hover("left", 3)
        order = viewer.page.locator("#inspector .rank").evaluate_all(
            """(rows) => rows.map((row) => ["bdi", ".position", ".rank-weight"].map(
              (part) => row.querySelector(part).getBoundingClientRect().left))"""
        )
        assert all(token < position < weight for token, position, weight in order)

    def test_words_of_such_scripts(self, viewer: Viewer) -> None:
        viewer.open("?store=scripts&words=1")
        shown = viewer.page.locator("#view-heads .tokens-left .token-text").all_text_contents()
        assert shown == ["[CLS]", "كانت", "القطة", "تجلس", "على", "السجادة", "[SEP]"]
        viewer.open("?store=scripts&ex=2&words=1")
        shown = viewer.page.locator("#view-heads .tokens-left .token-text").all_text_contents()
        assert shown == ["[CLS]", "吾", "輩", "は", "猫", "である", "。", "[SEP]"]
