"""Peak memory of an extraction, by the number of examples: it should not grow with the corpus.

    python scripts/bench_memory.py                     2,000 and 20,000 examples
    python scripts/bench_memory.py --examples 500,2000
    python scripts/bench_memory.py --model tiny        so small that 2,000 examples fill two units
    python scripts/bench_memory.py --model ./minilm    a model of one's own

Each run is a process of its own, over texts of random words with MRPC's lengths; ``small`` and
``tiny`` are BERTs with random weights. Peak is the largest resident set, as the system tells it.
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

SENTENCE = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work number night"
)
WORDS = SENTENCE.split()
LENGTHS = (51.0, 13.6, 16, 102)
"""Mean, standard deviation, least and most words of a text: tokens of MRPC's pairs, less two."""

MODELS = {"small": (64, 8), "tiny": (32, 4)}
"""Width and heads of the models that are made up, of 3 layers."""


def main() -> None:
    """Run each size and print a table; or be one of these runs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", default="2000,20000", help="how many, separated by commas")
    parser.add_argument("--model", default="small", help="small, tiny, or a model's folder")
    parser.add_argument("--scratch", help="folder for model and vaults (default: the system's)")
    parser.add_argument("--run", nargs=3, metavar=("MODEL", "DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        _run(*options.run)
        return
    sizes = [int(size) for size in options.examples.split(",")]
    peaks = measure(sizes, options.model, options.scratch)
    print(f"{'examples':>9} {'peak MB':>8} {'ratio':>6}")
    for size, peak in peaks.items():
        print(f"{size:9,} {peak / 1e6:8.1f} {peak / peaks[sizes[0]]:6.3f}")


def measure(sizes: list[int], model: str = "small", scratch: str | None = None) -> dict[int, int]:
    """Peak resident bytes of an extraction of each size."""
    folder = Path(tempfile.mkdtemp(prefix="bench-memory-", dir=scratch))
    try:
        home = Path(model)
        if model in MODELS:
            home = folder / "model"
            make_model(home, *MODELS[model])
        return {size: _measure(folder, home, size) for size in sizes}
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, model: Path, size: int) -> int:
    data, out = folder / f"{size}.txt", folder / f"{size}.vault"
    with data.open("w") as file:
        file.writelines(f"{text}\n" for text in _texts(size))
    given = [sys.executable, __file__, "--run", str(model), str(data), str(out)]
    done = subprocess.run(given, capture_output=True, text=True, check=True)
    shutil.rmtree(out)
    return int(json.loads(done.stdout.splitlines()[-1]))


def _run(model: str, data: str, out: str) -> None:
    from qkvault_extractor import ExtractOptions, extract

    extract(ExtractOptions(model, (data,), Path(out), format="text", device="cpu"))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _texts(count: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    mean, deviation, least, most = LENGTHS
    for length in random.normal(mean, deviation, count).clip(least, most).astype(int):
        yield " ".join(random.choice(WORDS, length))


def make_model(folder: Path, width: int, heads: int) -> None:
    """Save a BERT of 3 layers, with a tokenizer of :data:`WORDS`."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=3,
        num_attention_heads=heads,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    BertModel(config).save_pretrained(folder)


if __name__ == "__main__":
    main()
