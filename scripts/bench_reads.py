"""Reading: patterns through the public interface, in turn with zarr-python on the same vault."""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import qkvault
from bench_corpus import Bar, Data, write_vault

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 25


def compare(
    ours: Callable[[int], Any], theirs: Callable[[int], Any], picks: list[int]
) -> tuple[float, float, float, float]:
    """Median wall seconds and mean CPU seconds of both: (wall, wall, CPU, CPU)."""
    for i in picks:
        ours(i)
        theirs(i)
    walls: tuple[list[float], list[float]] = ([], [])
    cpus = [0.0, 0.0]
    gc.collect()
    gc.disable()  # as timeit does: one side's rubbish must not be swept up on the other's time
    # In turn by blocks: zarr-python's own thread still works for a moment after a call returns.
    for first in range(0, len(picks), BLOCK):
        for side, read in enumerate((ours, theirs)):
            time.sleep(0.002)
            read(picks[first])
            used = time.process_time()
            for i in picks[first : first + BLOCK]:
                start = time.perf_counter()
                read(i)
                walls[side].append(time.perf_counter() - start)
            cpus[side] += time.process_time() - used
    gc.enable()
    return (
        statistics.median(walls[0]),
        statistics.median(walls[1]),
        cpus[0] / len(picks),
        cpus[1] / len(picks),
    )


def count_reads(vault: qkvault.Vault) -> int:
    """File reads for the thumbnails of one example, once its shard is open."""
    vault[0].thumbnail[:, :]
    calls = 0
    real = os.pread

    def counted(*arguments: Any) -> bytes:
        nonlocal calls
        calls += 1
        return real(*arguments)

    os.pread = counted
    try:
        vault[0].thumbnail[:, :]
    finally:
        os.pread = real
    return calls


def bench_overhead(folder: Path) -> Bar:
    """CPU of a read so small that only the way there counts: one head of four tokens, unpacked."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        data = Data(16)
        data.lengths = np.full(16, 4)
        path = write_vault(Path(scratch) / "tiny", data, compress=False)[0]
        vault = qkvault.open(path)
        array: Any = zarr.open_array(path / "b0008/encoder/attention", mode="r")
        e = vault[3]
        _, _, mine, other = compare(
            lambda _: e.attention[2, 5], lambda _: array[3, 2, 5, :4, :4], list(range(1000))
        )
        print(f"per call: {mine * 1e6:.1f} us CPU; zarr-python {other * 1e6:.0f} us")
        return Bar("per call, CPU / zarr-python", mine / other, 0.02, "<=")


def bench_scan(vault: qkvault.Vault, layer: int, head: int, query: Any, key: Any) -> Bar:
    """One head's queries and keys of every example, through the public API."""
    used = time.process_time()
    for e in vault:
        e.query[layer, head]
        e.key[layer, head]
    mine = time.process_time() - used
    used = time.process_time()
    for i in range(0, len(vault), 4):
        query(i)
        key(i)
    other = (time.process_time() - used) * 4
    return Bar("scan of one head's q, k, times faster", other / mine, 5.0, ">=")


def bench_import() -> list[Bar]:
    """Wall time of ``import qkvault`` against ``import zarr``, each in a fresh interpreter."""

    def once(module: str) -> float:
        code = f"import time; t=time.perf_counter(); import {module}; print(time.perf_counter()-t)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(done.stdout)

    ours, theirs = [], []
    for _ in range(7):
        ours.append(once("qkvault"))
        theirs.append(once("zarr"))
    return [Bar("import qkvault / import zarr", min(ours) / min(theirs), 0.3, "<=")]


class Plain:
    """The vault's arrays, opened by zarr-python."""

    def __init__(self, vault: qkvault.Vault) -> None:
        self._vault = vault
        self._stack = vault.spec.stacks[0].name
        self._arrays: dict[str, Any] = {}

    def part(self, name: str, *index: Any) -> Callable[[int], Any]:
        """What reads some layers and heads of an example, cropped to its tokens."""

        def read(i: int) -> Any:
            e = self._vault[i]
            n = slice(e.length)
            tail = (n, n) if name == "attention" else (n, slice(None))
            return self._array(e.bucket, name)[(e.row, *index, *tail)]

        return read

    def _array(self, bucket: int, name: str) -> Any:
        key = f"b{bucket:04d}/{self._stack}/{name}"
        if key not in self._arrays:
            self._arrays[key] = zarr.open_array(self._vault.path / key, mode="r")
        return self._arrays[key]


def bench_reads(path: Path, reads: int) -> list[Bar]:
    """Patterns of reading, warm, in turn with zarr-python."""
    vault = qkvault.open(path)
    stack = vault.spec.stacks[0]
    layer, head = stack.layers[len(stack.layers) // 2], stack.heads // 2
    at, every, plain = stack.layers.index(layer), slice(None), Plain(vault)
    query, key = plain.part("query", at, head), plain.part("key", at, head)
    patterns: list[tuple[str, Callable[[int], Any], Callable[[int], Any], float]] = [
        (
            "one layer",
            lambda i: vault[i].attention[layer],
            plain.part("attention", at, every),
            0.15,
        ),
        ("all heads", lambda i: vault[i].attention[:], plain.part("attention", every, every), 0.25),
        (
            "one head's q, k",
            lambda i: (vault[i].query[layer, head], vault[i].key[layer, head]),
            lambda i: (query(i), key(i)),
            0.25,
        ),
    ]
    picks = np.random.default_rng(1).integers(0, len(vault), reads).tolist()
    bars = []
    for what, ours, theirs, bar in patterns:
        mine, other, my_cpu, other_cpu = compare(ours, theirs, picks)
        print(
            f"{what}: {mine * 1e6:.0f} us; zarr-python {other * 1e6:.0f} us (medians);"
            f" CPU {my_cpu * 1e6:.0f} and {other_cpu * 1e6:.0f} us (means)"
        )
        bars.append(Bar(f"{what}, median / zarr-python", mine / other, bar, "<="))
    bars.append(Bar("thumbnails of one example, reads", float(count_reads(vault)), 2, "<="))
    return [*bars, bench_overhead(path.parent), bench_scan(vault, layer, head, query, key)]
