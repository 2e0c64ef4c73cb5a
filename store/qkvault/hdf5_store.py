"""A vault in one HDF5 file: read through the same code as a folder, chunk by chunk.

The file has the arrays, the plan and the manifest of a vault under the same names; see
:mod:`qkvault.hdf5_export`. Chunks carry HDF5's own checksum (Fletcher-32), metadata those of its
format. Links out of the file, data kept elsewhere and unknown filters are refused.
"""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from .arrays import Column, RowReader
from .cache import Cache
from .chunks import group_name, place_width, row_shape, stack_of
from .codecs import DamagedChunk
from .commits import MAX_MANIFEST_BYTES, Commit, Manifest, parse_manifest
from .encodings import max_error, stored_dtype
from .errors import QKVaultError, VaultError
from .metadata import FILLS, MAX_CHUNK_BYTES, ArrayMeta
from .plan import MAX_PLAN_BYTES, Plan, parse_plan
from .store import EXAMPLES, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from .codecs import Buffer
    from .remote import Place
    from .shards import Shard
    from .spec import Json

PLAN_DATASET: Final = "plan"
MANIFEST_DATASET: Final = "manifest"
_FILTERS: Final = {1, 2, 3}  # H5Z_FILTER_DEFLATE, _SHUFFLE, _FLETCHER32
_FLETCHER: Final = 3
_DTYPES: Final = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "uint16", "int16", "float16", "float32", "int32", "uint64")
}
_KEPT_CHUNKS: Final = 256
_KEPT_BYTES: Final = 32 << 20


class Hdf5Store(Store):
    """The arrays of a vault in an HDF5 file, for reading. Threads may share it, forks go on."""

    def __init__(self, path: Path) -> None:
        """Read plan and manifest.

        Raises:
            VaultError: not a vault's export, damaged, or of another format version.
        """
        self.path = path
        self._file = _File(path)
        plan = self._file.document(PLAN_DATASET, MAX_PLAN_BYTES)
        manifest = self._file.document(MANIFEST_DATASET, MAX_MANIFEST_BYTES)
        self.plan: Plan = parse_plan(plan, f"{path} (plan)")
        self.manifest: Manifest | None = parse_manifest(manifest, self.plan, f"{path} (manifest)")
        self._kept: Cache[Any, Any] = Cache(_KEPT_CHUNKS, _KEPT_BYTES)
        self._readers = {}

    def _stored_rows(self, length: int, array: str) -> RowReader:
        spec = self.plan.spec
        stack, _, name = array.rpartition("/")
        bucket = self.plan.bucket(length)
        shape = (bucket.rows, *row_shape(spec, array, bucket.lengths))
        meta = self._meta(f"{group_name(length)}/{array}", shape, stored_dtype(spec, name))
        layers = stack_of(spec, stack).layers
        return RowReader(meta, self._shard, layers, max_error(spec, name))

    def column(self, length: int, array: str) -> Column:
        """Reader of a bucket's array without token axes: ``logits``, ``encoder/metrics``."""
        spec = self.plan.spec
        bucket = self.plan.bucket(length)
        shape = (bucket.rows, *row_shape(spec, array, bucket.lengths))
        kind = stored_dtype(spec, array.rpartition("/")[2])
        meta = self._meta(f"{group_name(length)}/{array}", shape, kind)
        return Column(meta, self._shard, self._kept)

    def examples(self, name: str) -> Column:
        """Reader of ``place``, ``offset``, ``records``, ``id_hash`` or ``id_row``."""
        count = self.plan.examples
        shape, dtype = {
            "place": ((count, place_width(self.plan.spec)), "int32"),
            "offset": ((count + 1,), "uint64"),
            "records": (None, "uint8"),
            "id_hash": ((count,), "uint64"),
            "id_row": ((count,), "int32"),
        }[name]
        return Column(self._meta(f"{EXAMPLES}/{name}", shape, dtype), self._shard, self._kept)

    def unit_shard(self, length: int, array: str, number: int) -> Shard:
        """All chunks of a bucket's array; there is only this one, whatever ``number`` is."""
        return self._shard(self.array_meta(length, array), number)

    def refuse_missing_chunks(self, length: int, array: str) -> None:
        """Look for chunks that were never written, without reading any.

        Raises:
            VaultError: the array is missing, damaged or not whole.
        """
        meta = self.array_meta(length, array)
        with _reading(self.path):
            found = self._file.dataset(meta.path).id.get_num_chunks()
        if found != meta.chunks_per_shard:
            raise VaultError(f"{meta.path} has {found} of {meta.chunks_per_shard} chunks")

    def commit(self, unit: int) -> Commit:
        """There are none: an export is made whole or not at all."""
        raise VaultError(f"{self.path} is an export, whose parts have no commits")

    def close(self) -> None:
        """Let go of the file. A later read opens it again."""
        self._kept.clear()
        self._file.close()

    def _meta(self, path: str, shape: tuple[int, ...] | None, dtype: str) -> ArrayMeta:
        kept: ArrayMeta | None = self._kept.get(("meta", path))
        if kept is not None:
            return kept
        with _reading(self.path):
            meta = _checked_meta(self._file.dataset(path), path)
        if meta.dtype != dtype or (shape is not None and meta.shape != shape):
            raise VaultError(f"{self.path} ({path}) has another shape or type than the plan says")
        self._kept.put(("meta", path), meta)
        return meta

    def _shard(self, meta: ArrayMeta, number: int) -> Shard:
        # Readers ask a shard for entries and bytes only, and this answers both.
        shard: Any = _Hdf5Shard(self._file, meta)
        made: Shard = shard
        return made


