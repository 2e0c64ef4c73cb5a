"""Writing a vault, or part of it, as one HDF5 file that explains itself.

::

    /                        attributes: format, about, and the vault's provenance as JSON
    plan, manifest           the vault's documents, bytes of JSON
    examples/place           as in the vault: bucket length, row and tokens of each example
    examples/records ...     one line of JSON per example, and where each begins
    examples/id              the ids, for readers without QKVault
    b0064/encoder/attention  as in the vault; attributes say what the numbers mean

Every dataset is in chunks, packed with gzip (which any HDF5 reader has) and checked by Fletcher-32.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np

from . import disk
from .chunks import KIB, array_paths, group_name, is_column, row_dims, stack_of
from .commits import MANIFEST
from .copying import copy_part
from .documents import MAX_DOCUMENT_BYTES
from .encodings import encoding_of
from .hdf5_store import MANIFEST_DATASET, PLAN_DATASET
from .plan import EXAMPLE_ARRAYS
from .store import EXAMPLES, PLAN
from .table.terms import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from .arrays import Column
    from .blocks import BlockReader
    from .implied import ImpliedBlocks
    from .metadata import ArrayMeta
    from .parts import Part
    from .vault import Vault

_PACKED: Final[dict[str, Any]] = {
    "compression": "gzip",
    "compression_opts": 1,
    "shuffle": True,
    "fletcher32": True,
}
_BLOCK_BYTES: Final = 32 << 20
_ABOUT: Final = (
    "Attention weights and query, key and value vectors of a transformer. Examples stand in groups"
    " of equal padded length, b0064 and so on; examples/place gives each one's group, row and"
    " number of tokens, examples/records what is known of it. Axes: (example, layer, head,"
    " query_token, key_token). The attribute 'rule' of a dataset says how its numbers become"
    " values; cells beyond an example's own tokens mean nothing."
)


def write_hdf5(part: Part, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the part of a vault to a new file, whole or not at all.

    Raises:
        VaultError: the vault is damaged.
        ResourceError: the disk refuses.
    """
    with (
        disk.writing(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder,
    ):
        partial = Path(folder) / path.name
        if part.whole and disk.is_folder(part.source.path):
            _write_vault(part.source, partial)
        else:
            plain = Path(folder) / "part"
            with copy_part(part, plain, compress=False, progress=progress) as vault:
                _write_vault(vault, partial)
        partial.replace(path)


def _write_vault(vault: Vault, path: Path) -> None:
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = f"qkvault {vault.spec.format}"
        file.attrs["about"] = _ABOUT
        file.attrs["provenance"] = json.dumps(dict(vault.spec.provenance), sort_keys=True)
        for name, document in ((PLAN_DATASET, PLAN), (MANIFEST_DATASET, MANIFEST)):
            whole = disk.read_whole(vault.path / document, MAX_DOCUMENT_BYTES)
            data = np.frombuffer(whole, np.uint8)
            file.create_dataset(name, data=data, chunks=(min(len(data), KIB),), **_PACKED)
        for name in EXAMPLE_ARRAYS:
            _write_column(file, f"{EXAMPLES}/{name}", vault.store.examples(name))
        ids = _texts(record.id for record in vault.iter_records())
        file.create_dataset(f"{EXAMPLES}/id", data=ids, dtype=h5py.string_dtype())
        for bucket in vault.store.plan.buckets:
            for array in array_paths(vault.spec, bucket.lengths):
                _write_array(file, vault, bucket.length, array)


def _write_array(file: Any, vault: Vault, length: int, array: str) -> None:
    path = f"{group_name(length)}/{array}"
    stack, _, name = array.rpartition("/")
    if is_column(array):
        dataset = _write_column(file, path, vault.store.column(length, array))
    else:
        reader = vault.store.rows(length, array).blocks()
        dataset = _create(file, path, reader.meta)
        for rows, codes in _blocks(reader):
            dataset[rows.start : rows.stop] = codes
        dataset.attrs.update(encoding_of(vault.spec, name))
        if reader.meta.may_be_empty:
            dataset.attrs["beside"] = stack_of(vault.spec, stack).beside
    if name == "logits":
        dataset.attrs["label_names"] = _texts(vault.spec.label_names)
    else:
        dataset.attrs["layers"] = stack_of(vault.spec, stack).layers
        dataset.attrs["scaling"] = stack_of(vault.spec, stack).scaling
        if widths := stack_of(vault.spec, stack).widths_of(name):
            dataset.attrs["widths"] = widths
    if name == "metrics":
        dataset.attrs["metrics"] = _texts(vault.spec.metrics)
    for axis, dim in enumerate(("example", *row_dims(name))):
        dataset.dims[axis].label = dim


def _texts(texts: Iterable[str]) -> list[str]:
    """Texts as HDF5 can hold them."""
    return [storable(text).replace("\0", "?") for text in texts]


def _write_column(file: Any, path: str, column: Column) -> Any:
    dataset = _create(file, path, column.meta)
    count, step = column.meta.shape[0], column.meta.chunk[0]
    for first in range(0, count, step):
        last = min(first + step, count)
        dataset[first:last] = column.rows(first, last)
    return dataset


def _create(file: Any, path: str, meta: ArrayMeta) -> Any:
    chunk = tuple(min(c, s) for c, s in zip(meta.chunk, meta.shape, strict=True))
    return file.create_dataset(path, meta.shape, meta.dtype, chunks=chunk, **_PACKED)


def _blocks(reader: BlockReader | ImpliedBlocks) -> Iterator[tuple[range, NDArray[Any]]]:
    """All rows of an array as stored, in whole chunks, some megabytes at a time."""
    count, *row = reader.meta.shape
    group = reader.meta.chunk[0]
    row_bytes = math.prod(row) * reader.meta.dtype.itemsize
    step = group * max(1, _BLOCK_BYTES // (row_bytes * group))
    for first in range(0, count, step):
        rows = range(first, min(first + step, count))
        layers, heads = range(row[0]), range(row[1])
        yield rows, reader.read(np.array(rows), layers, heads, raw=True)
