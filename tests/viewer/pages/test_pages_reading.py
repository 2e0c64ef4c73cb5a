"""How the head view reads its maps: the mass drawn, special tokens, words, matrices, long texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Viewer
    from numpy.typing import NDArray

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pieces(folder: Path) -> Iterator[qkvault.Example]:
    with qkvault.open(folder / "pieces") as vault:
        yield vault[0]


def by_word(weights: NDArray[np.float32], example: qkvault.Example) -> NDArray[np.float64]:
    """``(query, key)`` read by words; what a word has stands at its first token."""
    groups: list[list[int]] = []
    for token, (word, segment) in enumerate(zip(example.words, example.segments, strict=True)):
        same = token > 0 and word >= 0 and word == example.words[token - 1]
        if same and segment == example.segments[token - 1]:
            groups[-1].append(token)
        else:
            groups.append([token])
    read = np.full(weights.shape, np.nan)
    for query in groups:
        for key in groups:
            read[query[0], key[0]] = weights[np.ix_(query, key)].sum(1).mean()
    return read


class TestMass:
    def test_the_strongest_are_drawn_and_their_mass_is_printed(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?heads=2")
        whole = viewer.ink("#view-heads .pane-back canvas")
        assert "all of the mass" in viewer.text("#drawn")
        viewer.page.locator("#mass").fill("50")
        viewer.settled("mass=50")
        stored = np.sort(pairs[0].attention[1, 2].ravel())[::-1]
        note = viewer.page.locator("#drawn")
        mass, edges = (float(str(note.get_attribute(f"data-{of}"))) for of in ("mass", "edges"))
        needed = int(np.searchsorted(np.cumsum(stored), 0.5 * stored.sum())) + 1
        assert 0.5 <= mass < 0.56
        assert needed * 0.9 <= edges <= needed * 1.15  # 8-bit codes draw equals together
        assert mass == pytest.approx(stored[: int(edges)].sum() / stored.sum(), abs=0.01)
        assert f"in {int(edges)} of" in viewer.text("#drawn")
        assert viewer.ink("#view-heads .pane-back canvas") < whole

    def test_a_link_keeps_it(self, viewer: Viewer) -> None:
        viewer.open("?heads=2&mass=30&special=hide")
        assert viewer.page.locator("#mass").input_value() == "30"
        assert "Special tokens are hidden" in viewer.text("#drawn")


class TestSpecial:
    @pytest.mark.parametrize("renormalised", [False, True])
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_hidden(
        self, viewer: Viewer, pairs: qkvault.Vault, side: str, renormalised: bool
    ) -> None:
        example = pairs[0]
        viewer.open("?heads=1.3")
        viewer.page.get_by_label("Special tokens").select_option(
            "renormalise" if renormalised else "hide"
        )
        viewer.settled("special=")
        viewer.hover(side, 3)
        stored = example.attention[1, [1, 3]].astype(np.float64)
        kept = ~example.special
        if renormalised:
            stored /= stored[:, :, kept].sum(-1, keepdims=True)
            assert "not the model's own numbers" in viewer.text("#drawn")
            assert "renormalised" in viewer.text("#inspector")
        expected = (stored[:, 3] if side == "left" else stored[:, :, 3]).mean(0)
        shown = viewer.weights()
        assert sorted(shown) == list(np.flatnonzero(kept))
        assert [shown[n] for n in sorted(shown)] == pytest.approx(expected[kept], abs=1e-6)
        if side == "left":
            assert (abs(sum(shown.values()) - 1) < 1e-5) == renormalised


class TestWords:
    @pytest.mark.parametrize("side", ["left", "right"])
    def test_sums_over_keys_and_means_over_queries(
        self, viewer: Viewer, pieces: qkvault.Example, side: str
    ) -> None:
        viewer.open("?store=pieces&heads=1")
        viewer.page.click('[aria-label="Units"] [data-value="1"]')
        viewer.settled("words=1")
        rows = viewer.page.locator("#view-heads .tokens-left .token")
        assert rows.all_text_contents() == [
            *("[CLS]", "unbelievable", "cats", "nap", "[SEP]"),
            *("we", "naps", "tooo", "[SEP]"),
        ]
        assert "summed" in viewer.text("#drawn")
        assert "averaged" in viewer.text("#drawn")
        viewer.hover(side, 1)
        read = by_word(pieces.attention[0, 1], pieces)
        expected = read[1] if side == "left" else read[:, 1]
        words = np.flatnonzero(~np.isnan(expected))
        shown = viewer.weights()
        assert sorted(shown) == list(words)
        assert [shown[n] for n in sorted(shown)] == pytest.approx(expected[words], abs=1e-6)

    def test_a_token_within_a_word_is_kept_as_its_word(self, viewer: Viewer) -> None:
        viewer.open("?store=pieces&heads=1&words=1&token=q2")
        viewer.page.wait_for_selector('#inspector[data-focus="left-1"]')
        viewer.page.keyboard.press("3")
        viewer.settled("view=neuron")
        assert viewer.page.locator("#view-neuron .tokens-left .token").count() == 14


class TestMatrix:
    def test_cells_have_the_numbers_of_the_vault(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?draw=matrix&heads=0.2")
        panels = viewer.page.locator("#view-heads .panels")
        box = panels.bounding_box()
        place = viewer.page.evaluate(
            "() => JSON.parse(document.querySelector('.panels').dataset.boxes)"
        )[1]
        assert box is not None
        row, column = 5, 11
        x = box["x"] + place["x"] + (column + 0.5) * place["width"] / 16
        y = box["y"] + place["y"] + (row + 0.5) * place["height"] / 16
        viewer.page.mouse.move(x, y)
        viewer.page.wait_for_selector(".panels .tip[data-weight]:visible")
        stored = pairs[0].attention[1, 2][row, column]
        tip = viewer.page.locator(".panels .tip")
        assert float(str(tip.get_attribute("data-weight"))) == float(stored)
        viewer.page.wait_for_selector(f'#inspector[data-focus="left-{row}"]')
        viewer.page.mouse.click(x, y)
        viewer.settled(f"token=q{row}")
        viewer.page.mouse.dblclick(x, y)
        viewer.settled("heads=2")

    def test_by_keyboard(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?heads=1")
        viewer.page.keyboard.press("m")
        viewer.settled("draw=matrix")
        viewer.page.locator(".panels").focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
            viewer.page.keyboard.press(key)
        stored = pairs[0].attention[1, 1][1, 1]
        viewer.page.wait_for_selector(f'.panels .tip[data-weight="{float(stored)!r}"]')

    def test_opacity_of_the_cells_follows_the_weights(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?draw=matrix&heads=3")
        values = viewer.page.evaluate(
            """() => {
              const canvas = document.querySelector(".panels canvas");
              const [box] = JSON.parse(document.querySelector(".panels").dataset.boxes);
              const density = canvas.width / canvas.clientWidth;
              const { data } = canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height);
              const at = (row, column) => data[1 + 4 * (
                canvas.width * Math.floor((box.y + (row + 0.5) * box.height / 16) * density)
                + Math.floor((box.x + (column + 0.5) * box.width / 16) * density))];
              return Array.from({ length: 256 }, (_, n) => at(Math.floor(n / 16), n % 16));
            }"""
        )
        stored = pairs[0].attention[1, 3].ravel()
        assert np.corrcoef(np.sqrt(stored), values)[0, 1] ** 2 > 0.97


class TestLong:
    def test_the_minimap_shows_and_moves_the_window(self, viewer: Viewer) -> None:
        viewer.open("?store=long&heads=0")
        assert viewer.ink("#view-heads .minimap canvas") > 3
        assert viewer.page.locator("#view-heads .token").count() < 160
        box = viewer.page.locator("#view-heads .minimap").bounding_box()
        assert box is not None
        viewer.page.mouse.click(box["x"] + 20, box["y"] + box["height"] * 0.9)
        viewer.page.wait_for_selector('#view-heads .tokens-left [data-token="290"]')
        viewer.open("?ex=0")
        assert viewer.page.locator("#view-heads .minimap").is_hidden()

    def test_many_lines_are_drawn_in_a_worker(self, viewer: Viewer) -> None:
        viewer.open("?heads=0")
        assert viewer.page.workers == []
        viewer.open("?store=long")
        assert [worker.url for worker in viewer.page.workers] == [
            f"{viewer.site}static/js/lineworker.js"
        ]
        assert viewer.ink("#view-heads .pane-back canvas") > 1

    def test_a_worker_draws_the_same_pixels_and_the_latest_wins(self, viewer: Viewer) -> None:
        viewer.open()
        same, overtaken = viewer.page.evaluate(
            """async () => {
              const { BandPainter } = await import("/static/js/bandpainter.js");
              const { drawBand } = await import("/static/js/bands.js");
              const stride = 600;
              const codes = Uint8Array.from({ length: stride ** 2 }, (_, i) => (i * 7919) % 97);
              const rows = Array.from({ length: stride }, (_, n) => n);
              const map = { codes, offset: 0, stride, colour: [0, 90, 181] };
              const drawing = { maps: [map], rows, columns: rows };
              const size = { width: 80, height: 200 };
              const band = { ...size, start: 5, rowHeight: 3, thickness: 1, gain: 1 };
              const painter = new BandPainter();
              await painter.take(drawing, 1);
              const away = await painter.draw(band, 1);
              const here = await drawBand(drawing, band, { field: null }, () => false);
              const stale = painter.draw(band, 1);
              await painter.take(drawing, 2);
              return [painter.away && here.every((value, i) => value === away[i]), await stale];
            }"""
        )
        assert same is True
        assert overtaken is None
