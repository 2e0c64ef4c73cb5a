"""Checking an export in one HDF5 file, as far as an export can be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .chunks import array_paths, group_name
from .errors import VaultError
from .soundness import check_examples, check_shard
from .store import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .hdf5_store import Hdf5Store
    from .vault import Vault

Finding = tuple[str, str, tuple[int, ...]]


def check_hdf5(
    vault: Vault, store: Hdf5Store, full: bool, progress: Callable[[int, int], None] | None
) -> Iterator[Finding]:
    """What is wrong: (dataset, reason, examples it touches).

    The quick check looks at every dataset's type, shape and filters and that no chunk is missing;
    the full one also unpacks every chunk, which checks its sum, and judges the values.
    """
    try:
        for array, reason, examples in check_examples(vault):
            yield f"{EXAMPLES}/{array}", reason, examples
        lengths = vault.places[:, 0]
    except VaultError as error:
        yield EXAMPLES, str(error), ()
        return
    buckets = vault.store.plan.buckets
    for done, bucket in enumerate(buckets):
        if progress is not None:
            progress(done, len(buckets))
        examples_here = np.flatnonzero(lengths == bucket.length).astype(np.int64)
        for array in array_paths(vault.spec, bucket.lengths):
            path = f"{group_name(bucket.length)}/{array}"
            try:
                store.refuse_missing_chunks(bucket.length, array)
                if full:
                    meta = store.array_meta(bucket.length, array)
                    shard = store.unit_shard(bucket.length, array, 0)
                    for reason, examples in check_shard(vault, shard, meta, array, examples_here):
                        yield path, reason, examples
            except VaultError as error:
                yield path, str(error), tuple(examples_here.tolist())
    if progress is not None:
        progress(len(buckets), len(buckets))
