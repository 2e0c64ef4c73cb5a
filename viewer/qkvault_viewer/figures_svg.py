"""Pieces of an SVG figure: text that stays text, pictures, the frame with its provenance.

Knows numbers and strings, no vaults. Token text is untrusted: it goes through :func:`show_token`
and :func:`escape` only.
"""

from __future__ import annotations

import base64
import re
import struct
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN: Final = 14
HEAD: Final = 34
MOST_CHARACTERS: Final = 24
_MARKUP: Final = re.compile("[&<>\"']")
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Look:
    """Colours of a figure, ``#rrggbb``."""

    background: str = "#ffffff"
    ink: str = "#1b1c1e"
    muted: str = "#6d7178"
    cell: str = "#f3f3f0"
    plus: str = "#005ab5"
    minus: str = "#de6800"
    weight: str = "#6a4fb3"


LIGHT: Final = Look()
DARK: Final = Look("#17181b", "#e9eaec", "#959aa3", "#1e2024", "#5ca8ff", "#ff9638", "#b09df5")

# Okabe & Ito 2008 with a second tone, as the page's own heads.
_LIGHT_HEADS: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#6e6e76", "#b09c00"),
    *("#463ea0", "#8c2d14", "#00695a", "#963778", "#7896be", "#a07846", "#648c28", "#c8465a"),
)
_DARK_HEADS: Final = (
    *("#409ce0", "#f07e2c", "#26be94", "#de92be", "#80ccf6", "#f0b832", "#a8aab2", "#e2d446"),
    *("#8e88ec", "#d4745a", "#46a092", "#cc70b2", "#a4bcdc", "#ccaa7a", "#98c05c", "#ee7c8c"),
)


def head_colour(head: int, look: Look) -> str:
    """The colour that the page gives a head."""
    palette = _DARK_HEADS if look == DARK else _LIGHT_HEADS
    return palette[head % len(palette)]


def rgb(colour: str) -> tuple[int, int, int]:
    """``#rrggbb`` as three numbers."""
    value = int(colour[1:], 16)
    return value >> 16, value >> 8 & 255, value & 255


def show_token(token: str) -> str:
    """A token as a person reads it: no space signs, what is invisible named, long ones cut."""
    text = token.replace("Ġ", " ").replace("▁", " ").replace("Ċ", "↵").removesuffix("</w>")
    text = text.strip(" ") or "␣"
    named = "".join(
        f"‹U+{ord(c):04X}›" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn"} else c
        for c in text
    )
    return named if len(named) <= MOST_CHARACTERS else f"{named[: MOST_CHARACTERS - 1]}…"


def escape(text: str) -> str:
    """Text for XML: it cannot end its place, and holds no character that XML has not."""
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", _NO_XML.sub("\ufffd", text))


def text(x: float, y: float, words: str, colour: str, anchor: str = "start", more: str = "") -> str:
    """One line of text; its direction cannot leak into what stands beside it."""
    return (
        f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" fill="{colour}"{more}>'
        f"\u2068{escape(words)}\u2069</text>"
    )


def rectangle(x: float, y: float, width: float, height: float, colour: str, more: str = "") -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
        f' fill="{colour}"{more}/>'
    )


def picture(x: float, y: float, width: float, height: float, pixels: NDArray[Any]) -> str:
    """Pixels, uint8 ``(row, column, 3)``, stretched without smoothing."""
    data = base64.b64encode(encode_png(pixels)).decode("ascii")
    return (
        f'<image x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
        f' preserveAspectRatio="none" image-rendering="pixelated"'
        f' href="data:image/png;base64,{data}"/>'
    )


def encode_png(pixels: NDArray[Any]) -> bytes:
    """A PNG (W3C 2003, ISO/IEC 15948) of uint8 ``(row, column, 3)``, 8 bits a channel."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def frame(
    body: Sequence[str],
    size: tuple[float, float],
    title: str,
    notes: Sequence[str],
    look: Look,
) -> str:
    """The whole figure.

    Args:
        body: elements, drawn below the title.
        size: width and height that they take, title included.
        title: one line.
        notes: lines under the figure: what is drawn, and where it comes from.
        look: colours.
    """
    width = int(max(480, size[0], 7.8 * len(title) + 2 * MARGIN))
    height = int(size[1] + 16 + 15 * len(notes) + MARGIN)
    below = [
        text(MARGIN, size[1] + 22 + 15 * n, note, look.muted, more=' font-size="10.5"')
        for n, note in enumerate(notes)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(title)}</title>",
            rectangle(0, 0, width, height, look.background),
            text(MARGIN, 21, title, look.ink, more=' font-size="13" font-weight="600"'),
            *body,
            *below,
            "</svg>\n",
        ]
    )
