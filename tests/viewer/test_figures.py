"""Figures without a browser: what is drawn, that it is the vault's, and that text stays text."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pytest

import qkvault
from qkvault_viewer.figures import MOST_LINES, Choice, draw_figure
from qkvault_viewer.figures_svg import encode_png, escape, show_token
from vaults import make_vault

SVG = "{http://www.w3.org/2000/svg}"
VIEWS: tuple[Literal["heads", "model", "neuron"], ...] = ("heads", "model", "neuron")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[qkvault.Vault]:
    path = make_vault(
        tmp_path_factory.mktemp("figures") / "made", layers=(1, 4), lengths=[12, 60], causal=True
    )
    with qkvault.open(path) as vault:
        yield vault


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("drawing", ["lines", "matrix"])
@pytest.mark.parametrize("dark", [False, True])
def test_every_view_is_svg_and_says_what_it_is_of(
    vault: qkvault.Vault, view: Literal["heads", "model"], drawing: Literal["lines"], dark: bool
) -> None:
    root = ElementTree.fromstring(
        draw_figure(vault[0], view, Choice(drawing=drawing, dark=dark, heads=(2,), layer=4))
    )
    said = "".join(root.itertext())
    assert vault.digest[:16] in said
    assert "example 0 (r00000)" in said
    assert ("all 2 layers" in said) == (view == "model")


def test_lines_are_the_weights_of_the_vault(vault: qkvault.Vault) -> None:
    root = ElementTree.fromstring(draw_figure(vault[0], "heads", Choice(layer=4, heads=(3,))))
    lines = root.iter(f"{SVG}line")
    drawn = {
        (
            round((float(line.get("y1", 0)) - 34) / 20 - 0.5),
            round((float(line.get("y2", 0)) - 34) / 20 - 0.5),
        ): float(line.get("stroke-opacity", 0))
        for line in lines
    }
    stored = vault[0].attention[4, 3]
    assert set(drawn) == set(zip(*np.nonzero(stored), strict=True))
    for (query, key), opacity in drawn.items():
        assert opacity == pytest.approx(min(1, 0.03 + float(stored[query, key]) ** 0.8), abs=1e-3)


def test_only_the_strongest_of_many_are_lines(vault: qkvault.Vault) -> None:
    svg = draw_figure(vault[1], "heads")
    assert svg.count("<line ") == MOST_LINES
    assert f"The {MOST_LINES} strongest of " in svg


def test_numbers_of_the_neuron_view(vault: qkvault.Vault) -> None:
    svg = draw_figure(vault[0], "neuron", Choice(layer=1, heads=(2,), token=5))
    assert svg.count("masked") == 6
    stored = vault[0].attention[1, 2][5]
    scores = vault[0].stack("decoder").scores(1, 2)[5]
    for key in range(6):
        assert f"\u2068{stored[key]:.4f}\u2069" in svg
        assert f"\u2068{scores[key]:.2f}\u2069" in svg


@pytest.mark.parametrize(
    "choice", [Choice(layer=2), Choice(heads=(4,)), Choice(token=12), Choice(stack="cross")]
)
def test_what_is_not_there_is_refused(vault: qkvault.Vault, choice: Choice) -> None:
    with pytest.raises(qkvault.InputError):
        draw_figure(vault[0], "heads", choice)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "bare", examples=1, arrays=("attention",))
    with qkvault.open(path) as vault, pytest.raises(qkvault.MissingArray, match="quer"):
        draw_figure(vault[0], "neuron")


def test_text_stays_text() -> None:
    assert escape("<a href='x'>&\x00") == "&#60;a href=&#39;x&#39;&#62;&#38;\ufffd"
    assert show_token("Ġthe") == "the"
    assert show_token("\u202eevil\x1b") == "‹U+202E›evil‹U+001B›"
    assert len(show_token("a" * 300)) == 24


def test_pictures_are_png() -> None:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    data = encode_png(pixels)
    assert struct.unpack(">II", data[16:24]) == (3, 4)
    found = re.search(rb"IDAT(.+)....\x00\x00\x00\x00IEND", data, re.DOTALL)
    assert found
    rows = zlib.decompress(found[1])
    assert rows == b"".join(b"\0" + row.tobytes() for row in pixels)
