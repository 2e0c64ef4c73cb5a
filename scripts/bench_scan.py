"""Measure scans of one head across a vault against plain zarr-python over the same files.

    python scripts/bench_scan.py --vault mrpc.vault
    python scripts/bench_scan.py --examples 3000        # a made vault of MiniLM's shape

Both sides give float32 arrays cropped to each example's own tokens. Zarr-python is asked in two
ways: one example after the other, as its arrays invite, and one bucket at a time, which is the best
that can be done with it once the layout is known. Times are taken in turn in one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import qkvault
from bench_corpus import Data, fill

Measured = tuple[float, float]
SLOW = "zarr-python, examples"
EIGHTH = 8


def timed(work: Callable[[], object]) -> Measured:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Scans:
    """The same scan in several ways; each touches every number it yields."""

    def __init__(self, vault: qkvault.Vault, names: tuple[str, ...]) -> None:
        self.vault = vault
        self.names: Any = names
        stack = vault.spec.stacks[0]
        self.layer, self.head = stack.layers[len(stack.layers) // 2], stack.heads // 2
        self.at = stack.layers.index(self.layer)
        self.key_head = vault[0].key_head(self.head)
        self.places = vault.places
        self.arrays = {
            (length, name): zarr.open_array(
                vault.path / f"b{length:04d}/{stack.name}/{name}", mode="r"
            )
            for length in np.unique(self.places[:, 0]).tolist()
            for name in names
        }

    def head_of(self, name: str) -> int:
        return self.key_head if name in ("key", "value") else self.head

    def ours(self) -> int:
        scan = self.vault.scan(self.layer, self.head, arrays=self.names)
        return sum(item[name].shape[0] for item in scan for name in self.names)

    def our_batches(self) -> int:
        scan = self.vault.scan(self.layer, self.head, arrays=self.names)
        return sum(batch[name].shape[1] for batch in scan.batches() for name in self.names)

    def zarr_buckets(self) -> int:
        total = 0
        for length in np.unique(self.places[:, 0]).tolist():
            chosen = self.places[self.places[:, 0] == length]
            for name in self.names:
                array: Any = self.arrays[length, name]
                codes = array[:, self.at, self.head_of(name)]
                values = codes * np.float32(1 / 65535) if codes.dtype.kind == "u" else codes
                values = values.astype(np.float32, copy=False)
                total += sum(values[row, :tokens].shape[0] for _, row, tokens in chosen.tolist())
        return total

    def zarr_examples(self) -> int:
        total = 0
        for length, row, tokens in self.places[::EIGHTH].tolist():
            for name in self.names:
                array: Any = self.arrays[length, name]
                part = array[row, self.at, self.head_of(name), :tokens]
                total += part.astype(np.float32).shape[0]
        return total


def compare(scans: Scans, rounds: int) -> None:
    """Print medians and ratios."""
    ways = {
        "scan, item by item": scans.ours,
        "scan, batches": scans.our_batches,
        "zarr-python, buckets": scans.zarr_buckets,
        SLOW: scans.zarr_examples,
    }
    for work in ways.values():
        work()
    taken: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            if name == SLOW and taken[name]:
                continue  # it takes long enough to be measured once, on every eighth example
            wall, cpu = timed(work)
            share = EIGHTH if name == SLOW else 1
            taken[name].append((share * wall, share * cpu))
    medians = {
        name: (statistics.median(w for w, _ in pairs), statistics.median(c for _, c in pairs))
        for name, pairs in taken.items()
    }
    print(f"{', '.join(scans.names)} of one head, {len(scans.vault)} examples")
    for name, (wall, cpu) in medians.items():
        print(f"  {name:<24} {1e3 * wall:9.1f} ms wall {1e3 * cpu:9.1f} ms CPU")
    for other in ("zarr-python, buckets", SLOW):
        for ours in ("scan, item by item", "scan, batches"):
            wall, cpu = (b / a for a, b in zip(medians[ours], medians[other], strict=True))
            print(f"  {ours} / {other}: {wall:.1f} times faster, {cpu:.1f} times less CPU")


def write_vault(path: Path, data: Data) -> None:
    """Write a made vault."""
    with qkvault.create(path, data.spec, data.records()) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, data)
            writer.commit(buffer)
        writer.finish()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vault", type=Path)
    parser.add_argument("--examples", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.vault
        if path is None:
            path = Path(folder) / "made.vault"
            write_vault(path, Data(options.examples))
        with qkvault.open(path) as vault:
            compare(Scans(vault, ("query", "key")), options.rounds)
            compare(Scans(vault, ("attention",)), options.rounds)


if __name__ == "__main__":
    main()
