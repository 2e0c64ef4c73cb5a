"""Encoder-decoders: each stack's own tokens, served, drawn and shown in notebooks."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from asking import Asker

import qkvault
from qkvault_viewer import create_app
from qkvault_viewer.figures import Choice, draw_figure
from vaults import make_encoder_decoder_vault

SVG = "{http://www.w3.org/2000/svg}"
STACKS = ("encoder", "decoder", "cross")
VIEWS: tuple[Literal["heads", "model", "neuron"], ...] = ("heads", "model", "neuron")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_encoder_decoder_vault(tmp_path_factory.mktemp("two") / "translated")


@pytest.fixture(scope="module")
def vault(path: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(path) as vault:
        yield vault


@pytest.fixture(scope="module")
def translated(path: Path) -> Asker:
    return Asker(create_app([path]))


def test_an_example_has_the_tokens_of_its_target(translated: Asker, vault: qkvault.Vault) -> None:
    target = vault[2].target
    assert target is not None
    found = translated.json(f"{translated.base}/ex/2")
    assert found["tokens"] == list(vault[2].tokens)
    assert found["target"] == {
        "text": [target.text],
        "tokens": list(target.tokens),
        "token_ids": list(target.token_ids),
        "segments": [0] * 20,
        "special": list(target.special),
        "offsets": [list(pair) for pair in target.offsets],
        "words": list(target.words),
    }


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("index", [2, 4, 5])
def test_frames_are_the_stacks_arrays(
    translated: Asker, vault: qkvault.Vault, stack: str, index: int
) -> None:
    view, at = vault[index].stack(stack), f"/ex/{index}"
    queries, keys = len(view.query_tokens), len(view.key_tokens)
    (thumbnails,) = translated.frames(f"{at}/thumbnails/{stack}")
    assert thumbnails.data.shape[2:] == (min(64, queries), min(64, keys))
    assert thumbnails.data.tobytes() == view.thumbnail.codes().tobytes()
    (layer,) = translated.frames(f"{at}/attention/{stack}/1?as=f32")
    assert layer.data.shape[1:] == (queries, keys)
    assert np.array_equal(layer.data, view.attention[1])
    (row,) = translated.frames(f"{at}/row/{stack}/1/{queries - 1}")
    assert np.array_equal(row.data, view.attention[1, :, queries - 1])
    (column,) = translated.frames(f"{at}/column/{stack}/1/{keys - 1}")
    assert np.array_equal(column.data, view.attention[1, :, :, keys - 1])
    parts = translated.frames(f"{at}/vectors/{stack}/1/1?parts=query,key,value")
    assert [len(part.data) for part in parts] == [queries, keys, keys]
    (metrics,) = translated.frames(f"{at}/metrics/{stack}")
    assert np.array_equal(metrics.data, view.metrics.array, equal_nan=True)
    for beyond in (f"row/{stack}/1/{queries}", f"column/{stack}/1/{keys}"):
        assert translated.get(f"{translated.base}{at}/{beyond}").status_code == 404


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("stack", STACKS)
def test_figures_have_the_tokens_of_either_side(
    vault: qkvault.Vault, view: Literal["heads"], stack: str
) -> None:
    example = vault[0]  # 7 tokens, and 5 of the target
    root = ElementTree.fromstring(draw_figure(example, view, Choice(stack=stack, heads=(1,))))
    said = [text.text or "" for text in root.iter(f"{SVG}text")]
    assert stack in "".join(root.itertext())
    if view == "model":
        return
    sides = example.stack(stack)
    for token in set(sides.query_tokens) | set(sides.key_tokens):
        expected = sides.query_tokens.count(token) + sides.key_tokens.count(token)
        assert said.count(f"\u2068{token}\u2069") == expected


def test_a_figures_query_is_one_of_the_target(vault: qkvault.Vault) -> None:
    stored = vault[0].stack("cross").attention[1, 1]
    svg = draw_figure(vault[0], "neuron", Choice("cross", layer=1, heads=(1,), token=4))
    assert all(f"\u2068{weight:.4f}\u2069" in svg for weight in stored[4].tolist())
    assert "Its softmax sums to 1.000." in svg
    with pytest.raises(qkvault.InputError, match="there are 5"):
        draw_figure(vault[0], "neuron", Choice("cross", token=5))


def test_notebooks_show_every_stack(vault: qkvault.Vault) -> None:
    html = vault[5]._repr_html_()
    assert html is not None
    target = vault[5].target
    assert target is not None
    assert target.text in html
    pictures = re.findall(r"base64,([^\"]+)", html)
    sizes = [struct.unpack(">II", base64.b64decode(data)[16:24]) for data in pictures]
    assert len(sizes) == 3
    (_, _), (_, _), (wide, high) = sizes
    tile = 9 + 1  # nine tokens of the target, unpooled, and a pixel between
    assert high == 2 * tile
    assert wide > 2 * tile
    assert all(f"{stack} stack" in html for stack in STACKS)
