"""Encoder-decoders in a browser: the stack is chosen as a filter is, in every view."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Viewer

pytestmark = pytest.mark.browser

STACKS = ("encoder", "decoder", "cross")


@pytest.fixture(scope="module")
def translated(folder: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(folder / "translated") as vault:
        yield vault


def listed(viewer: Viewer, side: str) -> list[str]:
    tokens = viewer.page.locator(f".view:visible .tokens-{side} .token-text").all_text_contents()
    return [str(token) for token in tokens]


@pytest.mark.parametrize("query", ["", "&view=neuron", "&view=neuron&expanded=1", "&view=compare"])
def test_either_side_has_the_stacks_tokens(
    viewer: Viewer, translated: qkvault.Vault, query: str
) -> None:
    viewer.open(f"?store=translated&ex=2{query}")
    for stack in STACKS:
        viewer.page.click(f'[aria-label="Stack"] [data-value="{stack}"]')
        viewer.settled(f"stack={stack}")
        view = translated[2].stack(stack)
        assert listed(viewer, "left") == list(view.query_tokens)
        assert listed(viewer, "right") == list(view.key_tokens)


def test_numbers_of_cross_attention_are_the_vaults(
    viewer: Viewer, translated: qkvault.Vault
) -> None:
    viewer.open("?store=translated&ex=2&stack=cross&layer=1&heads=1")
    stored = translated[2].stack("cross").attention[1, 1]  # 20 queries, 9 keys
    viewer.hover("left", 17)
    shown = viewer.weights()
    assert [shown[key] for key in range(9)] == pytest.approx(stored[17], abs=1e-7)
    viewer.hover("right", 8)
    shown = viewer.weights()
    assert [shown[query] for query in range(20)] == pytest.approx(stored[:, 8], abs=1e-7)
    viewer.page.keyboard.press("w")
    viewer.settled("words=1")
    viewer.hover("left", 17)
    assert len(viewer.weights()) == 9


def test_a_map_of_two_lengths_is_drawn_cell_by_cell(
    viewer: Viewer, translated: qkvault.Vault
) -> None:
    viewer.open("?store=translated&ex=2&stack=cross&layer=1&heads=1&draw=matrix")
    box = viewer.page.locator("#view-heads .panels").evaluate(
        "(e) => JSON.parse(e.dataset.boxes)[0]"
    )
    assert box["width"] / box["height"] == pytest.approx(9 / 20, rel=0.05)
    at = {"x": box["x"] + box["width"] * 3.5 / 9, "y": box["y"] + box["height"] * 18.5 / 20}
    viewer.page.locator("#view-heads .panels").hover(position=at)
    viewer.page.wait_for_selector("#view-heads .panels .tip:visible")
    said = viewer.page.locator("#view-heads .panels .tip").get_attribute("data-weight")
    stored = translated[2].stack("cross").attention[1, 1][18, 3]
    assert float(str(said)) == pytest.approx(float(stored), abs=1e-7)


def test_the_model_view_shows_the_layers_of_the_stack(viewer: Viewer) -> None:
    viewer.open("?store=translated&ex=4&view=model")
    assert viewer.ink("#view-model .grid-canvas") > 20
    viewer.page.click('[aria-label="Stack"] [data-value="cross"]')
    viewer.settled("stack=cross")
    viewer.page.locator("#view-model .grid-surface").focus()
    viewer.page.keyboard.press("ArrowDown")
    viewer.page.keyboard.press("Enter")
    viewer.settled("enlarged=1", "layer=1")
    assert "Layer 1, head 0" in viewer.text(".enlarged-title")
    assert listed(viewer, "left")[:2] == ["</s>", "Wort4"]
    viewer.hover("left", 2)
    assert len(viewer.weights()) == 16


def test_the_neuron_columns_add_up_across_stacks(viewer: Viewer, translated: qkvault.Vault) -> None:
    for stack, note in (("decoder", "Causal"), ("cross", "key head 0 of 1")):
        viewer.open(f"?store=translated&ex=2&view=neuron&stack={stack}&head=1&expanded=1&token=q6")
        viewer.page.wait_for_selector(".neuron-sum[data-difference]")
        found = viewer.page.locator(".neuron-sum").get_attribute("data-difference")
        assert float(str(found)) < 1e-3
        assert note in viewer.text(".neuron-note")
        scores = translated[2].stack(stack).scores(0, 1)[6]
        shown = viewer.weights("score")
        seen = np.flatnonzero(np.isfinite(scores))
        assert sorted(shown) == list(seen)
        assert [shown[n] for n in seen] == pytest.approx(scores[seen], abs=1e-4)


def test_targets_are_compared_and_aligned(viewer: Viewer, translated: qkvault.Vault) -> None:
    viewer.open("?store=translated&ex=0&view=compare&vs=3&stack=cross&heads=1&layer=1")
    assert viewer.page.locator(".difference canvas[role=img]").count() == 1
    viewer.page.keyboard.press("e")
    with viewer.page.expect_download() as download:
        viewer.page.click('.takeaway [data-kind="csv"]')
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    a, b = (translated[index].stack("cross") for index in (0, 3))
    both = [row for row in rows if row["query_a"] and row["query_b"] and row["change"]]
    assert both
    for row in both:
        before = a.attention[1, 1][int(row["query_a"]), int(row["key_a"])]
        after = b.attention[1, 1][int(row["query_b"]), int(row["key_b"])]
        assert float(row["change"]) == pytest.approx(float(after - before), abs=1e-6)
        assert row["query_token_b"] == b.query_tokens[int(row["query_b"])]
        assert row["key_token_a"] == a.key_tokens[int(row["key_a"])]


def test_a_vault_of_one_stack_offers_no_choice(viewer: Viewer) -> None:
    viewer.open("?store=pairs")
    assert viewer.page.locator('[aria-label="Stack"]').is_hidden()
    viewer.open("?store=translated")
    assert "Source" in viewer.text("#example")
    assert "Wort" in viewer.text("#example")
    assert "7 → 5 tokens" in viewer.text("#example")
    viewer.page.keyboard.press("x")
    viewer.settled("stack=decoder")


@pytest.mark.parametrize("view", ["heads", "model", "neuron"])
def test_learnt_queries_are_a_target_without_a_text(viewer: Viewer, view: str) -> None:
    viewer.open(f"?store=latents&view={view}&ex=0")
    offered = viewer.page.locator('[aria-label="Stack"] [data-value]:visible')
    assert offered.all_text_contents() == ["Decoder", "Cross"]
    assert viewer.page.locator(".example-text").all_text_contents() == ["a caption"]
    if view != "model":
        viewer.page.click('[aria-label="Stack"] [data-value="cross"]')
        viewer.settled("stack=cross")
        assert listed(viewer, "left") == [f"latent {number}" for number in range(5)]
        assert len(listed(viewer, "right")) == 9
    viewer.open(f"?store=latents&view={view}&ex=1")
    assert viewer.page.locator(".example-text").count() == 0
