"""Measure the viewer's page against BertViz 1.4.1's, in turn, in headless Chromium here.

    python scripts/bench_viewer.py                    # every part: 10 GB and minutes
    python scripts/bench_viewer.py --part neuron      # one of model, heads, heads256, neuron, ours

Both sides get the same arrays: random queries and keys of BERT-base's shape (12 layers, 12 heads,
d = 64) and the attention that follows from them, which is broad, so that every line is there to be
drawn. Each page is opened in a browser of its own with a fresh profile. BertViz carries all layers
in its page, ours asks for what it shows: bytes are those that each side needed for its picture.
Wall time is from navigation to two frames after the picture stood. CPU is of all browser processes
beyond what the browser spends to start and show an empty page; the lines also give it with that.
Other work on the machine disturbs wall time more than CPU; the ratios are what counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import qkvault
from bertviz_pages import BertViz
from browser_meter import Cost, metered
from browser_tasks import longest_task
from qkvault import Record, Stack, VaultSpec
from qkvault_viewer import make_server
from viewer_acts import OUR_READY, THEIR_READY, Act, our_acts, their_acts

LAYERS, HEADS, WIDTH = 12, 12, 64
LENGTHS = [16, 128, 256, 512] + [24] * 55
LONG = 1024
"""Longer texts have their first layer only, repeated: what is looked at is one layer at a time."""
WORDS = (
    "the",
    "cat",
    "sat",
    "lay",
    "rug",
    "while",
    "rain",
    "fell",
    "nobody",
    "##ed",
    "town",
    "mus",
)

Bar = tuple[str, float, str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="leave others out")
    parser.add_argument("--repeats", type=int, default=1, help="times that each page is opened")
    parser.add_argument("--folder", type=Path, help="where to make and install what is needed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        bench = Bench(Path(scratch), options.repeats)
        with bench.serving():
            bars = [bar for part in options.part or PARTS for bar in PARTS[part](bench)]
    print(f"{'what':<58}{'measured':>10}  bar")
    for what, measured, sense, bar in bars:
        met = measured <= bar if sense == "<=" else measured >= bar
        print(f"{what:<58}{measured:>10.2f}  {sense} {bar:g}{'' if met else '  MISSED'}")


class Bench:
    """Both sides, and how often each is asked.

    Args:
        scratch: empty folder.
        repeats: times that each page is opened; medians are kept.
    """

    def __init__(self, scratch: Path, repeats: int) -> None:
        self._scratch = scratch
        self._repeats = repeats
        self._theirs: BertViz | None = None
        self._ours = self._them = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve our vault."""
        server = make_server([make_vault(self._scratch / "base.vault")])
        thread = threading.Thread(target=server.run)
        thread.start()
        self._ours = server.url.rstrip("/")
        try:
            yield
        finally:
            server.stop()
            thread.join(10)

    def pair(self, view: str, length: int, acts: bool = True) -> tuple[Cost, Cost]:
        """BertViz's page and ours of one view of one example, opened in turn: their medians."""
        if self._theirs is None:
            self._theirs = BertViz(self._scratch / "bertviz")
        page = self._theirs.make(view, tokens_of(length), forward(length))
        with self._theirs.served() as origin:
            both = [
                (
                    opened(origin, page, THEIR_READY, their_acts(view) if acts else {}),
                    self.once(view, length, acts),
                )
                for _ in range(self._repeats)
            ]
        return told(f"BertViz {view} S={length}", [theirs for theirs, _ in both]), told(
            f"QKVault {view} S={length}", [ours for _, ours in both]
        )

    def once(self, view: str, length: int, acts: bool, more: str = "") -> Cost:
        """Our page of one view of one example."""
        address = f"/?view={view}&ex={LENGTHS.index(length)}{more}"
        return opened(self._ours, address, OUR_READY, our_acts(view) if acts else {})

    def longest_task(self, view: str, length: int) -> float:
        """Milliseconds of CPU of our page's longest task, opened and worked."""
        address = f"{self._ours}/?view={view}&ex={LENGTHS.index(length)}"
        with metered(self._ours) as meter:

            def work() -> None:
                meter.open(address, OUR_READY)
                for act in our_acts(view).values():
                    act(meter)

            return longest_task(meter.page, work).cpu

    def ours(self, view: str, length: int, acts: bool = False, more: str = "") -> Cost:
        """As :meth:`once`, its medians, told."""
        costs = [self.once(view, length, acts, more) for _ in range(self._repeats)]
        return told(f"QKVault {view}{more} S={length}", costs)


