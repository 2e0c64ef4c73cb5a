"""Taking a view away: pictures, numbers, a page that works offline, a link."""

from __future__ import annotations

import csv
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

import qkvault

if TYPE_CHECKING:
    from conftest import Viewer

pytestmark = pytest.mark.browser


def take(viewer: Viewer, kind: str) -> Path:
    viewer.page.keyboard.press("e")
    with viewer.page.expect_download() as download:
        viewer.page.click(f'.takeaway [data-kind="{kind}"]')
    viewer.page.wait_for_selector('.takeaway-status:has-text("Saved")')
    viewer.page.keyboard.press("Escape")
    return Path(download.value.path())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


VIEWS = (
    "?heads=1",
    "?heads=1.2&draw=matrix",
    "?view=model",
    "?view=model&enlarged=1",
    "?view=neuron",
    "?view=neuron&expanded=1&token=q3",
    "?view=neuron&expanded=1&token=q3&columns=value",
    "?view=compare&heads=1",
    "?view=compare&vs=1.tuned~0&heads=1.3",
)


@pytest.mark.parametrize("query", VIEWS)
def test_every_view_as_svg_and_png(viewer: Viewer, query: str) -> None:
    viewer.open(query)
    svg = take(viewer, "svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert "pairs" in "".join(root.itertext())
    header = take(viewer, "png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", header[16:24])
    assert (width, height) == (2 * int(root.get("width", 0)), 2 * int(root.get("height", 0)))


def test_numbers_are_the_vaults(viewer: Viewer, pairs: qkvault.Vault) -> None:
    viewer.open("?layer=4&heads=0.2&special=hide")
    rows = table(take(viewer, "csv"))
    example = pairs[0]
    kept = [n for n in range(16) if not example.special[n]]
    assert len(rows) == 2 * len(kept) ** 2
    for row in rows:
        head, query, key = int(row["head"]), int(row["query"]), int(row["key"])
        assert float(row["weight"]) == float(example.attention[4, head][query, key])
        assert row["key_token"] == example.tokens[key]
    viewer.open("?view=neuron&head=3&expanded=1&columns=value&token=q5")
    viewer.page.wait_for_selector(".neuron-sum[data-difference]")
    rows = table(take(viewer, "csv"))
    scores = example.stack("encoder").scores(1, 3)[5]
    assert [float(row["score"]) for row in rows] == pytest.approx(scores, abs=1e-5)


def test_a_page_of_its_own_works_offline(
    viewer: Viewer, pairs: qkvault.Vault, tmp_path: Path
) -> None:
    viewer.open("?heads=2")
    path = tmp_path / "view.html"
    path.write_bytes(take(viewer, "html").read_bytes())
    asked: list[str] = []
    context = viewer.page.context.browser.new_context(offline=True)
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.locator('svg [data-side="q"][data-token="3"]').hover()
    listed: Any = page.locator("#chosen tr")
    stored = pairs[0].attention[1, 2][3]
    assert f"→ {pairs[0].tokens[int(stored.argmax())]}" in str(listed.first.text_content())
    assert float(str(listed.first.locator("td").last.text_content())) == pytest.approx(
        float(stored.max()), abs=5e-3
    )
    assert asked == [path.as_uri()]
    context.close()


def test_a_comparison_is_taken_with_its_differences(
    viewer: Viewer, pairs: qkvault.Vault, folder: Path, tmp_path: Path
) -> None:
    viewer.open("?ex=1&view=compare&vs=tuned~1&layer=4&heads=0.2")
    rows = table(take(viewer, "csv"))
    with qkvault.open(folder / "tuned") as other:
        before, after = (vault[1].attention[4, [0, 2]].mean(0) for vault in (pairs, other))
    assert len(rows) == 12 * 12
    for row in rows:
        place = int(row["query_a"]), int(row["key_a"])
        assert float(row["weight_a"]) == pytest.approx(float(before[place]), abs=1e-6)
        assert float(row["weight_b"]) == pytest.approx(float(after[place]), abs=1e-6)
        assert float(row["change"]) == pytest.approx(float((after - before)[place]), abs=1e-6)
    path = tmp_path / "compared.html"
    path.write_bytes(take(viewer, "html").read_bytes())
    page = viewer.page.context.new_page()
    page.goto(path.as_uri())
    page.locator('svg [data-part="2"] [data-side="q"][data-token="5"]').hover()
    top = page.locator("#chosen tr").first.locator("td").last.text_content()
    change = (after - before)[5]
    assert float(str(top)) == pytest.approx(float(change[np.abs(change).argmax()]), abs=1e-4)
    page.close()


def test_a_picture_of_columns_comes_with_its_numbers(viewer: Viewer, tmp_path: Path) -> None:
    viewer.open("?view=neuron&head=3&expanded=1&token=q5")
    viewer.page.wait_for_selector(".neuron-sum[data-difference]")
    path = tmp_path / "neuron.html"
    path.write_bytes(take(viewer, "html").read_bytes())
    page = viewer.page.context.new_page()
    page.goto(path.as_uri())
    assert page.locator("table:last-of-type tr").count() == 17
    page.close()


def test_hostile_tokens_stay_text(viewer: Viewer, tmp_path: Path) -> None:
    viewer.open("?store=hostile")
    html = take(viewer, "html").read_text(encoding="utf-8")
    assert html.count("<script") == 2
    assert "<img" not in html
    path = tmp_path / "hostile.html"
    path.write_text(html, encoding="utf-8")
    page = viewer.page.context.new_page()
    fired: list[str] = []
    page.on("dialog", lambda dialog: (fired.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    page.locator("svg [data-token]").first.hover()
    assert page.locator("#chosen tr").count() > 0
    assert fired == []
    page.close()
    for row in table(take(viewer, "csv")):
        assert not row["key_token"].startswith(("=", "+", "-", "@"))


def test_the_link_is_the_view(viewer: Viewer) -> None:
    viewer.open("?heads=2&mass=40")
    viewer.page.click("#takeaway")
    link = viewer.page.locator(".takeaway input").input_value()
    assert link == viewer.page.url
    viewer.page.click('.takeaway [data-kind="link"]')
    viewer.page.wait_for_selector('.takeaway-status:has-text("op")')
    viewer.page.mouse.click(600, 600)
    assert viewer.page.locator(".takeaway").is_hidden()
