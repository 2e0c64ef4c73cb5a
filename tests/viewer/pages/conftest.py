"""Vaults served to a real browser, and what a test needs to work the page."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qkvault
from qkvault import Mask, Recipe, Record, RelativeBias, Sinks, Stack, Target, VaultSpec
from qkvault_viewer.server import make_server
from vaults import fill, forward, make_encoder_decoder_vault, make_record, make_vault

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\u202eevil\u202c",
    "שלום",
    "\x00\x07\x1b[31m",
    "👩‍👩‍👧",
    "漢字かな交じり文",
    "'\"><svg onload=alert(3)>",
    "javascript:alert(4)",
    "{{7*7}}${7*7}",
    "a" * 300,
    "\ud7ff\ufeff\u200b",
)


def write_random(path: Path, spec: VaultSpec, records: list[Record]) -> Path:
    """Write a vault of these records, its arrays random."""
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, spec)
            writer.commit(buffer)
        writer.finish()
    return path


def make_hostile(path: Path) -> Path:
    """A vault whose every string tries something."""
    spec = VaultSpec(
        stacks=(Stack("encoder", (0,), 2, 2, 4, 4, False, (0.5,)),),
        arrays=("attention", "query", "key"),
        precision="uint16",
        logits=2,
        label_names=(HOSTILE[0], HOSTILE[1]),
        identity={"model": HOSTILE[1]},
        provenance={"model": HOSTILE[0]},
    )
    random = np.random.default_rng(0)
    records: list[Record] = []
    for index in range(3):
        plain = make_record(index, len(HOSTILE) + 3, random=random)
        tokens = (plain.tokens[0], *HOSTILE, *plain.tokens[-2:])
        records.append(
            replace(
                plain,
                id=f"{HOSTILE[index]}{index}",
                text=(HOSTILE[0] + HOSTILE[2], HOSTILE[1]),
                tokens=tokens,
                label=HOSTILE[index],
                columns={HOSTILE[0]: HOSTILE[1]},
            )
        )
    return write_random(path, spec, records)


def make_pieces(path: Path) -> Path:
    """A vault whose words are of one to three tokens, in two texts."""
    stack = Stack("encoder", (0,), 2, 2, 4, 4, False, (0.5,))
    spec = VaultSpec(
        stacks=(stack,),
        arrays=("attention", "query", "key", "value"),
        precision="uint16",
        logits=0,
        label_names=(),
        identity={"model": "random"},
        provenance={"model": "random"},
    )
    plain = make_record(0, 14, random=np.random.default_rng(2))
    tokens = ("[CLS]", "un", "##believ", "##able", "cat", "##s", "nap", "[SEP]", "we", "nap", "##s")
    record = replace(
        plain,
        tokens=(*tokens, "too", "##o", "[SEP]"),
        words=(-1, 0, 0, 0, 1, 1, 2, -1, 0, 1, 1, 2, 2, -1),
        special=(1, *[0] * 6, 1, *[0] * 5, 1),
        segments=(*[0] * 8, *[1] * 6),
        offsets=(),
    )
    return write_random(path, spec, [record])


def make_terms(path: Path) -> Path:
    """A vault that derives attention, its layers with every kind of term; a value head for two."""
    causal = Mask(causal=True)
    recipe = (
        Recipe(Mask(causal=True, window=3), softcap=2.0),
        Recipe(causal, slopes=(0.5, 0.25, 0.125, 0.0625)),
        Recipe(causal, sinks=Sinks((1.0, -1.0, 0.0, 3.0), "softmax")),
        Recipe(
            causal,
            bias=RelativeBias((-6, -2, 0), ((0.5, 1.0, -1.0),) * 4),
        ),
    )
    stack = Stack("decoder", (0, 1, 2, 3), 4, 2, 8, 6, True, (8**-0.5,) * 4, recipe)
    spec = VaultSpec(
        stacks=(stack,),
        arrays=("query", "key", "value"),
        precision="uint16",
        logits=0,
        label_names=(),
        identity={"model": "random"},
        provenance={"model": "random"},
        attention="derived",
    )
    records = [make_record(n, 20, pairs=False, random=np.random.default_rng(n)) for n in range(2)]
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, spec)
            for row, example in enumerate(unit.examples):
                made = forward(int(example), 20, stack, spec.precision)
                for depth in range(4):
                    weights = qkvault.derive_attention(
                        made["query"][depth], made["key"][depth], 8**-0.5, recipe[depth]
                    )
                    thumbnail = qkvault.make_thumbnail(weights)
                    buffer.arrays["decoder/thumbnail"][row, depth, :, :20, :20] = thumbnail
            writer.commit(buffer)
        writer.finish()
    return path


SCRIPTS = (
    ("[CLS]", "كا", "##نت", "القطة", "تجلس", "على", "الس", "##جادة", "[SEP]"),
    ("[CLS]", "החתול", "ישב", "על", "השטי", "##ח", "[SEP]"),
    ("[CLS]", "吾", "輩", "は", "猫", "であ", "##る", "。", "[SEP]"),
    ("[CLS]", "The", "word", "שלום", "means", "和平", "[SEP]"),
)


def make_scripts(path: Path) -> Path:
    """A vault of texts that are written from right to left, or without blanks."""
    spec = VaultSpec(
        stacks=(Stack("encoder", (0,), 2, 2, 4, 4, False, (0.5,)),),
        arrays=("attention", "query", "key"),
        precision="uint16",
        logits=0,
        label_names=(),
        identity={"model": "random"},
        provenance={},
    )
    random = np.random.default_rng(0)
    records = []
    for index, tokens in enumerate(SCRIPTS):
        words: list[int] = []
        for token in tokens:
            goes = token.startswith("##") or token.startswith("[")
            words.append(max([-1, *words]) + (not goes))
        ends = [-1 if token.startswith("[") else w for token, w in zip(tokens, words, strict=True)]
        plain = make_record(index, len(tokens), pairs=False, random=random)
        text = "".join(token.removeprefix("##") for token in tokens[1:-1])
        records.append(replace(plain, tokens=tokens, text=(text,), words=tuple(ends), offsets=()))
    return write_random(path, spec, records)


def make_families(path: Path) -> Path:
    """Pairs of which some differ in one word, and say so by their ids."""
    spec = VaultSpec(
        stacks=(Stack("encoder", (0, 1), 2, 2, 4, 4, False, (0.5, 0.5)),),
        arrays=("attention",),
        precision="uint16",
        logits=0,
        label_names=(),
        identity={"model": "random"},
        provenance={},
    )
    random = np.random.default_rng(0)
    names = ["cat-mat", "eminem-sick", "eminem-terrific", "eminem-available", "plain"]
    records = [replace(make_record(n, 14, random=random), id=name) for n, name in enumerate(names)]
    return write_random(path, spec, records)


def make_latents(path: Path) -> Path:
    """A vault whose targets are queries that a model has learnt, and none is a text."""
    stacks = (
        Stack("decoder", (0, 1), 2, 2, 8, 8, False, (8**-0.5,) * 2),
        Stack("cross", (0,), 1, 1, 6, 4, False, (6**-0.5,)),
    )
    spec = VaultSpec(
        stacks=stacks,
        arrays=("attention", "query", "key", "value"),
        precision="uint16",
        logits=0,
        label_names=(),
        identity={"model": "random"},
        provenance={"model": "random"},
        target=True,
    )
    latents = tuple(f"latent {number}" for number in range(5))
    target = Target("", latents, tuple(range(5)), (0,) * 5)
    random = np.random.default_rng(0)
    records = [
        replace(make_record(n, 9, pairs=False, texts=texts, random=random), target=target)
        for n, texts in enumerate([[("a caption",)], [("",)] * 2])
    ]
    return write_random(path, spec, records)


GOLDEN = Path(__file__).parents[2] / "golden" / f"v{qkvault.FORMAT_VERSION}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vaults by what they are for: pairs, causal, long, hostile, bare."""
    folder = tmp_path_factory.mktemp("pages")
    lengths = [16, 12, 50, 70] + [9 + n % 20 for n in range(116)]
    texts = [(f"sentence number {n} about cats", f"its partner p{n * n}") for n in range(120)]
    like_pairs = {"lengths": lengths, "layers": (1, 4), "texts": texts}
    make_vault(folder / "pairs", **like_pairs, seed=3, metrics=True)
    make_vault(folder / "causal", lengths=[14] * 3, causal=True, pairs=False, logits=0, heads=6)
    make_vault(folder / "long", lengths=[300], layers=1, heads=48, head_dim=16)
    make_vault(folder / "bare", lengths=[14] * 2, arrays=("attention",))
    make_vault(folder / "blind", lengths=[14] * 2, arrays=("query", "key"))
    make_families(folder / "families")
    make_vault(folder / "single", lengths=[9, 12], pairs=False, metrics=True)
    make_vault(folder / "tuned", **like_pairs, seed=3, model_seed=4, metrics=True)
    make_hostile(folder / "hostile")
    make_pieces(folder / "pieces")
    make_terms(folder / "terms")
    make_encoder_decoder_vault(folder / "translated")
    make_latents(folder / "latents")
    make_vault(folder / "longest", lengths=[512, 2048], layers=1, heads=2, pairs=False, logits=0)
    make_scripts(folder / "scripts")
    for name in ("beside", "widths"):
        shutil.copytree(GOLDEN / f"{name}.vault", folder / name)
    return folder


