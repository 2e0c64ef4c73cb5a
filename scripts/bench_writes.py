"""Writing: uncompressed against write(2), and the default codecs against zarr-python."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench_corpus import Bar, Data, write_vault

ROUNDS = 5


def bench_writes(scratch: Path, data: Data) -> list[Bar]:
    """Uncompressed against write(2); default codecs against zarr-python writing the same arrays."""
    walls, cpus = [], []
    for attempt in range(ROUNDS):
        _, wall, cpu, kept = write_vault(scratch / f"plain{attempt}", data, compress=False)
        raw_wall, raw_cpu = raw_write(scratch / f"raw{attempt}", kept)
        walls.append(raw_wall / wall)
        cpus.append(cpu / raw_cpu)
        del kept
        for name in (f"plain{attempt}", f"raw{attempt}"):
            shutil.rmtree(scratch / name)
    print(f"uncompressed write: {statistics.median(cpus):.2f} times the CPU of write(2)")
    path, wall, cpu, kept = write_vault(scratch / "packed", data, compress=True)
    raw = sum(a.nbytes for _, arrays in kept for a in arrays.values())
    zarr_wall, zarr_cpu = zarr_write(scratch / "zarr", path, kept)
    print(
        f"default codecs: {raw / 1e6:.0f} MB raw, {cpu / raw * 1e9:.2f} CPU s/GB,"
        f" {raw / wall / 1e6:.0f} MB/s, cores used {cpu / wall:.2f}; zarr-python"
        f" {zarr_cpu / raw * 1e9:.2f} CPU s/GB, {raw / zarr_wall / 1e6:.0f} MB/s"
    )
    return [
        Bar("uncompressed write, speed / write(2)", statistics.median(walls), 0.6, ">="),
        Bar("default codecs, CPU / zarr-python", cpu / zarr_cpu, 0.5, "<="),
        Bar("default codecs, cores used", cpu / wall, 1.5, ">="),
    ]


def raw_write(path: Path, kept: list[Any]) -> tuple[float, float]:
    """Wall and CPU seconds to write(2) the same arrays to as many files."""
    path.mkdir()
    start, used = time.perf_counter(), time.process_time()
    for unit, arrays in kept:
        for name, values in arrays.items():
            fd = os.open(path / f"{unit.id}-{name.replace('/', '-')}", os.O_WRONLY | os.O_CREAT)
            view = memoryview(values.reshape(-1).view(np.uint8))
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
            os.close(fd)
    return time.perf_counter() - start, time.process_time() - used


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
