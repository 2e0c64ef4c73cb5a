"""The opened neuron view: values and what they bring, dimensions, terms of the score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import qkvault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Viewer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def terms(folder: Path) -> Iterator[qkvault.Example]:
    with qkvault.open(folder / "terms") as vault:
        yield vault[0]


def point(viewer: Viewer, column: str, token: int, share: float = 0.5) -> str:
    """What is said of a column at a token's row; ``share`` of the column's width."""
    title = viewer.page.locator(f'.neuron-title[data-column="{column}"]').bounding_box()
    row = viewer.token("right", token).bounding_box()
    viewer.page.mouse.move(title["x"] + title["width"] * share, row["y"] + row["height"] / 2)
    viewer.page.wait_for_selector("#view-neuron .tip:visible")
    return viewer.text("#view-neuron .tip").replace("−", "-")


def difference(viewer: Viewer) -> float:
    viewer.page.wait_for_selector(".neuron-sum[data-difference]")
    return float(str(viewer.page.locator(".neuron-sum").get_attribute("data-difference")))


class TestValues:
    def test_contributions_are_softmax_times_value(
        self, viewer: Viewer, pairs: qkvault.Vault
    ) -> None:
        viewer.open("?view=neuron&head=3&expanded=1&token=q5")
        viewer.page.click('[aria-label="Columns"] [data-value="value"]')
        viewer.settled("columns=value")
        titles = viewer.page.locator(".neuron-title").all_text_contents()
        assert [titles[0], *titles[2:]] == ["output Σ", "value", "softmax × v", "‖softmax × v‖"]
        viewer.page.wait_for_selector(".neuron-sum[data-difference]")
        example = pairs[0]
        weights = example.attention[1, 3][5].astype(np.float64)
        value = example.value[1, example.key_head(3)].astype(np.float64)
        parts = weights[:, None] * value
        norms = np.linalg.norm(parts, axis=1)
        said = point(viewer, "norm", 7)
        assert f"{norms[7]:.4f}" in said
        assert f"{100 * norms[7] / norms.sum():.1f} %" in said
        said = point(viewer, "part", 7, (2 + 0.5) / 8)
        assert said.startswith("dimension 2")
        number = parts[7, 2]
        assert said.endswith(f"{number:.4f}" if abs(number) < 0.1 else f"{number:.2f}")
        said = point(viewer, "output", 5, (6 + 0.5) / 8)
        assert said.endswith(f"{parts.sum(0)[6]:.2f}")
        assert viewer.ink("#view-neuron .pane-overlay") > 5

    def test_values_that_are_not_kept_are_said_to_be_missing(self, viewer: Viewer) -> None:
        viewer.open("?store=blind&view=neuron&expanded=1&columns=value&token=q3")
        assert "No values are kept" in viewer.text(".neuron-note")
        assert viewer.page.locator('.neuron-title[data-column="value"]').count() == 0


class TestDimensions:
    def test_by_row_and_by_pair(self, viewer: Viewer, pairs: qkvault.Vault) -> None:
        viewer.open("?view=neuron&head=1&expanded=1&token=q2")
        example = pairs[0]
        products = example.query[1, 1][2].astype(np.float32) * example.key[1, 0].astype(np.float32)

        def shown() -> list[int]:
            order = viewer.page.locator("#view-neuron").get_attribute("data-dimensions")
            return [int(d) for d in str(order).split()]

        assert shown() == list(range(8))
        viewer.page.get_by_label("Dimensions").select_option("sorted")
        viewer.settled("dims=sorted")
        viewer.page.wait_for_selector(".neuron-sum[data-difference]")
        assert shown() == list(np.argsort(-np.abs(products).sum(0), kind="stable"))
        assert point(viewer, "product", 7, 0.5 / 8).startswith(f"dimension {shown()[0]} ")
        viewer.token("right", 9).hover()
        expected = list(np.argsort(-np.abs(products[9]), kind="stable"))
        viewer.page.wait_for_selector(
            f'#view-neuron[data-dimensions="{" ".join(map(str, expected))}"]'
        )


class TestTerms:
    @pytest.mark.parametrize(
        ("layer", "said"),
        [
            (0, ["Sliding window: a token sees itself and the 3 tokens before it", "Softcap"]),
            (1, ["Causal", "Linear bias (ALiBi): 0.250"]),
            (2, ["Causal", "sink"]),
            (3, ["Causal", "learnt bias by distance"]),
        ],
    )
    def test_the_columns_add_up_to_the_softmax(
        self, viewer: Viewer, terms: qkvault.Example, layer: int, said: list[str]
    ) -> None:
        viewer.open(f"?store=terms&view=neuron&layer={layer}&head=1&expanded=1&token=q9")
        note = viewer.text(".neuron-note")
        assert all(part in note for part in said)
        assert "derives attention from query and key" in note
        assert difference(viewer) < 1e-5
        scores = terms.stack("decoder").scores(layer, 1)[9]
        seen = list(np.flatnonzero(np.isfinite(scores)))
        shown = viewer.weights("score")
        assert sorted(shown) == seen
        assert [shown[n] for n in seen] == pytest.approx(scores[seen], abs=1e-5)
        stored = terms.attention[layer, 1][9]
        weights = viewer.weights()
        assert [weights[n] for n in seen] == pytest.approx(stored[seen], abs=1e-7)
        sink = float(str(viewer.page.locator(".neuron-sum").get_attribute("data-sink")))
        assert sink == pytest.approx(1 - stored.sum() if layer == 2 else 0, abs=1e-5)

    @pytest.mark.parametrize(("head", "share"), [(1, "0.75"), (0, "0.00")])
    def test_what_takes_the_rest_of_a_row_is_said(
        self, viewer: Viewer, head: int, share: str
    ) -> None:
        """In a vault whose rows leave weight to summaries, in head 0 all of it."""
        viewer.open(f"?store=beside&view=neuron&head={head}&expanded=1&token=q2")
        said = viewer.text(".neuron-foot")
        assert f"sums to {share}0, the rest goes to summaries of blocks" in said
        viewer.open(f"?store=beside&view=heads&heads={head}&expanded=1&token=q2")
        assert "goes to summaries of blocks." in viewer.text("#inspector")

    @pytest.mark.parametrize(("layer", "width", "of_values"), [(1, 4, 3), (3, 2, 3), (4, 4, 1)])
    def test_a_layer_shows_the_dimensions_that_it_has(
        self, viewer: Viewer, folder: Path, layer: int, width: int, of_values: int
    ) -> None:
        """In a vault whose layers differ in width."""
        with qkvault.open(folder / "widths") as vault:
            one = vault[0]
            kept, computed = one.attention[layer, 3][5], one.derive(layer, 3)[5]
        viewer.open(f"?store=widths&view=neuron&layer={layer}&head=3&expanded=1&token=q5")
        assert difference(viewer) == pytest.approx(np.abs(kept - computed).max(), abs=2e-6)
        columns = viewer.page.locator("#view-neuron")
        assert len(str(columns.get_attribute("data-dimensions")).split()) == width
        viewer.page.click('[aria-label="Columns"] [data-value="value"]')
        viewer.settled("columns=value")
        assert len(str(columns.get_attribute("data-dimensions")).split()) == of_values

    def test_the_parts_of_a_score_are_told(self, viewer: Viewer, terms: qkvault.Example) -> None:
        viewer.open("?store=terms&view=neuron&layer=1&head=1&expanded=1&token=q9")
        viewer.page.wait_for_selector(".neuron-sum[data-difference]")
        score = terms.stack("decoder").scores(1, 1)[9, 4]
        assert point(viewer, "bias", 4).endswith("a distance of 5 back: -1.2500")
        assert point(viewer, "total", 4).endswith(f"bias -1.25 = {score:.2f}")

    def test_a_softcap_has_a_column(self, viewer: Viewer, terms: qkvault.Example) -> None:
        viewer.open("?store=terms&view=neuron&layer=0&head=1&expanded=1&token=q9")
        viewer.page.wait_for_selector(".neuron-sum[data-difference]")
        assert viewer.page.locator('.neuron-title[data-column="bias"]').count() == 0
        score = terms.stack("decoder").scores(0, 1)[9, 8]
        said = point(viewer, "capped", 8)
        assert "2 · tanh(" in said
        assert said.endswith(f"= {score:.4f}")

    def test_a_sink_has_a_row_of_its_own(self, viewer: Viewer) -> None:
        viewer.open("?store=terms&view=neuron&layer=2&head=3&expanded=1&token=q9")
        viewer.page.wait_for_selector(".neuron-sum[data-difference]")
        assert viewer.ink(".neuron-sink canvas") > 1
        assert "the sink (score 3.00) takes" in viewer.text(".neuron-sum")
        viewer.open("?store=terms&view=neuron&layer=1&head=3&expanded=1&token=q9")
        assert viewer.page.locator(".neuron-sink").is_hidden()

    def test_a_term_that_is_not_kept_is_noticed(self, viewer: Viewer, site: str) -> None:
        def other(route: Any) -> None:
            answer = route.fetch()
            manifest = answer.json()
            manifest["stacks"][0]["score"]["scaling"] = [1.0] * 2
            manifest["stacks"][0]["score"]["forms"][0]["unknown"] = None
            route.fulfill(response=answer, json=manifest)

        viewer.page.route("**/api/v1/s/pairs", other)
        viewer.open("?view=neuron&head=1&expanded=1&token=q2")
        assert difference(viewer) > 0.01
        assert "a term that this vault does not keep" in viewer.text(".neuron-sum")
