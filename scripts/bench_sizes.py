"""What a vault takes, against float32 padded and unpadded, and against gzip in HDF5."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import qkvault
from bench_corpus import Bar, extract_mrpc
from qkvault.table import Table

PADDED = 128
FEW = 64


def bench_sizes(path: Path) -> list[Bar]:
    """Sizes of a vault whose examples have at most 128 tokens, as kept by default."""
    with qkvault.open(path) as vault:
        stack, lengths = vault.spec.stacks[0], vault.lengths.astype(np.int64)
        arrays: Any = vault.info()["arrays"]
        attention = sum(a["bytes"] for a in arrays if a["name"] == "attention")
        maps = len(stack.layers) * stack.heads
        vectors = len(stack.layers) * (
            (stack.heads + stack.key_heads) * stack.head_dim + stack.key_heads * stack.value_dim
        )
        padded = 4 * len(vault) * maps * PADDED**2
        unpadded = 4 * maps * int((lengths**2).sum())
        vector_bytes = 4 * len(vault) * vectors * PADDED
        small = 4 * len(vault) * (maps * len(vault.spec.metrics) + vault.spec.logits)
        whole = padded + vector_bytes + small
        stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        with tempfile.TemporaryDirectory() as folder:
            Table(vault, folder=Path(folder)).build()
            stored += sum(file.stat().st_size for file in Path(folder).iterdir())
    print(
        f"whole vault and table: {stored / len(lengths) / 1e3:.0f} kB per example;"
        f" {(padded + vector_bytes) / stored:.2f} times smaller than attention, queries, keys and"
        " values alone, padded"
    )
    return [
        Bar("attention, times smaller than padded float32", padded / attention, 12.0, ">="),
        Bar("attention, times smaller than unpadded float32", unpadded / attention, 2.5, ">="),
        Bar("all arrays and table, times smaller than padded", whole / stored, 7.0, ">="),
    ]


def bench_errors(scratch: Path) -> list[Bar]:
    """Largest error of attention, and gzip in HDF5 over the same maps; nothing without MRPC."""
    exact = extract_mrpc(scratch / "exact", FEW, precision="float32", arrays=("attention",))
    usual = extract_mrpc(scratch / "usual", FEW, arrays=("attention",))
    if exact is None or usual is None:
        return []
    largest = 0.0
    with qkvault.open(exact) as true, qkvault.open(usual) as kept:
        maps = [e.attention[:] for e in true]
        for values, example in zip(maps, kept, strict=True):
            largest = max(largest, float(np.abs(example.attention[:] - values).max()))
        arrays: Any = kept.info()["arrays"]
        size = next(a["bytes"] for a in arrays if a["name"] == "attention")
    return [
        Bar("attention, largest error", largest, 7.7e-6, "<="),
        Bar("attention, times smaller than HDF5 with gzip", _gzip_bytes(maps) / size, 1.0, ">="),
    ]


def _gzip_bytes(maps: list[np.ndarray[Any, Any]]) -> int:
    """Bytes of float32 maps padded to 128 tokens, a chunk per layer, gzip 4 and shuffle."""
    shape = (len(maps), *maps[0].shape[:2], PADDED, PADDED)
    with tempfile.TemporaryDirectory() as folder, h5py.File(f"{folder}/x.h5", "w") as file:
        packed = file.create_dataset(
            "attention",
            shape,
            np.float32,
            chunks=(1, 1, *shape[2:]),
            compression="gzip",
            compression_opts=4,
            shuffle=True,
        )
        for row, values in enumerate(maps):
            tokens = values.shape[-1]
            packed[row, :, :, :tokens, :tokens] = values
        return int(packed.id.get_storage_size())