class _File:
    """The open file; a forked child opens its own, since HDF5's state does not survive a fork."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: Any = None
        self._pid = 0

    def dataset(self, path: str) -> Any:
        """A dataset whose data lie in this file; every link on the way is a plain one."""
        node: Any = self._handle()
        for name in path.split("/"):
            if not isinstance(node, h5py.Group) or not isinstance(
                node.get(name, getlink=True), h5py.HardLink
            ):
                raise VaultError(f"{self.path} has no dataset {path} of its own")
            node = node[name]
        if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
            raise VaultError(f"{self.path} has no dataset {path} of its own")
        return node

    def document(self, name: str, limit: int) -> bytes:
        """The bytes of a JSON document."""
        with _reading(self.path):
            dataset = self.dataset(name)
            if dataset.dtype != np.uint8 or dataset.ndim != 1 or dataset.size > limit:
                raise VaultError(f"{self.path} ({name}) is not a document this release reads")
            _check_filters(dataset)
            return bytes(dataset[:].tobytes())

    def close(self) -> None:
        """Close it; the next use opens it again."""
        opened, self._open = self._open, None
        if opened is not None and self._pid == os.getpid():
            opened.close()

    def _handle(self) -> Any:
        if self._open is None or self._pid != os.getpid():
            with _reading(self.path):
                self._open, self._pid = h5py.File(self.path, "r"), os.getpid()
        return self._open


class _Hdf5Shard:
    """A dataset in the place of a shard: its chunks, numbered in C order, at made-up offsets."""

    def __init__(self, file: _File, meta: ArrayMeta) -> None:
        self.path = f"{file.path} ({meta.path})"
        self._file = file
        self._meta = meta
        self._chunk_bytes = math.prod(meta.chunk) * meta.dtype.itemsize

    def entry(self, number: int) -> tuple[int, int]:
        """Offset and size of a chunk, as if all chunks followed each other unpacked."""
        return number * self._chunk_bytes, self._chunk_bytes

    def read(self, offset: int, size: int) -> bytes:
        """Whole chunks, one after the other.

        Raises:
            VaultError: a chunk is missing or damaged.
        """
        first = offset // self._chunk_bytes
        with _reading(self.path):
            dataset = self._file.dataset(self._meta.path)
            return b"".join(
                self._chunk(dataset, number)
                for number in range(first, first + size // self._chunk_bytes)
            )

    def _chunk(self, dataset: Any, number: int) -> bytes:
        meta = self._meta
        place = np.unravel_index(number, meta.grid)
        corner = tuple(int(at) * size for at, size in zip(place, meta.chunk, strict=True))
        info = dataset.id.get_chunk_info_by_coord(corner)
        if not info.size or info.filter_mask:
            raise VaultError(f"{self.path} is damaged: chunk {number} is missing from it")
        window = tuple(
            slice(at, min(at + size, end))
            for at, size, end in zip(corner, meta.chunk, meta.shape, strict=True)
        )
        values: NDArray[Any] = dataset[window]
        if values.shape != meta.chunk:  # rows beyond the last example
            padded = np.full(meta.chunk, meta.fill, meta.dtype)
            padded[tuple(slice(size) for size in values.shape)] = values
            values = padded
        return values.tobytes()


class _AsRead:
    """The codec of chunks that HDF5 has unpacked and checked already."""

    @property
    def document(self) -> list[Json]:
        return []

    def encode(self, chunk: NDArray[Any]) -> list[Buffer]:
        return [chunk.tobytes()]

    def unpack(self, source: Buffer, size: int) -> Buffer:
        if len(source) != size:
            raise DamagedChunk(f"{size} bytes were expected")
        return source

    def decode(self, source: Buffer, out: NDArray[Any]) -> None:
        unpacked = self.unpack(source, out.nbytes)
        out.reshape(-1).view(np.uint8)[:] = np.frombuffer(unpacked, np.uint8)


def _checked_meta(dataset: Any, path: str) -> ArrayMeta:
    shape, chunk = tuple(dataset.shape), dataset.chunks
    dtype = _DTYPES.get(dataset.dtype.name)
    if dtype is None or dataset.dtype != dtype or chunk is None or len(shape) not in (1, 2, 4, 5):
        raise VaultError(f"dataset {path} has another type or layout than an export's")
    fits = all(0 < c <= s for c, s in zip(chunk, shape, strict=True))
    whole = len(shape) == 1 or chunk[-1] == shape[-1]
    if not (fits and whole) or math.prod(chunk) * dtype.itemsize > MAX_CHUNK_BYTES:
        raise VaultError(f"dataset {path} has chunks that no export has")
    _check_filters(dataset)
    grid = tuple(-(-s // c) for s, c in zip(shape, chunk, strict=True))
    shard = tuple(g * c for g, c in zip(grid, chunk, strict=True))
    return ArrayMeta(
        path=path,
        shape=shape,
        shard=shard,
        chunk=tuple(chunk),
        dtype=dtype,
        codec=_AsRead(),
        dims=("",) * len(shape),
        grid=grid,
        fill=FILLS.get(dtype.name, 0.0),
        may_be_empty="beside" in dataset.attrs,
    )


def _check_filters(dataset: Any) -> None:
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(n)[0] for n in range(properties.get_nfilters())}
    if not filters <= _FILTERS or _FLETCHER not in filters:
        raise VaultError(f"dataset {dataset.name} lacks its checksum, or has unknown filters")


@contextmanager
def _reading(path: Place | str) -> Iterator[None]:
    """Tell what HDF5 raises, which may be almost anything, as damage."""
    try:
        yield
    except QKVaultError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise VaultError(f"{path} is not a vault, nor a sound export: {reason:.200}") from error
