"""Examples in a notebook: a picture that needs no script, and the live page in a frame.

The picture is HTML that survives being saved, mailed and opened without this package. The store
asks for both by name, where this package is installed; it does not import it.
"""

from __future__ import annotations

import base64
import struct
import threading
import unicodedata
import zlib
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import numpy as np

from qkvault import Example, MissingArray, Vault

from .documents import class_name, gold_names, plain
from .server import Server, make_server

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOTEBOOK_PAGES: Final = ("http://localhost:*", "http://127.0.0.1:*", "https://localhost:*")
"""Who may show the page in a frame: notebooks that run on this machine."""
TILE: Final = 32
"""Most pixels of a head's side; longer maps are pooled again."""
TEXT_LIMIT: Final = 400
_INK: Final = (125, 100, 215)
_SHOWN: Final = 36
_SERVERS: Final[dict[str, Server]] = {}
_STARTING: Final = threading.Lock()


class Frame:
    """A live page in a notebook's cell.

    Attributes:
        url: its address, which a browser tab can open as well.
    """

    def __init__(self, url: str, height: int) -> None:
        self.url = url
        self._height = height

    def _repr_html_(self) -> str:
        address = escape(self.url, quote=True)
        return (
            f'<iframe src="{address}" width="100%" height="{self._height}" '
            f'style="border: 1px solid #8884; border-radius: 6px" title="QKVault"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<QKVault at {self.url}>"


def view_example(example: Example, height: int = 760, **state: str | int) -> Frame:
    """The viewer, opened at an example; one server per vault and process, for this machine only.

    Args:
        example: of a finished vault.
        height: of the frame, in pixels.
        state: what else the page's address says, such as ``view="neuron"``, ``layer=3``.

    Raises:
        VaultError: the vault is not finished.
        ResourceError: no port is free.
    """
    path = str(example.vault.path.resolve())
    with _STARTING:
        server = _SERVERS.get(path)
        if server is None:
            server = _SERVERS[path] = make_server([path], framed_by=NOTEBOOK_PAGES)
            threading.Thread(target=server.run, daemon=True, name="qkvault-view").start()
    return Frame(f"{server.url}?{urlencode({'ex': example.index, **state})}", height)


def close_views() -> None:
    """Stop the servers that :func:`view_example` started."""
    with _STARTING:
        while _SERVERS:
            _, server = _SERVERS.popitem()
            server.stop()


def example_html(example: Example) -> str:
    """An example as HTML without script: facts, texts, and every head as a small picture."""
    facts = [
        f"#{example.index}",
        _shown(example.id),
        f"{example.length} tokens",
        *_answers(example),
    ]
    target = [] if example.target is None else [example.target.text]
    texts = "".join(f"<div><bdi>{_shown(text)}</bdi></div>" for text in [*example.text, *target])
    pictures = "".join(_picture(example, name) for name in example.stacks)
    return (
        '<div style="font: 13px/1.5 sans-serif">'
        f'<div style="opacity: .7">{" · ".join(facts)}</div>{texts}{pictures}</div>'
    )


def _answers(example: Example) -> list[str]:
    vault: Vault = example.vault
    found = []
    for title, value, names in (
        ("label", example.label, gold_names(vault)),
        ("prediction", example.prediction, vault.spec.label_names),
    ):
        if value is not None:
            found.append(f"{title} <b>{_shown(str(class_name(value, names) or plain(value)))}</b>")
    return found


def _picture(example: Example, stack: str) -> str:
    view = example.stack(stack)
    spec = view.spec
    try:
        codes = view.thumbnail.codes()  # (layer, head, query_bin, key_bin)
    except MissingArray:
        return '<div style="opacity: .7">This vault keeps no attention to draw.</div>'
    data = base64.b64encode(_png(_mosaic(codes))).decode()
    layers, heads = codes.shape[:2]
    down = f"{layers} layers (down, {spec.layers[0]} to {spec.layers[-1]})"
    title = f"attention of {down} of {heads} heads (across)"
    return (
        f'<img src="data:image/png;base64,{data}" alt="{title}" title="{title}" '
        f'style="width: {heads * _SHOWN}px; max-width: 100%; image-rendering: pixelated; '
        f'margin-top: 6px"><div style="opacity: .7">{title.capitalize()}, {spec.name} stack</div>'
    )


def _mosaic(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Heads side by side and layers below each other, a pixel apart: opacity, uint8 ``(y, x)``."""
    layers, heads = codes.shape[:2]
    pooled = _pool(_pool(codes.astype(np.float32), 2), 3)
    # Weights of long texts are small, and would all look alike.
    strong = np.minimum(255, pooled * max(1.0, codes.shape[3] / 16) ** 0.4).astype(np.uint8)
    high, wide = strong.shape[2] + 1, strong.shape[3] + 1
    out = np.zeros((layers * high, heads * wide), np.uint8)
    for layer in range(layers):
        for head in range(heads):
            place = np.s_[
                layer * high : (layer + 1) * high - 1, head * wide : (head + 1) * wide - 1
            ]
            out[place] = np.maximum(strong[layer, head], 12)
    return out


def _pool(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Means of at most :data:`TILE` bins along an axis."""
    side = values.shape[axis]
    if side <= TILE:
        return values
    bins = np.arange(TILE) * side // TILE
    shape = [1] * values.ndim
    shape[axis] = TILE
    means: NDArray[np.float32] = np.add.reduceat(values, bins, axis)
    return means / np.diff([*bins, side]).astype(np.float32).reshape(shape)


def _png(opacity: NDArray[np.uint8]) -> bytes:
    """One colour at these opacities as PNG: a palette of 256 entries (W3C PNG, third edition)."""
    height, width = opacity.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), opacity], 1)  # filter 0 before each row
    header = struct.pack(">2I5B", width, height, 8, 3, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"PLTE", bytes(_INK) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _shown(text: str) -> str:
    """Text as HTML: escaped, cut, and its control and direction characters named."""
    cut = text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}…"
    named = (
        f"‹U+{ord(c):04X}›" if unicodedata.category(c) in ("Cc", "Cs") or _turns(c) else c
        for c in cut
    )
    return escape("".join(named), quote=True)


def _turns(character: str) -> bool:
    return unicodedata.bidirectional(character) in {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    }
