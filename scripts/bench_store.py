"""Measure the store against plain zarr-python on the same vault, and against raw writes.

    python scripts/bench_store.py                     # a made vault of MiniLM's shape
    python scripts/bench_store.py --vault mrpc.vault  # reads of a real one

Every figure is a ratio of two measurements taken in turn in one process, next to its bar.
"""

from __future__ import annotations

import argparse
import gc
import json
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
from qkvault import Record, Stack, VaultSpec

if TYPE_CHECKING:
    from collections.abc import Callable

LAYERS, HEADS, WIDTH = 6, 12, 32
BLOCK = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vault", type=Path, help="read this vault instead of a made one")
    parser.add_argument("--examples", type=int, default=400, help="examples of the made vault")
    parser.add_argument("--reads", type=int, default=150, help="reads per pattern")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where to write")
    options = parser.parse_args()
    rows: list[tuple[str, float, float, str]] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        data = Data(options.examples)
        rows += bench_writes(Path(scratch), data)
        vault = options.vault or write_vault(Path(scratch) / "read.vault", data, compress=True)[0]
        rows += bench_reads(vault, options.reads)
    rows += bench_import()
    print(f"{'what':<52}{'measured':>10}  bar")
    for what, measured, bar, sense in rows:
        verdict = "" if (measured <= bar if sense == "<=" else measured >= bar) else "  MISSED"
        print(f"{what:<52}{measured:>10.3f}  {sense} {bar}{verdict}")


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


def bench_writes(scratch: Path, data: Data) -> list[tuple[str, float, float, str]]:
    """Uncompressed against write(2); default codecs against zarr-python writing the same arrays."""
    plain = []
    for attempt in range(3):
        _, wall, _, kept = write_vault(scratch / f"plain{attempt}", data, compress=False)
        plain.append(raw_write(scratch / f"raw{attempt}", kept) / wall)
    path, wall, cpu, kept = write_vault(scratch / "packed", data, compress=True)
    raw = sum(a.nbytes for _, arrays in kept for a in arrays.values())
    zarr_wall, zarr_cpu = zarr_write(scratch / "zarr", path, kept)
    print(
        f"default codecs: {raw / 1e6:.0f} MB raw, {cpu / raw * 1e9:.2f} CPU s/GB,"
        f" {raw / wall / 1e6:.0f} MB/s, cores used {cpu / wall:.2f}; zarr-python"
        f" {zarr_cpu / raw * 1e9:.2f} CPU s/GB, {raw / zarr_wall / 1e6:.0f} MB/s"
    )
    return [
        ("uncompressed write, speed / write(2) on tmpfs", max(plain), 0.6, ">="),
        ("default codecs, CPU / zarr-python", cpu / zarr_cpu, 0.5, "<="),
        ("default codecs, cores used", cpu / wall, 1.5, ">="),
    ]


def raw_write(path: Path, kept: list[Any]) -> float:
    """Seconds to write(2) the same arrays to as many files."""
    path.mkdir()
    start = time.perf_counter()
    for unit, arrays in kept:
        for name, values in arrays.items():
            fd = os.open(path / f"{unit.id}-{name.replace('/', '-')}", os.O_WRONLY | os.O_CREAT)
            view = memoryview(values.reshape(-1).view(np.uint8))
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            os.close(fd)
    return time.perf_counter() - start


def zarr_write(path: Path, vault: Path, kept: list[Any]) -> tuple[float, float]:
    """Wall and CPU seconds of zarr-python writing the same arrays under the same metadata."""
    for document in vault.glob("b*/**/zarr.json"):
        target = path / document.relative_to(vault)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(document.read_bytes())
    plan = json.loads((vault / "plan.json").read_bytes())
    per_unit = {b["length"]: b["rows_per_unit"] for b in plan["buckets"]}
    firsts: dict[str, int] = {}
    wall = cpu = 0.0
    for unit, arrays in kept:
        first = firsts.setdefault(unit.bucket, unit.id)
        row = (unit.id - first) * per_unit[unit.length]
        for name, values in arrays.items():
            array: Any = zarr.open_array(path / unit.bucket / name, mode="r+")
            start, used = time.perf_counter(), time.process_time()
            array[row : row + len(values)] = values
            wall += time.perf_counter() - start
            cpu += time.process_time() - used
    return wall, cpu


def bench_reads(path: Path, reads: int) -> list[tuple[str, float, float, str]]:
    """Patterns of reading, warm, in turn with zarr-python."""
    vault = qkvault.open(path)
    random = np.random.default_rng(1)
    picks = random.integers(0, len(vault), reads).tolist()
    stack = vault.spec.stacks[0]
    layer, head = stack.layers[len(stack.layers) // 2], stack.heads // 2
    at = stack.layers.index(layer)
    arrays: dict[str, Any] = {}

    def plain(example: qkvault.Example, name: str) -> Any:
        key = f"b{example.bucket:04d}/{stack.name}/{name}"
        if key not in arrays:
            arrays[key] = zarr.open_array(path / key, mode="r")
        return arrays[key]

    def zarr_part(name: str, *index: Any) -> Callable[[int], Any]:
        def read(i: int) -> Any:
            e = vault[i]
            n = e.length
            tail = (slice(n), slice(n)) if name == "attention" else (slice(n), slice(None))
            return plain(e, name)[(e.row, *index, *tail)]

        return read

    def both(*readers: Callable[[int], Any]) -> Callable[[int], Any]:
        return lambda i: [read(i) for read in readers]

    every = slice(None)
    rows = []
    for what, ours, theirs, bar in (
        ("one layer", lambda i: vault[i].attention[layer], zarr_part("attention", at, every), 0.15),
        (
            "all heads",
            lambda i: vault[i].attention[:, :],
            zarr_part("attention", every, every),
            0.25,
        ),
        (
            "one head's q, k",
            lambda i: (vault[i].query[layer, head], vault[i].key[layer, head]),
            both(zarr_part("query", at, head), zarr_part("key", at, head)),
            0.25,
        ),
    ):
        mine, other, _, _ = compare(ours, theirs, picks)
        print(f"{what}: {mine * 1e6:.0f} us; zarr-python {other * 1e6:.0f} us (medians)")
        rows.append((f"{what}, median / zarr-python", mine / other, bar, "<="))
    rows.append(("thumbnails of one example, reads", float(count_reads(vault)), 2, "<="))
    rows.append(bench_overhead(path.parent if path.parent.is_dir() else Path()))
    rows.append(
        bench_scan(vault, layer, head, zarr_part("query", at, head), zarr_part("key", at, head))
    )
    return rows


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


def bench_overhead(folder: Path) -> tuple[str, float, float, str]:
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
        return ("per call, CPU / zarr-python", mine / other, 0.02, "<=")


def bench_scan(
    vault: qkvault.Vault, layer: int, head: int, query: Any, key: Any
) -> tuple[str, float, float, str]:
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
    return ("scan of one head's q, k: times faster", other / mine, 5.0, ">=")


def bench_import() -> list[tuple[str, float, float, str]]:
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
    return [("import qkvault / import zarr", min(ours) / min(theirs), 0.3, "<=")]


if __name__ == "__main__":
    main()
