"""Figures of one example as SVG, without a browser: the three views, still.

What is drawn is what the page draws: the strongest weights as lines, or maps as cells; the stored
thumbnails of all heads; one query of one head against every key. Every figure says what it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from qkvault import InputError, MissingArray, decode_attention

from .figures_svg import (
    DARK,
    HEAD,
    LIGHT,
    MARGIN,
    Look,
    frame,
    head_colour,
    picture,
    rectangle,
    rgb,
    show_token,
    text,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qkvault import Example, StackView

View = Literal["heads", "model", "neuron"]
Drawing = Literal["lines", "matrix"]

MOST_LINES: Final = 5000
_ROW: Final = 20
_TOKENS: Final = 150
_BETWEEN: Final = 380
_SIDE: Final = 260


@dataclass(frozen=True)
class Choice:
    """What of an example a figure shows.

    Attributes:
        stack: name of the attention run; None for the first.
        layer: the model's own number; None for the first kept.
        heads: which; none for all (heads view) or the first (neuron view).
        token: the query of the neuron view; None for the first that is not special.
        drawing: how the heads view draws.
        dark: light on dark.
    """

    stack: str | None = None
    layer: int | None = None
    heads: tuple[int, ...] = ()
    token: int | None = None
    drawing: Drawing = "lines"
    dark: bool = False


def draw_figure(example: Example, view: View, choice: Choice | None = None) -> str:
    """One view of an example as SVG.

    Raises:
        InputError: the stack, layer, a head or the token is not there.
        MissingArray: the vault does not keep what the view needs.
    """
    choice = choice or Choice()
    scene = _Scene(example, choice)
    if view == "model":
        return scene.model()
    if view == "neuron":
        return scene.neuron()
    return scene.lines() if choice.drawing == "lines" else scene.matrices()


class _Scene:
    """An example, the part of it that was chosen, and how it is coloured."""

    def __init__(self, example: Example, choice: Choice) -> None:
        self.example = example
        self.look: Look = DARK if choice.dark else LIGHT
        self.view: StackView = example.stack(choice.stack or example.stacks[0])
        spec = self.view.spec
        self.layer = spec.layers[0] if choice.layer is None else choice.layer
        if self.layer not in spec.layers:
            kept = ", ".join(map(str, spec.layers))
            raise InputError(f"layer {self.layer} was asked for; the {spec.name} stack has {kept}")
        self.heads = choice.heads or tuple(range(spec.heads))
        for head in self.heads:
            if not 0 <= head < spec.heads:
                raise InputError(f"head {head} was asked for; heads 0 to {spec.heads - 1} are kept")
        self.head = choice.heads[0] if choice.heads else 0
        self.queries = [show_token(token) for token in self.view.query_tokens]
        self.keys = [show_token(token) for token in self.view.key_tokens]
        self.rows = max(len(self.queries), len(self.keys))
        self.token = self._first_word() if choice.token is None else choice.token
        if not 0 <= self.token < len(self.queries):
            raise InputError(f"token {self.token} was asked for; there are {len(self.queries)}")

    def _first_word(self) -> int:
        """The first query that is not special."""
        target = self.example.target
        of_target = target is not None and self.view.spec.name != "encoder"
        special = target.special if target is not None and of_target else self.example.special
        ordinary = [n for n, flag in enumerate(special) if not flag]
        return (ordinary or [0])[0]

    def lines(self) -> str:
        """The strongest weights of some heads of a layer as lines."""
        maps = np.stack([self.view.attention[self.layer, head] for head in self.heads])
        flat = maps.ravel()  # (head, query_token, key_token)
        count = int(np.count_nonzero(flat))
        most = min(MOST_LINES, count)
        order = np.argpartition(-flat, most - 1)[:most] if most < flat.size else np.arange(count)
        order = order[np.argsort(flat[order], kind="stable")]
        left, right = MARGIN + _TOKENS, MARGIN + _TOKENS + _BETWEEN
        body = ['<g stroke-width="1.5">']
        for cell in order:
            head, query, key = np.unravel_index(cell, maps.shape)
            opacity = min(1.0, 0.03 + float(flat[cell] / len(self.heads) ** 0.5) ** 0.8)
            body.append(
                f'<line x1="{left}" y1="{_middle(int(query)):.0f}" x2="{right}"'
                f' y2="{_middle(int(key)):.0f}" stroke-opacity="{opacity:.3f}"'
                f' stroke="{head_colour(self.heads[int(head)], self.look)}"/>'
            )
        body.append("</g>")
        body += _labels(self.queries, left - 7, "end", self.look)
        body += _labels(self.keys, right + 7, "start", self.look)
        notes = [f"Heads {', '.join(map(str, self.heads))}."]
        if most < count:
            share = 100 * float(flat[order].sum() / flat.sum())
            notes.append(
                f"The {most} strongest of {count} weights are drawn: {share:.1f} % of their mass."
            )
        size = (2 * MARGIN + 2 * _TOKENS + _BETWEEN, _middle(self.rows))
        return self._frame(body, size, self._where(self.heads), notes)

    def matrices(self) -> str:
        """Some heads of a layer as squares, queries down, keys across."""
        across = int(np.ceil(len(self.heads) ** 0.5))
        contrast = max(1.0, len(self.keys) / 16) ** 0.4
        body: list[str] = []
        wide, high = (_SIDE * len(side) / self.rows for side in (self.keys, self.queries))
        pitch = high + MARGIN + 16
        for place, head in enumerate(self.heads):
            x = MARGIN + place % across * (wide + MARGIN)
            y = HEAD + place // across * pitch + 14
            shares = np.minimum(1, contrast * np.sqrt(self.view.attention[self.layer, head]))
            pixels = _blend(shares, self.look.cell, head_colour(head, self.look))
            body.append(text(x, y - 4, f"head {head}", self.look.muted))
            body.append(picture(x, y, wide, high, pixels))
        down = -(-len(self.heads) // across)
        size = (MARGIN + across * (wide + MARGIN), HEAD + down * pitch)
        notes = ["Attending tokens down, attended tokens across."]
        return self._frame(body, size, self._where(self.heads), notes)

    def model(self) -> str:
        """The thumbnails of all layers and heads."""
        spec = self.view.spec
        cell = max(24, min(84, 1100 // spec.heads))
        body: list[str] = []
        contrast = max(1.0, len(self.keys) / 16) ** 0.4
        for depth, layer in enumerate(spec.layers):
            codes = self.view.thumbnail.codes(layer)  # (head, query_bin, key_bin)
            shares = np.minimum(1, contrast * np.sqrt(decode_attention(codes, "uint8")))
            y = HEAD + 22 + depth * (cell + 4)
            body.append(text(MARGIN + 20, y + cell / 2 + 4, str(layer), self.look.muted, "end"))
            for head in range(spec.heads):
                x = MARGIN + 28 + head * (cell + 4)
                if depth == 0:
                    middle = x + cell / 2
                    body.append(text(middle, HEAD + 15, str(head), self.look.muted, "middle"))
                pixels = _blend(shares[head], self.look.cell, _layer_colour(depth, spec.layers))
                body.append(picture(x, y, cell, cell, pixels))
        size = (
            MARGIN * 2 + 28 + spec.heads * (cell + 4),
            HEAD + 22 + len(spec.layers) * (cell + 4),
        )
        where = f"all {len(spec.layers)} layers and {spec.heads} heads"
        return self._frame(
            body, size, where, ["Layers down, heads across; each attending × attended."]
        )

    def neuron(self) -> str:
        """One query of one head: query, key, their product, score and softmax, key by key."""
        vectors, scores, weights = self._read_head()
        look, wide = self.look, 170
        x = MARGIN + _TOKENS
        y = HEAD + 22
        body = _labels(self.queries, x - 7, "end", look, y)
        for name, values in vectors.items():
            body.append(text(x + wide / 2, HEAD + 12, name, look.ink, "middle"))
            body.append(picture(x, y, wide, len(values) * _ROW, _signed(values, look)))
            x += wide + MARGIN
        body += self._bars(x, y, scores, weights)
        body += _labels(self.keys, x + 305, "start", look, y)
        own = f"Query: token {self.token}, {self.queries[self.token]}."
        notes = [f"{own} {self._sum(weights)}"]
        notes.append("Blue positive, orange negative, each block on its own scale.")
        size = (x + 305 + _TOKENS, y + self.rows * _ROW)
        return self._frame(body, size, self._where((self.head,)), notes)

    def _sum(self, weights: NDArray[Any]) -> str:
        """What the query's softmax comes to, and where the rest of it goes."""
        spec = self.view.spec
        sinks = spec.recipe[spec.layers.index(self.layer)].sinks
        total = float(weights.sum(dtype=np.float64))
        if sinks is None or sinks.mode != "softmax":
            return f"Its softmax sums to {total:.3f}."
        score = sinks.values[self.head]
        return f"Its softmax sums to {total:.3f}; the sink, of score {score:.2f}, takes the rest."

    def _bars(self, x: float, y: float, scores: NDArray[Any], weights: NDArray[Any]) -> list[str]:
        """Scores and softmax of the query, a row per key, with their numbers."""
        look = self.look
        most = float(np.abs(scores[np.isfinite(scores)]).max(initial=1e-6))
        body = [
            text(x + 60, y - 10, "score", look.ink, "middle"),
            text(x + 220, y - 10, "softmax", look.ink, "middle"),
        ]
        for key, (score, weight) in enumerate(zip(scores.tolist(), weights.tolist(), strict=True)):
            middle = y + (key + 0.5) * _ROW
            if not np.isfinite(score):
                body.append(text(x + 290, middle + 4, "masked", look.muted, "end"))
                continue
            long = 40 * abs(score) / most
            left = x + 40 - long * (score < 0)
            colour = look.minus if score < 0 else look.plus
            body.append(rectangle(left, middle - 5, long, 10, colour))
            body.append(text(x + 135, middle + 4, f"{score:.2f}", look.ink, "end"))
            body.append(rectangle(x + 150, middle - 5, 85 * weight, 10, look.weight))
            body.append(text(x + 290, middle + 4, f"{weight:.4f}", look.ink, "end"))
        return body

    def _read_head(self) -> tuple[dict[str, NDArray[Any]], NDArray[Any], NDArray[Any]]:
        """Vectors to draw, scores with all terms, and weights, of the chosen query."""
        view, head, token = self.view, self.head, self.token
        key_head = head // (view.spec.heads // view.spec.key_heads)
        query, key = view.query[self.layer, head], view.key[self.layer, key_head]
        scores = view.scores(self.layer, head)[token]
        try:
            weights = view.attention[self.layer, head][token]
        except MissingArray:
            weights = view.derive(self.layer, head)[token]
        product = np.where(np.isfinite(scores)[:, None], query[token] * key, 0)
        return {"query": query, "key": key, "q × k": product}, scores, weights

    def _where(self, heads: Sequence[int]) -> str:
        plural = "s" if len(heads) > 1 else ""
        return f"layer {self.layer}, head{plural} {', '.join(map(str, heads))}"

    def _frame(
        self, body: list[str], size: tuple[float, float], where: str, notes: list[str]
    ) -> str:
        example = self.example
        vault = example.vault
        name = f"{vault.path.name} · example {example.index} ({example.id[:60]})"
        model = str(vault.spec.provenance.get("name") or vault.spec.provenance.get("model") or "")
        source = f"QKVault · vault {vault.digest[:16]} · example {example.index}"
        if model and "/" not in model and "\\" not in model:
            source = source.replace("QKVault", f"QKVault · model {model[:60]}")
        title = f"{name} · {self.view.spec.name}, {where}"
        return frame(body, size, title, [*notes, source], self.look)


