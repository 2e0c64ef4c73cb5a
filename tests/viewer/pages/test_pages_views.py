"""The three views in a browser: what they show, and whether the numbers are the vault's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Viewer

pytestmark = pytest.mark.browser


class TestHeads:
    def test_hovered_token_has_the_weights_of_the_vault(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?layer=4&heads=2")
        viewer.hover("left", 3)
        stored = pairs[0].attention[4, 2][3]
        assert viewer.weights() == {key: float(stored[key]) for key in range(16)}
        best = int(stored.argmax())
        said = viewer.text("#live")
        assert said.startswith("Layer 4, head 2")
        assert pairs[0].tokens[best] in said
        assert said.endswith(f" {stored[best]:.4f}")

    def test_attended_token_has_its_column(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?heads=1")
        viewer.hover("right", 5)
        stored = pairs[0].attention[1, 1][:, 5]
        assert viewer.weights() == {query: float(stored[query]) for query in range(16)}

    def test_several_heads_show_their_mean_and_each(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open()
        viewer.hover("left", 2)
        stored = pairs[0].attention[1][:, 2]  # (head, key_token)
        shown = viewer.weights()
        assert [shown[key] for key in range(16)] == pytest.approx(stored.mean(0), abs=1e-7)
        key = max(shown, key=lambda token: shown[token])
        assert viewer.by_head() == {head: float(stored[head, key]) for head in range(4)}

    def test_bars_and_lines_are_strongest_where_the_weight_is(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?heads=3")
        assert viewer.ink("#view-heads .pane-back canvas") > 0.5
        viewer.hover("left", 6)
        opacity = viewer.page.evaluate(
            """() => {
              const canvas = document.querySelector("#view-heads .pane-overlay");
              const { width, height } = canvas;
              const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
              const density = width / canvas.clientWidth;
              const origin = canvas.getBoundingClientRect();
              const rows = document.querySelectorAll("#view-heads .tokens-right [data-token]");
              return [...rows].map((row) => {
                const box = row.getBoundingClientRect();
                const x = Math.floor((box.right - 4 - origin.left) * density);
                const y = Math.floor((box.top + box.height / 2 - origin.top) * density);
                return data[4 * (y * width + x) + 3];
              });
            }"""
        )
        stored = pairs[0].attention[1, 3][6]
        assert int(np.argmax(opacity)) == int(stored.argmax())
        order = np.argsort(stored)
        assert all(np.diff(np.array(opacity)[order]) >= 0)

    def test_toggle_isolate_and_restore(self, viewer: Viewer) -> None:
        viewer.open()
        patch = '.patch[data-head="{}"]'
        viewer.page.click(patch.format(1))
        viewer.settled("heads=0.2.3")
        viewer.page.dblclick(patch.format(2))
        viewer.settled("heads=2")
        assert viewer.page.locator('.patch[aria-pressed="true"]').all_text_contents() == ["2"]
        viewer.page.click(patch.format(2))
        assert viewer.page.locator('.patch[aria-pressed="true"]').all_text_contents() == ["2"]
        viewer.page.dblclick(patch.format(2))
        viewer.page.wait_for_selector('.patch[aria-pressed="true"] >> nth=3')
        assert "heads=" not in viewer.page.url

    def test_layers_keep_their_own_numbers(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?heads=0&token=q2")
        viewer.page.keyboard.press("j")
        viewer.settled("layer=4")
        assert viewer.page.get_by_label("Layer", exact=True).input_value() == "4"
        stored = pairs[0].attention[4, 0][2]
        assert viewer.weights() == {key: float(stored[key]) for key in range(16)}
        viewer.page.keyboard.press("k")
        viewer.settled("layer=1")

    @pytest.mark.parametrize(
        ("name", "left", "right"),
        [("aa", 0, 0), ("bb", 1, 1), ("ab", 0, 1), ("ba", 1, 0), ("all", None, None)],
    )
    def test_sentence_filter(
        self, viewer: Viewer, pairs: qkvault.Vault, name: str, left: int | None, right: int | None
    ) -> None:
        viewer.open()
        viewer.page.click(f'[aria-label="Sentence filter"] [data-value="{name}"]')
        viewer.settled()
        segments = pairs[0].segments
        for side, segment in (("left", left), ("right", right)):
            tokens = viewer.page.locator(f"#view-heads .tokens-{side} .token")
            shown = tokens.evaluate_all("(rows) => rows.map((row) => Number(row.dataset.token))")
            assert shown == [n for n in range(16) if segment in {None, segments[n]}]

    def test_lock_holds_and_shows_the_pair_under_the_pointer(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?heads=2")
        viewer.token("left", 3).click()
        viewer.settled("token=q3")
        viewer.token("right", 9).hover()
        viewer.page.wait_for_selector('#inspector[data-pair="3-9"]')
        assert f"{pairs[0].attention[1, 2][3, 9]:.4f}" in viewer.text("#live")
        viewer.page.keyboard.press("Escape")
        viewer.page.mouse.move(5, 5)
        viewer.page.wait_for_selector('#inspector[data-focus=""]')

    def test_tokens_by_keyboard(self, viewer: Viewer) -> None:
        viewer.open("?heads=2")
        viewer.page.locator("#view-heads .tokens-left").focus()
        viewer.page.keyboard.press("ArrowDown")
        viewer.page.wait_for_selector('#inspector[data-focus="left-0"]')
        viewer.page.keyboard.press("End")
        viewer.page.wait_for_selector('#inspector[data-focus="left-15"]')
        viewer.page.keyboard.press("Enter")
        viewer.settled("token=q15")


class TestModel:
    @pytest.mark.parametrize(("depth", "head", "query"), [(0, 0, 3), (1, 3, 7)])
    def test_thumbnails_are_the_maps(
        self, viewer: Viewer, pairs: qkvault.Vault, depth: int, head: int, query: int
    ) -> None:
        viewer.open("?view=model&draw=matrix&ex=1")
        geometry = viewer.page.locator(".grid-surface").get_attribute("data-geometry")
        left, top, cell, _high, gap = map(float, str(geometry).split())
        size = len(pairs[1].tokens)
        x, y = left + head * (cell + gap), top + depth * (cell + gap)
        light = viewer.page.evaluate(
            """([x, y, cell, query, size]) => {
              const canvas = document.querySelector(".grid-canvas");
              const density = canvas.width / canvas.clientWidth;
              const top = Math.floor((y + (query + 0.5) * cell / size) * density);
              const { data } = canvas.getContext("2d").getImageData(0, top, canvas.width, 1);
              return Array.from({ length: size }, (_, key) => {
                const at = 4 * Math.floor((x + (key + 0.5) * cell / size) * density);
                return data[at] + data[at + 1] + data[at + 2];
              });
            }""",
            [x, y, cell, query, size],
        )
        stored = pairs[1].attention[:, :][depth, head, query]
        assert int(np.argmin(light)) == int(stored.argmax())
        assert all(np.diff(np.array(light)[np.argsort(stored)]) <= 1)

    def test_click_enlarges_with_tokens(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?view=model")
        viewer.page.locator(".grid-surface").click(position={"x": 60, "y": 60})
        viewer.settled("enlarged=1")
        assert viewer.text(".enlarged-title") == "Layer 1, head 0"
        viewer.hover("left", 4)
        stored = pairs[0].attention[1, 0][4]
        assert viewer.weights() == {key: float(stored[key]) for key in range(16)}
        viewer.page.keyboard.press("Escape")
        viewer.settled()
        assert viewer.page.locator(".enlarged").is_hidden()

    def test_keys_move_enlarge_and_open(self, viewer: Viewer) -> None:
        viewer.open("?view=model")
        for key in ("j", "l", "l"):
            viewer.page.keyboard.press(key)
        viewer.settled("layer=4", "head=2")
        viewer.page.locator(".grid-surface").focus()
        viewer.page.keyboard.press("Enter")
        viewer.settled("enlarged=1")
        assert viewer.text(".enlarged-title") == "Layer 4, head 2"
        viewer.page.click('.enlarged >> text="Heads"')
        viewer.settled("layer=4", "heads=2")
        assert "view=" not in viewer.shown

    def test_lines_for_short_texts_matrix_for_long(self, viewer: Viewer) -> None:
        pressed = '[aria-label="Drawing"] [aria-pressed="true"]'
        viewer.open("?view=model")
        assert viewer.text(pressed) == "Lines"
        viewer.page.keyboard.press("m")
        viewer.settled("draw=matrix")
        viewer.open("?view=model&ex=2")
        assert viewer.text(pressed) == "Matrix"


class TestNeuron:
    def test_scores_and_softmax_are_the_vaults(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?view=neuron&layer=4&head=3&expanded=1&token=q5")
        example = pairs[0]
        query = example.query[4, 3][5].astype(np.float64)
        key = example.key[4, example.key_head(3)].astype(np.float64)
        scores = key @ query * 8**-0.5
        shown = viewer.weights("score")
        assert [shown[token] for token in range(16)] == pytest.approx(scores, abs=1e-5)
        stored = example.attention[4, 3][5]
        assert viewer.weights() == {token: float(stored[token]) for token in range(16)}
        assert np.exp(scores) / np.exp(scores).sum() == pytest.approx(stored, abs=1e-4)

    def test_plus_opens_the_columns_and_minus_closes_them(self, viewer: Viewer) -> None:
        viewer.open("?view=neuron")
        viewer.hover("left", 4)
        viewer.token("left", 4).locator(".expander").click()
        viewer.settled("expanded=1", "token=q4")
        titles = viewer.page.locator(".neuron-title").all_text_contents()
        assert titles == ["query", "key", "q × k", "q·k / √d", "softmax"]
        viewer.page.keyboard.press("l")
        viewer.settled("expanded=1", "head=1")
        viewer.token("left", 4).locator(".expander").click()
        viewer.settled("head=1")
        assert "expanded" not in viewer.shown
        assert viewer.page.locator(".neuron-title").count() == 0

    def test_numbers_of_the_dimension_under_the_pointer(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?view=neuron&head=1&expanded=1&token=q2")
        title = viewer.page.locator(".neuron-title", has_text="q × k").bounding_box()
        row = viewer.token("right", 7).bounding_box()
        x = title["x"] + title["width"] * (5 + 0.5) / 8
        viewer.page.mouse.move(x, row["y"] + row["height"] / 2)
        query, key = pairs[0].query[1, 1][2, 5], pairs[0].key[1, 0][7, 5]
        said = viewer.text("#view-neuron .tip").replace("−", "-")
        assert said.startswith("dimension 5")
        for number in (query, key, query * key):
            assert f"{number:.2f}" in said

    def test_grouped_query_heads_and_causal_masks_are_said(
        self, viewer: Viewer, folder: Path
    ) -> None:
        viewer.open("?store=causal&view=neuron&head=4&expanded=1&token=q5")
        assert "Query head 4 uses key head 1 of 2" in viewer.text(".neuron-note")
        assert sorted(viewer.weights()) == [0, 1, 2, 3, 4, 5]
        assert "8 later tokens are masked" in viewer.text("#inspector")
        with qkvault.open(folder / "causal") as vault:
            stored = vault[0].attention[0, 4][5]
        assert viewer.weights() == {token: float(stored[token]) for token in range(6)}
