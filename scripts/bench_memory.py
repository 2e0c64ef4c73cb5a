"""Peak memory of an extraction, by the number of examples: it should not grow with the corpus.

    python scripts/bench_memory.py                     2,000 and 20,000 examples
    python scripts/bench_memory.py --examples 500,2000

Each run is a process of its own: a small BERT with random weights over texts of random words. Their
lengths share a bucket, so that the smaller corpus fills several units of full size too: up to that
size units, and memory with them, grow with the corpus. Peak is the largest resident set, as the
system tells it.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VOCABULARY = 1000
LENGTHS = range(49, 55)
"""Words of a text."""


def main() -> None:
    """Run each size and print a table; or be one of these runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", default="2000,20000", help="how many, separated by commas")
    parser.add_argument("--scratch", help="folder for model and vaults (default: the system's)")
    parser.add_argument("--run", nargs=3, metavar=("MODEL", "DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        _run(*options.run)
        return
    sizes = [int(size) for size in options.examples.split(",")]
    peaks = measure(sizes, options.scratch)
    print(f"{'examples':>9} {'peak MB':>8} {'ratio':>6}")
    for size, peak in peaks.items():
        print(f"{size:9,} {peak / 1e6:8.1f} {peak / peaks[sizes[0]]:6.3f}")


def measure(sizes: list[int], scratch: str | None = None) -> dict[int, int]:
    """Peak resident bytes of an extraction of each size."""
    folder = Path(tempfile.mkdtemp(prefix="bench-memory-", dir=scratch))
    try:
        make_model(folder / "model")
        return {size: _measure(folder, size) for size in sizes}
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, size: int) -> int:
    data, out = folder / f"{size}.txt", folder / f"{size}.vault"
    with data.open("w") as file:
        file.writelines(f"{text}\n" for text in _texts(size))
    given = [sys.executable, __file__, "--run", str(folder / "model"), str(data), str(out)]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    shutil.rmtree(out)
    return int(json.loads(done.stdout.splitlines()[-1]))


def _run(model: str, data: str, out: str) -> None:
    from qkvault_extractor import ExtractOptions, extract

    extract(ExtractOptions(model, (data,), Path(out), format="text", device="cpu"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _texts(count: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    for length in random.choice(LENGTHS, count):
        yield " ".join(f"w{word}" for word in random.integers(0, VOCABULARY, length))


def make_model(folder: Path) -> None:
    """Save a BERT of 3 layers, 8 heads and width 64, with a tokenizer of made-up words."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(VOCABULARY))]
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=8,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)


if __name__ == "__main__":
    main()