def _middle(at: int) -> float:
    return HEAD + (at + 0.5) * _ROW


def _labels(
    labels: Sequence[str], x: float, anchor: str, look: Look, top: float = HEAD
) -> list[str]:
    """Tokens below each other."""
    return [
        text(x, top + (at + 0.5) * _ROW + 4, label, look.ink, anchor)
        for at, label in enumerate(labels)
    ]


def _blend(shares: NDArray[Any], background: str, colour: str) -> NDArray[np.uint8]:
    """Colours from ``background`` (0) to ``colour`` (1), uint8 ``(row, column, 3)``."""
    low, high = np.array(rgb(background)), np.array(rgb(colour))
    blended: NDArray[np.uint8] = np.rint(low + shares[..., None] * (high - low)).astype(np.uint8)
    return blended


def _signed(values: NDArray[Any], look: Look) -> NDArray[np.uint8]:
    """Signed values as stripes, saturated by tanh(|value| / twice the root mean square)."""
    unit = 2 * float(np.sqrt(np.mean(np.square(values.astype(np.float64))))) or 1.0
    shares = np.tanh(np.abs(values) / unit)
    plus, minus = (_blend(shares, look.background, colour) for colour in (look.plus, look.minus))
    return np.where((values < 0)[..., None], minus, plus)


def _layer_colour(depth: int, layers: Sequence[int]) -> str:
    """From violet through blue and green to red with depth."""
    stops = ("#7b4fc9", "#2f7fd6", "#12a08a", "#5f9f1f", "#c98a10", "#cf4a3c")
    place = depth * (len(stops) - 1) // max(1, len(layers) - 1)
    return stops[place]
