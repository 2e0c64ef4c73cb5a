"""The corpus list in a browser: filters, order, what is found, all of it in the address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Viewer

    import qkvault

pytestmark = pytest.mark.browser

INDICES = "(rows) => rows.map((row) => Number(row.dataset.index))"


def listed(viewer: Viewer) -> list[int]:
    found: list[int] = viewer.page.locator(".row").evaluate_all(INDICES)
    return found


def test_filters_are_made_from_the_vaults_columns(viewer: Viewer, pairs: qkvault.Vault) -> None:
    viewer.open()
    viewer.page.click(".filter-open")
    legends = viewer.page.locator(".filter-panel legend").all_text_contents()
    assert legends == ["Tokens", "Label", "Prediction", "Verdict", "quality", "source"]
    viewer.page.click('.filter-panel button:has-text("wrong")')
    viewer.settled("correct")
    viewer.page.click('.filter-panel button:has-text("found")')
    viewer.settled("source")
    viewer.page.get_by_label("Tokens, at most").fill("20")
    viewer.page.keyboard.press("Enter")
    viewer.settled("length")
    expected = [
        e.index
        for e in pairs
        if e.label != e.prediction and e.columns["source"] == "found" and e.length <= 20
    ]
    assert 3 < len(expected) < 50
    assert listed(viewer) == expected
    assert viewer.text(".corpus-count") == f"{len(expected)} of 120 examples"
    viewer.page.reload()
    viewer.settled()
    assert listed(viewer) == expected
    chips = viewer.page.locator(".filter-chip bdi").all_text_contents()
    assert chips == ["Verdict: wrong", "Tokens ≤ 20", "source: found"]
    viewer.page.click('.filter-chip:has-text("source")')
    viewer.settled()
    viewer.page.wait_for_selector(".filter-chip:nth-child(2)")
    assert len(listed(viewer)) > len(expected)
    viewer.page.go_back()
    viewer.page.wait_for_selector('.filter-chip:has-text("source")')
    viewer.page.click("text=Clear all")
    viewer.page.wait_for_selector(".filter-chip", state="detached")
    viewer.page.wait_for_selector('.corpus-count:text-is("120 examples")')


def test_sorting_by_a_head_metric(viewer: Viewer, pairs: qkvault.Vault) -> None:
    viewer.open("?layer=4&head=3&heads=3")
    viewer.page.get_by_label("Sort by").select_option(label="A→B")
    viewer.settled("sort=a_to_b%5B4%2C3%5D", "order=desc")
    values = {e.index: float(e.metrics["a_to_b"][1, 3]) for e in pairs}
    order = sorted(values, key=lambda index: -values[index])
    assert listed(viewer) == order[:50]
    shown = viewer.page.locator(".row-sorted").all_text_contents()
    assert [float(text) for text in shown] == pytest.approx(
        [values[index] for index in order[:50]], abs=6e-4
    )
    viewer.page.get_by_label("Head of the head metric").select_option("0")
    viewer.settled("a_to_b%5B4%2C0%5D")
    values = {e.index: float(e.metrics["a_to_b"][1, 0]) for e in pairs}
    assert listed(viewer)[0] == max(values, key=lambda index: values[index])
    viewer.page.click(".sort-turn")
    viewer.page.wait_for_selector("html[data-ready]:not([data-shown*=order])", state="attached")
    viewer.settled()
    assert listed(viewer)[0] == min(values, key=lambda index: values[index])


def test_keys_step_through_the_filtered_sorted_list(viewer: Viewer, pairs: qkvault.Vault) -> None:
    where = "%7B%22source%22%3A%5B%22found%22%5D%7D"
    found = [e for e in pairs if e.columns["source"] == "found"]
    order = [e.index for e in sorted(found, key=lambda e: (-e.length, e.index))]
    viewer.open(f"?ex={order[3]}&where={where}&sort=length&order=desc")
    assert listed(viewer) == order
    for key, place in ((".", 4), (".", 5), (",", 4), (",", 3), (",", 2)):
        viewer.page.keyboard.press(key)
        viewer.settled(f"ex={order[place]}&" if order[place] else "where")
    viewer.open(f"?ex={order[0]}&where={where}&sort=length&order=desc")
    viewer.page.keyboard.press(",")
    viewer.page.keyboard.press(".")
    viewer.settled(f"ex={order[1]}")


def test_nothing_found_has_a_way_out(viewer: Viewer) -> None:
    viewer.open("?q=zebra&where=%7B%22label%22%3A%5B1%5D%7D")
    assert "passes the filters" in viewer.text(".corpus-empty")
    viewer.page.click("text=Keep only the filters")
    viewer.page.wait_for_selector(".row")
    assert viewer.text(".corpus-count") == "60 of 120 examples"


def test_a_column_that_is_not_there_is_said(viewer: Viewer) -> None:
    viewer.open("?where=%7B%22nothing%22%3A%5B1%5D%7D")
    assert "no column 'nothing'" in viewer.text(".corpus-list")
    viewer.troubles.clear()  # Chromium itself writes the 400 to the console
    viewer.page.click("text=Show all, in dataset order")
    viewer.page.wait_for_selector(".row")


def test_hostile_columns_and_values_are_text(viewer: Viewer) -> None:
    viewer.open("?store=hostile")
    viewer.page.click(".filter-open")
    panel = viewer.text(".filter-panel")
    assert "<img src=x onerror=alert(1)>" in panel
    assert viewer.page.locator("img, svg, script:not([src])").count() == 0
