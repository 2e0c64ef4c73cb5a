"""Examples in a notebook: a static picture, and the live page in a frame."""

from __future__ import annotations

import base64
import re
import struct
import sys
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault_viewer import notebook
from vaults import make_vault


def pixels(html: str) -> np.ndarray:
    """The opacities of the picture in some HTML, decoded from its PNG: ``(y, x)``."""
    match = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert match
    body = base64.b64decode(match[1])
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = {}, 8
    while at < len(body):
        (length,) = struct.unpack_from(">I", body, at)
        kind, data = body[at + 4 : at + 8], body[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", body, at + 8 + length)
        assert crc == zlib.crc32(kind + data)
        found[kind] = data
        at += 12 + length
    width, height = struct.unpack_from(">2I", found[b"IHDR"])
    rows = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:]


def test_the_picture_is_of_the_thumbnails(vault: qkvault.Vault) -> None:
    example = vault[4]  # 16 tokens: no pooling, no contrast
    drawn = pixels(example._repr_html_() or "")
    codes = example.thumbnail.codes()
    assert drawn.shape == (2 * 17, 4 * 17)
    for layer in range(2):
        for head in range(4):
            tile = drawn[layer * 17 : layer * 17 + 16, head * 17 : head * 17 + 16]
            assert np.array_equal(tile, np.maximum(codes[layer, head], 12))


def test_long_texts_are_pooled(vault: qkvault.Vault) -> None:
    assert pixels(notebook.example_html(vault[0])).shape == (2 * 33, 4 * 33)


def test_facts_are_said_and_hostile_text_is_escaped(tmp_path: Path) -> None:
    hostile = ("<script>alert(1)</script>\u202e", '"><img src=x onerror=alert(2)>\x00')
    with qkvault.open(make_vault(tmp_path / "v", examples=1, texts=[hostile])) as vault:
        html = notebook.example_html(vault[0])
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "\u202e" not in html
    assert "‹U+202E›" in html
    assert "&lt;script&gt;alert(1)" in html
    assert "label <b>different</b>" in html


def test_a_vault_without_attention_says_so(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", examples=1, arrays=["query", "key"])
    with qkvault.open(path) as vault:
        assert "keeps no attention" in notebook.example_html(vault[0])


def test_without_the_viewer_there_is_no_picture(
    vault: qkvault.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "qkvault_viewer.notebook", None)
    assert vault[0]._repr_html_() is None
    with pytest.raises(qkvault.InputError, match="viewer is not installed"):
        vault[0].view()


class TestView:
    @pytest.fixture(autouse=True)
    def _stopped(self) -> Iterator[None]:
        yield
        notebook.close_views()

    def test_one_server_answers_for_all_examples_of_a_vault(self, vault: qkvault.Vault) -> None:
        first, second = vault[3].view(), vault[5].view(height=400, view="neuron")
        assert first.url.split("?")[0] == second.url.split("?")[0]
        assert second.url.endswith("?ex=5&view=neuron")
        html = second._repr_html_()
        assert 'height="400"' in html
        assert "ex=5&amp;view=neuron" in html
        with urllib.request.urlopen(first.url, timeout=10) as answer:
            assert answer.status == 200
            policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*" in policy
