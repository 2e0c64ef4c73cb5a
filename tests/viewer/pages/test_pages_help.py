"""Finding one's way in a browser: palette, hints, families, what is fetched ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Viewer

pytestmark = pytest.mark.browser


class TestPalette:
    def test_a_command_by_some_letters_of_it(self, viewer: Viewer) -> None:
        viewer.open("?ex=1")
        viewer.page.keyboard.press("Control+k")
        viewer.page.keyboard.type("neuron")
        first = viewer.page.locator('.palette-row[aria-selected="true"]')
        assert "Neuron: query and key" in str(first.text_content())
        viewer.page.keyboard.press("Enter")
        viewer.settled("view=neuron")
        assert viewer.page.locator("#palette").is_hidden()

    def test_places_and_searches(self, viewer: Viewer) -> None:
        viewer.open()
        for typed, shown in (
            ("17", "ex=17"),
            ("by entropy of", "sort=entropy"),
            ("map by a→b", "metric=a_to_b"),
            ("layer 4", "layer=4"),
            ("sentence number 3", "q=sentence"),
            ("vault causal", "store=causal"),
        ):
            viewer.page.keyboard.press(">")
            viewer.page.keyboard.type(typed)
            viewer.page.keyboard.press("Enter")
            viewer.settled(shown)

    def test_arrows_go_round_and_escape_leaves(self, viewer: Viewer) -> None:
        viewer.open()
        viewer.page.click("#palette-open")
        count = viewer.page.locator(".palette-row").count()
        assert count > 30
        viewer.page.keyboard.press("ArrowUp")
        marked = viewer.page.locator('.palette-row[aria-selected="true"]')
        assert marked.get_attribute("data-at") == str(count - 1)
        field = viewer.page.get_by_role("combobox", name="Command")
        assert field.get_attribute("aria-activedescendant") == f"palette-{count - 1}"
        viewer.page.keyboard.press("ArrowDown")
        assert marked.get_attribute("data-at") == "0"
        viewer.page.keyboard.press("Escape")
        assert viewer.page.locator("#palette").is_hidden()


class TestKeys:
    def test_every_setting_of_a_view_has_a_key(self, viewer: Viewer) -> None:
        viewer.open("?ex=1")
        for key, shown in (
            ("[", "mass=95"),
            ("[", "mass=90"),
            ("]", "mass=95"),
            ("s", "special=hide"),
            ("s", "special=renormalise"),
            ("w", "words=1"),
            ("m", "draw=matrix"),
            ("f", "filter=aa"),
            ("v", "columns=value"),
            ("d", "dims=sorted"),
            ("l", "head=1"),
            ("j", "layer=4"),
            ("c", "vs=1"),
            ("4", "view=compare"),
        ):
            viewer.page.keyboard.press(key)
            viewer.settled(shown)

    def test_the_help_page_lists_them_all(self, viewer: Viewer) -> None:
        viewer.open()
        viewer.page.keyboard.press("?")
        listed = viewer.page.locator("#help kbd").all_text_contents()
        assert {*"1234jklhafm[]swvdxc/et?>.,np", "Esc"} <= set(listed)
        assert viewer.page.locator("#help").is_visible()

    def test_what_has_the_focus_shows_it(self, viewer: Viewer) -> None:
        viewer.open("?ex=1&view=compare&vs=2&heads=1")
        seen = set()
        for _ in range(60):
            viewer.page.keyboard.press("Tab")
            name, width, style = viewer.page.evaluate(
                """() => {
                  const one = document.activeElement;
                  const { outlineWidth, outlineStyle } = getComputedStyle(one);
                  return [one.id || one.className || one.tagName, outlineWidth, outlineStyle];
                }"""
            )
            if name == "BODY":
                break
            seen.add(name)
            assert style not in ("none", "hidden"), name
            assert float(width.removesuffix("px")) >= 1, name
        assert len(seen) > 15


class TestHints:
    def test_dismissed_for_good(self, viewer: Viewer) -> None:
        viewer.open()
        assert viewer.page.locator("#hints").is_visible()
        viewer.page.get_by_label("Do not show these hints again").click()
        viewer.page.reload()
        viewer.settled()
        assert viewer.page.locator("#hints").is_hidden()

    def test_a_browser_that_keeps_nothing(self, viewer: Viewer) -> None:
        viewer.page.add_init_script(
            "Object.defineProperty(window, 'localStorage', { get() { throw new Error('no'); } })"
        )
        viewer.open()
        viewer.page.keyboard.press("t")
        viewer.settled()
        viewer.page.get_by_label("Do not show these hints again").click()
        assert viewer.page.locator("#hints").is_hidden()

    def test_one_click_to_the_trio(self, viewer: Viewer) -> None:
        viewer.open("?store=families")
        viewer.page.click(".start-card")
        viewer.settled("ex=1", "view=compare", "vs=2.3")
        heads = viewer.page.locator(".compare-id").all_text_contents()
        assert heads == ["eminem-sick", "eminem-terrific", "eminem-available"]

    def test_a_family_is_offered(self, viewer: Viewer) -> None:
        viewer.open("?store=families&ex=3")
        viewer.page.click(".family")
        viewer.settled("ex=3", "view=compare", "vs=1.2")
        viewer.open("?store=families&ex=0")
        viewer.page.wait_for_selector(".start-card")
        assert viewer.page.locator(".family").count() == 0


def test_a_thumbnail_under_the_pointer_is_fetched(viewer: Viewer) -> None:
    viewer.open("?view=model")
    box = viewer.page.locator("#view-model .grid-surface").get_attribute("data-geometry")
    left, top, cell, high, gap = (float(part) for part in str(box).split())
    at = {"x": left + 2 * (cell + gap) + cell / 2, "y": top + high + gap + high / 2}
    with viewer.page.expect_request("**/attention/encoder/4/2"):
        viewer.page.locator("#view-model .grid-surface").hover(position=at)


def test_neighbours_are_fetched_once_the_page_is_at_rest(viewer: Viewer) -> None:
    with viewer.page.expect_response("**/ex/3/thumbnails/encoder"):
        viewer.open("?ex=2")
    with viewer.page.expect_response("**/ex/1/attention/encoder/1") as last:
        pass
    assert last.value.ok
    asked = [url.split("/ex/")[1] for url in viewer.asked if "/ex/" in url]
    assert "2/attention/encoder/4" in asked
    assert len(set(asked)) == len(asked)
    before = len(asked)
    viewer.page.keyboard.press(".")
    viewer.settled("ex=3")
    now = [url for url in viewer.asked if "/ex/" in url]
    assert len(now) == before
