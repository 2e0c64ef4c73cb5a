"""The page as a whole in a browser: corpus, address, states, long and hostile texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Viewer

    import qkvault

pytestmark = pytest.mark.browser


class TestCorpus:
    def test_pages(self, viewer: Viewer) -> None:
        viewer.open()
        indices = "(rows) => rows.map((row) => Number(row.dataset.index))"
        rows = viewer.page.locator(".row")
        assert rows.evaluate_all(indices) == list(range(50))
        for first, last in ((50, 100), (100, 120)):
            viewer.page.click("text=More ›")
            viewer.page.wait_for_selector(f'.row[data-index="{first}"]')
            assert rows.evaluate_all(indices) == list(range(first, last))
        assert viewer.page.locator("text=More ›").is_disabled()
        viewer.page.click("text=‹ Back")
        viewer.page.wait_for_selector('.row[data-index="50"]')
        assert viewer.text(".corpus-range") == "51–100"

    def test_search_open_and_step_through_what_is_found(self, viewer: Viewer) -> None:
        viewer.open()
        viewer.page.keyboard.press("/")
        viewer.page.keyboard.type("partner p4*")
        viewer.settled("q=partner")
        found = viewer.page.locator(".row").evaluate_all(
            "(rows) => rows.map((row) => Number(row.dataset.index))"
        )
        assert found == [n for n in range(120) if str(n * n).startswith("4")]
        assert viewer.text(".corpus-count") == f"{len(found)} of 120 examples"
        viewer.page.click(f'.row[data-index="{found[1]}"]')
        viewer.settled(f"ex={found[1]}")
        assert f"sentence number {found[1]} about cats" in viewer.text("#example")
        viewer.page.keyboard.press(".")
        viewer.settled(f"ex={found[2]}")
        viewer.page.keyboard.press(",")
        viewer.settled(f"ex={found[1]}")

    def test_next_goes_on_to_the_next_page(self, viewer: Viewer) -> None:
        viewer.open("?ex=49")
        viewer.page.keyboard.press(".")
        viewer.settled("ex=50", "cursor=")
        assert viewer.page.locator('.row[aria-selected="true"]').get_attribute("data-index") == "50"
        viewer.page.keyboard.press(",")
        viewer.settled("ex=49")
        viewer.page.wait_for_selector('.row[data-index="49"][aria-selected="true"]')

    def test_labels_and_predictions(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?ex=3")
        example = pairs[3]
        names = ["different", "same"]
        row = viewer.text('.row[data-index="3"]')
        assert f"{names[example.label]} → {names[example.prediction]}" in row
        right = example.label == example.prediction
        assert ("✓" if right else "✗") in row
        assert f"prediction {names[example.prediction]}" in viewer.text("#example")

    def test_nothing_found_is_said(self, viewer: Viewer) -> None:
        viewer.open("?q=zebra")
        assert "No example has these words" in viewer.text(".corpus-list")


class TestAddress:
    def test_back_and_reload_give_the_same_picture(self, viewer: Viewer) -> None:
        viewer.open("?ex=1&heads=2")
        first = viewer.ink("#view-heads .pane-back canvas")
        viewer.page.keyboard.press("2")
        viewer.settled("view=model")
        viewer.page.click('.row[data-index="5"]')
        viewer.settled("ex=5", "view=model")
        viewer.page.reload()
        viewer.settled("ex=5", "view=model")
        assert viewer.page.locator("#view-model").is_visible()
        viewer.page.go_back()
        viewer.settled("ex=1", "view=model")
        viewer.page.go_back()
        viewer.page.wait_for_selector(
            'html[data-ready][data-shown="?ex=1&heads=2"]', state="attached"
        )
        assert viewer.ink("#view-heads .pane-back canvas") == first
        viewer.page.go_forward()
        viewer.settled("view=model")

    def test_a_link_gives_all_that_was_chosen(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?ex=1&layer=4&heads=1.3&filter=ab&token=q2")
        assert viewer.page.locator('.patch[aria-pressed="true"]').all_text_contents() == ["1", "3"]
        stored = pairs[1].attention[4, [1, 3]][:, 2].mean(0)
        other = [n for n in range(len(stored)) if pairs[1].segments[n] == 1]
        shown = viewer.weights()
        assert sorted(shown) == other
        assert [shown[n] for n in other] == pytest.approx(stored[other], abs=1e-7)

    def test_only_what_a_view_needs_is_asked_for(self, viewer: Viewer) -> None:
        viewer.open("?view=model")
        asked = [url for url in viewer.asked if "/ex/" in url]
        assert [url.split("/ex/")[1] for url in asked] == ["0", "0/thumbnails/encoder"]

    def test_the_last_of_many_steps_wins(self, viewer: Viewer) -> None:
        viewer.open("?ex=2")
        for keys in ("jkjkj", "kjkjk", "jkkjlhlllh"):
            for key in keys:
                viewer.page.keyboard.press(key)
            layer = {"j": 4, "k": 1}[[key for key in keys if key in "jk"][-1]]
            viewer.settled(f"layer={layer}")
            assert viewer.page.get_by_label("Layer", exact=True).input_value() == str(layer)
        assert viewer.page.locator('.patch[aria-pressed="true"]').all_text_contents() == ["2"]


class TestStates:
    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ("?store=bare&view=neuron", "needs query and key, which this vault does not keep"),
            ("?store=blind", "needs attention, which this vault does not keep"),
            ("?store=blind&view=model", "needs attention, which this vault does not keep"),
        ],
    )
    def test_an_array_that_is_not_kept(self, viewer: Viewer, query: str, said: str) -> None:
        viewer.open(query)
        assert said in viewer.text("#notice")

    def test_softmax_without_stored_attention(self, viewer: Viewer) -> None:
        viewer.open("?store=blind&view=neuron&expanded=1&token=q3")
        assert "softmax is computed here" in viewer.text(".neuron-note")
        assert viewer.ink("#view-neuron .pane-overlay") > 5

    def test_an_example_beyond_the_last(self, viewer: Viewer) -> None:
        viewer.open("?ex=5000")
        assert "Nothing to show here" in viewer.text("#notice")
        viewer.troubles.clear()  # Chromium itself writes the 404 to the console
        viewer.page.click("text=Open the first example")
        viewer.settled()
        assert viewer.page.locator("#notice").is_hidden()

    def test_waiting_is_shown_and_a_lost_server_is_said(self, viewer: Viewer) -> None:
        viewer.open("?store=pairs")
        held: list[Any] = []
        viewer.page.route("**/attention/**", lambda route: held.append(route))
        viewer.page.keyboard.press("j")
        viewer.page.wait_for_selector("#progress:visible")
        assert viewer.page.locator("#view-heads").is_visible()  # the old picture stays meanwhile
        held[0].abort()
        viewer.page.wait_for_selector("#notice:visible")
        assert "No connection to the viewer" in viewer.text("#notice")
        viewer.page.unroute("**/attention/**")
        viewer.page.click('#notice button:has-text("Try again")')
        viewer.page.wait_for_selector("#notice", state="hidden")
        viewer.settled("layer=4")
        assert viewer.ink("#view-heads .pane-back canvas") > 1
        viewer.troubles.clear()  # Chromium itself writes the lost request to the console

    def test_help_and_theme(self, viewer: Viewer) -> None:
        viewer.open()
        viewer.page.keyboard.press("?")
        assert viewer.page.locator("#help").is_visible()
        assert "Next layer" in viewer.text("#help")
        viewer.page.keyboard.press("Escape")
        viewer.page.keyboard.press("t")
        viewer.settled()
        assert viewer.page.locator("html").get_attribute("data-theme") == "dark"

    def test_narrow_windows_keep_the_corpus_in_reach(self, viewer: Viewer) -> None:
        viewer.page.set_viewport_size({"width": 620, "height": 760})
        viewer.open()
        assert viewer.page.locator("#corpus").is_hidden()
        viewer.page.click("#corpus-toggle")
        viewer.page.click('.row[data-index="4"]')
        viewer.settled("ex=4")
        assert viewer.page.evaluate("document.documentElement.scrollWidth") <= 620


class TestLongTexts:
    @pytest.mark.parametrize(
        "query", ["", "&view=model&enlarged=1", "&view=neuron", "&view=neuron&expanded=1"]
    )
    def test_few_nodes_for_many_tokens(self, viewer: Viewer, query: str) -> None:
        viewer.open(f"?store=long{query}")
        viewer.hover("left", 4)
        assert viewer.page.locator("*").count() <= 3000

    def test_scrolling_brings_the_rest(self, viewer: Viewer) -> None:
        viewer.open("?store=long&heads=0")
        pane = viewer.page.locator("#view-heads .pane")
        pane.evaluate("(pane) => { pane.scrollTop = pane.scrollHeight; }")
        viewer.token("left", 299).wait_for()
        viewer.page.wait_for_selector("#view-heads .pane-back canvas:nth-child(2)")
        viewer.hover("left", 299)
        assert viewer.page.locator("#inspector .rank").count() == 24

    def test_of_a_large_layer_only_the_heads_shown_are_asked_for(self, viewer: Viewer) -> None:
        viewer.open("?store=long&heads=7.9")
        asked = [url.split("/attention/")[1] for url in viewer.asked if "/attention/" in url]
        assert asked == ["encoder/0/7", "encoder/0/9"]


class TestHostileText:
    @pytest.mark.parametrize("view", ["heads", "model&enlarged=1", "neuron&expanded=1"])
    def test_nothing_fires_and_all_is_shown(self, viewer: Viewer, view: str) -> None:
        viewer.open(f"?store=hostile&view={view}&q=img")
        viewer.open(f"?store=hostile&view={view}")
        for token in range(13):
            viewer.hover("left", token)
        assert viewer.page.locator("img, svg, script:not([src])").count() == 0
        shown = viewer.page.locator(".view:visible .tokens-left .token-text").all_text_contents()
        assert shown[1] == "<img src=x onerror=alert(1)>"
        assert shown[2] == "</script><script>alert(2)</script>"
        assert shown[3] == "‹U+202E›evil‹U+202C›"
        assert shown[4] == "שלום"
        assert shown[5] == "␀␇␛[31m"
        assert shown[6] == "👩‍👩‍👧"
        assert shown[12] == "\ud7ff‹U+FEFF›‹U+200B›"
        assert "<img src=x onerror=alert(1)>‹U+202E›evil‹U+202C›" in viewer.text("#corpus")

    def test_labels_stay_within_their_column(self, viewer: Viewer) -> None:
        viewer.open("?store=hostile")
        boxes = viewer.page.locator("#view-heads .token-text").evaluate_all(
            """(texts) => texts.map((text) => {
              const own = text.getBoundingClientRect();
              const row = text.parentElement.getBoundingClientRect();
              return own.left >= row.left && own.right <= row.right && own.height <= row.height + 6;
            })"""
        )
        assert len(boxes) == 30
        assert all(boxes)