def opened(origin: str, address: str, ready: str, acts: dict[str, Act]) -> Cost:
    """Open a page in a fresh browser, then do things to it."""
    with metered(origin) as meter:
        cost = meter.open(origin + address, ready)
        for name, act in acts.items():
            cost.acts[name] = act(meter)
    return cost


def told(what: str, costs: list[Cost]) -> Cost:
    """The median of several costs, printed."""

    def middle(value: Callable[[Cost], float]) -> float:
        return statistics.median(map(value, costs))

    cost = Cost(
        middle(lambda cost: cost.wall),
        middle(lambda cost: cost.cpu),
        middle(lambda cost: cost.gross),
        int(middle(lambda cost: cost.sent)),
        int(middle(lambda cost: cost.nodes)),
        int(middle(lambda cost: cost.resident)),
        [address for cost in costs for address in cost.foreign],
    )
    for name in costs[0].acts:
        walls, cpus = zip(*(each.acts[name] for each in costs), strict=True)
        cost.acts[name] = (statistics.median(walls), statistics.median(cpus))
    acts = "".join(
        f", {name} {wall * 1e3:.0f} ms wall {cpu * 1e3:.0f} ms CPU"
        for name, (wall, cpu) in cost.acts.items()
    )
    print(
        f"{what}: {cost.wall:.2f} s wall, {cost.cpu:.2f} s CPU"
        f" ({cost.gross:.2f} with the browser's start), {cost.sent / 1e6:.2f} MB,"
        f" {cost.nodes} nodes, {cost.resident / 1e6:.0f} MB resident{acts}",
        flush=True,
    )
    return cost


def model_bars(bench: Bench) -> list[Bar]:
    """The model view, 12 x 12 at 128 tokens."""
    theirs, ours = bench.pair("model", 128)
    long = bench.ours("model", 512)
    return [
        ("model S=128, times faster", theirs.wall / ours.wall, ">=", 50),
        ("model S=128, times less CPU", theirs.cpu / ours.cpu, ">=", 25),
        ("model S=128, times fewer bytes", theirs.sent / ours.sent, ">=", 80),
        ("model S=128, times less memory", theirs.resident / ours.resident, ">=", 15),
        ("model, our S=512 / our S=128, wall", long.wall / ours.wall, "<=", 2),
        ("model, our S=512 / our S=128, CPU", long.cpu / ours.cpu, "<=", 2),
    ]


def head_bars(bench: Bench) -> list[Bar]:
    """The attention-head view at 128 tokens."""
    theirs, ours = bench.pair("heads", 128)
    layer = ratio(theirs, ours, "layer")
    return [
        ("heads S=128, times faster", theirs.wall / ours.wall, ">=", 6),
        ("heads S=128, times less CPU", theirs.cpu / ours.cpu, ">=", 5),
        ("heads S=128, layer change, times less CPU", layer[1], ">=", 8),
    ]


def long_head_bars(bench: Bench) -> list[Bar]:
    """The attention-head view at 256 tokens, where BertViz takes 7 GB at its peak."""
    theirs, ours = bench.pair("heads", 256, acts=False)
    return [
        ("heads S=256, times faster", theirs.wall / ours.wall, ">=", 15),
        ("heads S=256, times less CPU", theirs.cpu / ours.cpu, ">=", 15),
    ]


def neuron_bars(bench: Bench) -> list[Bar]:
    """The neuron view at 128 tokens, 64 dimensions."""
    theirs, ours = bench.pair("neuron", 128)
    hover = ratio(theirs, ours, "hover")
    return [
        ("neuron S=128, times less CPU", theirs.cpu / ours.cpu, ">=", 8),
        ("neuron S=128, hover, times faster", hover[0], ">=", 15),
    ]


