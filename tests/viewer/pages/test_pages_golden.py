"""The drawing modules give the same bytes in Chromium as in node, where the pictures are held."""

from __future__ import annotations

import zlib
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Viewer

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[1] / "js"
IN_REPOSITORY = "../../../viewer/qkvault_viewer/static/js/"

HASHES = """async (address) => {
  const { makePictures } = await import(address);
  const hashes = {};
  for (const [name, { pixels }] of Object.entries(await makePictures())) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", pixels));
    hashes[name] = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  return hashes;
}"""


def golden_pixels(path: Path) -> bytes:
    """RGBA of a PNG without filters, as golden.test.mjs writes them."""
    png = path.read_bytes()
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    rows = zlib.decompress(png[41 : 41 + int.from_bytes(png[33:37])])
    line = 4 * width + 1
    assert len(rows) == height * line
    assert set(rows[::line]) == {0}
    return b"".join(rows[y * line + 1 : (y + 1) * line] for y in range(height))


def test_chromium_draws_the_golden_pictures(viewer: Viewer) -> None:
    source = (FOLDER / "pictures.mjs").read_text(encoding="utf-8").replace(IN_REPOSITORY, "./")
    address = f"{viewer.site}static/js/pictures.mjs"

    def answer(route: Any) -> None:
        route.fulfill(body=source, content_type="text/javascript")

    viewer.page.route(address, answer)
    viewer.open()
    hashes = viewer.page.evaluate(HASHES, address)
    golden = {
        path.stem: sha256(golden_pixels(path)).hexdigest()
        for path in (FOLDER / "golden").glob("*.png")
    }
    assert len(golden) >= 6
    assert hashes == golden