@pytest.fixture(scope="session")
def site(folder: Path) -> Iterator[str]:
    names = ["pairs", "causal", "long", "bare", "blind", "hostile", "pieces", "terms"]
    names += ["single", "tuned", "families", "translated", "latents", "longest", "scripts"]
    names += ["beside", "widths"]
    server = make_server([folder / name for name in names])
    thread = threading.Thread(target=server.run)
    thread.start()
    yield server.url
    server.stop()
    thread.join(timeout=10)


@pytest.fixture(scope="session")
def pairs(folder: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(folder / "pairs") as vault:
        yield vault


def find_chromium() -> str | None:
    """A Chromium on this machine: $QKVAULT_CHROMIUM, else one on the path."""
    named = os.environ.get("QKVAULT_CHROMIUM")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return named or next(filter(None, found), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install it, or name it in QKVAULT_CHROMIUM")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    arguments.append("--disable-background-networking")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


class Viewer:
    """One page, worked as a person would work it, and watched for what must not happen."""

    def __init__(self, page: Any, site: str) -> None:
        self.page = page
        self.site = site
        self.troubles: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("request", self._request)

    def _dialog(self, dialog: Any) -> None:
        self.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.troubles.append(f"console: {message.text}")

    def _request(self, request: Any) -> None:
        self.asked.append(request.url)
        if not request.url.startswith((self.site, "blob:")):
            self.troubles.append(f"request: {request.url}")

    def open(self, query: str = "") -> None:
        self.page.goto(self.site + query)
        self.settled()

    def settled(self, *shown: str) -> None:
        """Wait for the picture to be whole, and for its state to say each of these."""
        said = "".join(f'[data-shown*="{part}"]' for part in shown)
        self.page.wait_for_selector(f"html[data-ready]{said}", state="attached")

    @property
    def shown(self) -> str:
        return str(self.page.locator("html").get_attribute("data-shown"))

    def token(self, side: str, token: int) -> Any:
        return self.page.locator(f'.view:visible .tokens-{side} [data-token="{token}"]')

    def hover(self, side: str, token: int) -> None:
        """Point at a token and wait for its numbers."""
        self.token(side, token).hover()
        self.page.wait_for_selector(f'#inspector[data-focus="{side}-{token}"]')

    def weights(self, name: str = "weight") -> dict[int, float]:
        """Numbers of the inspector's list, by token."""
        rows = self.page.locator("#inspector .rank").evaluate_all(
            "(rows, name) => rows.map((row) => [row.dataset.token, row.dataset[name]])", name
        )
        return {int(token): float(number) for token, number in rows}

    def by_head(self) -> dict[int, float]:
        """Numbers of the pair chosen in the inspector, by head."""
        rows = self.page.locator("#inspector .split-head").evaluate_all(
            "(rows) => rows.map((row) => [row.dataset.head, row.dataset.weight])"
        )
        return {int(head): float(number) for head, number in rows}

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).text_content())

    def ink(self, selector: str) -> float:
        """Mean opacity of a canvas, 0 to 255."""
        return float(
            self.page.locator(selector).first.evaluate(
                """(canvas) => {
                  const { width, height } = canvas;
                  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
                  let sum = 0;
                  for (let i = 3; i < data.length; i += 4) sum += data[i];
                  return sum / (width * height);
                }"""
            )
        )


@pytest.fixture
def viewer(browser: Any, site: str) -> Iterator[Viewer]:
    context = browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme="light")
    context.set_default_timeout(10_000)
    viewer = Viewer(context.new_page(), site)
    yield viewer
    context.close()
    assert viewer.troubles == []