def own_bars(bench: Bench) -> list[Bar]:
    """What must hold of our page whatever it is compared with."""
    more = {"model": "", "heads": "", "neuron": "&expanded=1"}
    costs = [
        bench.ours(view, length, more=more[view])
        for view in more
        for length in sorted({length for length in LENGTHS if length > 24})
        if not (view == "model" and length > LONG)
    ]
    at_512 = [bench.ours(view, 512, acts=True, more=more[view]) for view in ("heads", "model")]
    tasks = {view: bench.longest_task(view, 512) for view in more}
    print("longest tasks at S=512:", ", ".join(f"{view} {ms:.0f} ms" for view, ms in tasks.items()))
    return [
        ("nodes of any page", max(cost.nodes for cost in costs), "<=", 3000),
        ("MB resident, S=512", max(c.resident for c in [*at_512, *costs]) / 1e6, "<=", 350),
        ("ms CPU of the longest task of the page's thread, S=512", max(tasks.values()), "<=", 100),
        ("requests beyond the page's own server", sum(len(c.foreign) for c in costs), "<=", 0),
    ]


def ratio(theirs: Cost, ours: Cost, act: str) -> tuple[float, float]:
    """How many times less wall time and CPU ours takes for an act."""
    (wall, cpu), (our_wall, our_cpu) = theirs.acts[act], ours.acts[act]
    return wall / our_wall, cpu / max(our_cpu, 0.001)


PARTS: dict[str, Callable[[Bench], list[Bar]]] = {
    "ours": own_bars,
    "neuron": neuron_bars,
    "heads": head_bars,
    "heads256": long_head_bars,
    "model": model_bars,
}


def tokens_of(length: int) -> list[str]:
    """Words between [CLS] and [SEP]."""
    words = [WORDS[at % len(WORDS)] for at in range(length - 2)]
    return ["[CLS]", *words, "[SEP]"]


def forward(length: int) -> dict[str, Any]:
    """Arrays of a random example: attention float32, query and key float16."""
    random = np.random.default_rng(length)
    layers = LAYERS if length <= LONG else 1
    query, key = (
        random.normal(size=(layers, HEADS, length, WIDTH)).astype(np.float16) for _ in range(2)
    )
    attention = np.empty((layers, HEADS, length, length), np.float32)
    for depth in range(layers):
        scores = query[depth].astype(np.float32) @ key[depth].astype(np.float32).swapaxes(-1, -2)
        weights = np.exp(scores / WIDTH**0.5)
        attention[depth] = weights / weights.sum(-1, keepdims=True)
    return {"attention": attention, "query": query, "key": key}


def make_vault(path: Path) -> Path:
    """A vault of examples of :data:`LENGTHS` tokens, as :func:`forward` makes them."""
    stack = Stack("encoder", tuple(range(LAYERS)), HEADS, HEADS, WIDTH, WIDTH, False, (0.125,) * 12)
    spec = VaultSpec((stack,), ("attention", "query", "key"), "uint16", 0, (), {})
    records = [
        Record(
            id=str(at),
            text=("random words",),
            tokens=tuple(tokens_of(length)),
            token_ids=(1,) * length,
            segments=(0,) * length,
            special=(1, *[0] * (length - 2), 1),
        )
        for at, length in enumerate(LENGTHS)
    ]
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            for row, length in enumerate(unit.lengths.tolist()):
                fill(buffer, row, length)
            writer.commit(buffer)
        writer.finish()
    return path


def fill(buffer: qkvault.UnitBuffer, row: int, length: int) -> None:
    """Write one example's arrays into a unit."""
    made = forward(length)
    for name in ("query", "key"):
        buffer.arrays[f"encoder/{name}"][row, :, :, :length] = made[name]
    for depth in range(LAYERS):
        weights = made["attention"][depth % len(made["attention"])]
        codes = qkvault.encode_attention(weights, "uint16")
        buffer.arrays["encoder/attention"][row, depth, :, :length, :length] = codes
        if "encoder/thumbnail" in buffer.arrays:
            small = qkvault.make_thumbnail(weights)
            side = small.shape[-1]
            buffer.arrays["encoder/thumbnail"][row, depth, :, :side, :side] = small


if __name__ == "__main__":
    main()
