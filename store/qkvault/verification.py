"""Checking a vault: every document, file size, tag and index; on request every byte and value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import xxhash

from . import disk
from .chunks import array_paths, group_name
from .commits import (
    COMMITS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    commit_path,
    commits_digest,
    parse_manifest,
)
from .damages import Damage, VerifyReport
from .documents import MAX_DOCUMENT_BYTES, sha256_hex
from .errors import InputError, VaultError
from .metadata import MAX_METADATA_BYTES
from .plan import EXAMPLE_ARRAYS
from .rederiving import compare_unit, refuse_unverifiable
from .remote import Place, locate
from .soundness import check_examples, check_shard
from .store import EXAMPLES, PLAN, REJECTS, Store, vault_state
from .vault import Vault

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .shards import ShardReceipt

_BLOCK: Final = 4 << 20
_NOBODY: Final[tuple[int, ...]] = ()
_NO_UNIT: Final = range(0)

ProgressCall = Callable[[int, int], None]


def verify(
    path: Place | str,
    *,
    full: bool = False,
    derive: bool = False,
    progress: ProgressCall | None = None,
) -> VerifyReport:
    """Check a vault.

    The quick check reads every document, and size, tag and index of every shard. The full one also
    hashes every file, decodes every chunk, and checks that values are finite, that attention rows
    sum to one and that records match their places.

    Args:
        path: the vault, or its export in one HDF5 file.
        full: read and decode every byte.
        derive: compute attention from queries and keys and compare it with what is stored: with
            the thumbnails, where the vault derives attention. See :mod:`qkvault.rederiving`.
        progress: called with (units done, units in all).

    Raises:
        VaultError: there is no vault at ``path``. Damage does not raise; it is reported.
        MissingArray: ``derive`` was asked for and there is nothing to compare.
    """
    folder = locate(path)
    if isinstance(folder, Path) and disk.is_file(folder):
        return _verify_export(folder, full, derive, progress)
    try:
        store = Store(folder, manifest=False)
    except VaultError as error:
        if vault_state(folder) in ("absent", "empty", "other"):
            raise
        return VerifyReport((Damage(PLAN, _reason(error, folder / PLAN)),), 0, 0, full)
    try:
        return _Verifier(store, full, derive, progress).run()
    finally:
        store.close()


def verify_units(path: Place, units: Iterable[int], *, full: bool) -> tuple[Damage, ...]:
    """Check some units of a vault, and nothing around them; errors as :func:`verify`."""
    store = Store(path, manifest=False)
    try:
        return _Verifier(store, full, False, None).check_units(units)
    finally:
        store.close()


def _verify_export(
    path: Path, full: bool, derive: bool, progress: ProgressCall | None
) -> VerifyReport:
    from .hdf5_check import check_hdf5
    from .hdf5_store import Hdf5Store

    store = Hdf5Store(path)
    try:
        vault = Vault.over(store)
        if derive:
            raise InputError(f"{path} is an export; derive from the vault that it was made of")
        damages = tuple(Damage(*found) for found in check_hdf5(vault, store, full, progress))
        return VerifyReport(damages, store.plan.units, path.stat().st_size, full)
    finally:
        store.close()


class _Verifier:
    """Goes through a vault's files and notes what is wrong with each."""

    def __init__(
        self, store: Store, full: bool, derive: bool, progress: ProgressCall | None
    ) -> None:
        self._store = store
        self._plan = store.plan
        self._path = store.path
        self._vault = Vault.over(store)
        self._full = full
        self._derived = 0.0 if derive else None
        self._progress = progress
        if derive:
            refuse_unverifiable(self._vault)
        self._damages: list[Damage] = []
        self._damaged: set[str] = set()
        self._placed = True
        self._bytes = 0
        self._hashes: list[str] = []
        self._stored: dict[str, int] = {}

    def run(self) -> VerifyReport:
        """Check everything."""
        self._check_metadata()
        self._check_rejects()
        self._check_example_shards()
        done = 0
        for unit in self._committed():
            self._note_missing(done, unit)
            done = unit + 1
            self._check_unit(unit)
            if self._derived is not None and self._placed:
                self._derived = max(self._derived, self._compare_derived(unit))
            if self._progress:
                self._progress(done, self._plan.units)
        self._note_missing(done, self._plan.units)
        self._check_manifest()
        return VerifyReport(
            tuple(self._damages), self._plan.units, self._bytes, self._full, self._derived
        )

    def check_units(self, units: Iterable[int]) -> tuple[Damage, ...]:
        """Check some units only, and nothing around them."""
        for unit in units:
            self._check_unit(unit)
        return tuple(self._damages)

    @contextmanager
    def _noting(
        self, path: str, examples: Sequence[int] = _NOBODY, units: range = _NO_UNIT
    ) -> Iterator[None]:
        """Note a :class:`VaultError` as damage of a file."""
        try:
            yield
        except VaultError as error:
            self._note(path, _reason(error, self._path / path), examples, units)

    def _note(
        self,
        path: str,
        reason: str,
        examples: Sequence[int] = _NOBODY,
        units: range = _NO_UNIT,
    ) -> None:
        self._damages.append(Damage(path, reason, tuple(examples), units))
        self._damaged.add(path)

    def _check_metadata(self) -> None:
        """Every ``zarr.json`` that the plan implies is named in it, and is what it names."""
        expected = {"zarr.json", f"{EXAMPLES}/zarr.json"}
        expected |= {f"{EXAMPLES}/{name}/zarr.json" for name in EXAMPLE_ARRAYS}
        for bucket in self._plan.buckets:
            group = group_name(bucket.length)
            expected.add(f"{group}/zarr.json")
            expected |= {f"{group}/{stack.name}/zarr.json" for stack in self._plan.spec.stacks}
            arrays = array_paths(self._plan.spec, bucket.lengths)
            expected |= {f"{group}/{path}/zarr.json" for path in arrays}
        for path in sorted(set(self._plan.metadata) - expected):
            self._note(f"{path!r:.200}", "the plan names it, but a vault has no such file")
        for path in sorted(expected):
            with self._noting(path, self._examples_below(path)):
                # The root holds all the others; it is hashed here and parsed by nobody.
                limit = MAX_METADATA_BYTES if "/" in path else MAX_DOCUMENT_BYTES
                data = disk.read_whole(self._path / path, limit)
                self._bytes += len(data)
                if sha256_hex(data) != self._plan.metadata.get(path):
                    raise VaultError("it is not the file that the plan names")

    def _examples_below(self, path: str) -> list[int]:
        """Examples of the bucket that a path lies in; none for other paths."""
        group = path.partition("/")[0]
        for bucket in self._plan.buckets:
            if group_name(bucket.length) == group:
                return self._examples(bucket.first_unit, bucket.first_unit + bucket.units)
        return []

    def _examples(self, first: int, end: int) -> list[int]:
        """Examples of the units from ``first`` up to ``end``."""
        found: list[int] = []
        try:
            for bucket in self._plan.buckets:
                low, high = (n - bucket.first_unit for n in (first, end))
                if high > 0 and low < bucket.units:
                    rows = self._vault.bucket_examples(bucket.length)
                    size = bucket.rows_per_unit
                    found += rows[max(low, 0) * size : high * size].tolist()
        except VaultError:  # told by the check of examples/place
            return []
        return found

    def _committed(self) -> list[int]:
        with self._noting(COMMITS):
            return self._store.committed_units()
        return []

    def _note_missing(self, first: int, end: int) -> None:
        """Note units without a commit, however many, in one line."""
        if first < end:
            others = f", and so are the {end - first - 1} after it" if end - first > 1 else ""
            reason = f"it is missing{others}: unfinished, or the commit was lost"
            missing = range(first, end)
            self._note(commit_path(first), reason, self._examples(first, end), missing)

    def _check_rejects(self) -> None:
        count, digest = self._plan.rejects
        if count:
            with self._noting(REJECTS):
                data = disk.read_whole(self._path / REJECTS, MAX_DOCUMENT_BYTES)
                if sha256_hex(data) != digest:
                    raise VaultError("it is not the file that the plan names")

    def _check_example_shards(self) -> None:
        """``examples/``; where it is damaged, values cannot be told to belong to an example."""
        sound = True
        for name in EXAMPLE_ARRAYS:
            if f"{EXAMPLES}/{name}/zarr.json" in self._damaged:
                sound = False
                continue
            with self._noting(f"{EXAMPLES}/{name}/zarr.json"):
                meta = self._store.examples(name).meta
                for number in range(meta.shards):
                    path = meta.shard_path(number)
                    with self._noting(path):
                        self._store.example_shard(name, number)
                        self._bytes += self._plan.shards[path].size
                        if self._full:
                            self._check_bytes(path, self._plan.shards[path])
                    sound = sound and path not in self._damaged
        self._placed = sound
        if self._full and sound:
            with self._noting(EXAMPLES):
                for name, reason, examples in check_examples(self._vault):
                    self._note(f"{EXAMPLES}/{name}", reason, examples)

    def _check_unit(self, unit: int) -> None:
        path = commit_path(unit)
        examples = self._examples(unit, unit + 1)
        alone = range(unit, unit + 1)
        with self._noting(path, examples, alone):
            commit = self._store.commit(unit)
            self._hashes.append(commit.hash)
            bucket = self._plan.unit_rows(unit)[0]
            for file, receipt in commit.files.items():
                array = file.partition("/")[2].rpartition("/")[0]
                self._stored[array] = self._stored.get(array, 0) + receipt.size
                if f"{group_name(bucket.length)}/{array}/zarr.json" not in self._damaged:
                    with self._noting(file, examples, alone):
                        self._check_shard(unit, array, file, receipt)

    def _check_shard(self, unit: int, array: str, file: str, receipt: ShardReceipt) -> None:
        bucket = self._plan.unit_rows(unit)[0]
        shard = self._store.unit_shard(bucket.length, array, unit - bucket.first_unit)
        self._bytes += receipt.size
        if not self._full:
            return
        if not self._placed:
            self._check_bytes(file, receipt)
            return
        meta = self._store.array_meta(bucket.length, array)
        examples: NDArray[np.int64] = np.array(self._examples(unit, unit + 1), np.int64)
        for reason, touched in check_shard(self._vault, shard, meta, array, examples):
            self._note(file, reason, touched, range(unit, unit + 1))
        if file not in self._damaged:
            self._check_bytes(file, receipt)

    def _compare_derived(self, unit: int) -> float:
        """Compare stored with derived attention; returns the largest difference."""
        largest = 0.0
        with self._noting(commit_path(unit), self._examples(unit, unit + 1)):
            for found in compare_unit(self._vault, unit):
                largest = max(largest, found.largest)
                if found.excess > 0:
                    self._note(
                        f"{group_name(self._plan.unit_rows(unit)[0].length)}/{found.array}",
                        f"layer {found.layer} differs from what queries and keys give by up to"
                        f" {found.largest:.2g}, {found.excess:.2g} more than rounding explains",
                        (found.example,),
                    )
        return largest

    def _check_bytes(self, file: str, receipt: ShardReceipt) -> None:
        """Hash a whole file."""
        digest = xxhash.xxh3_128()
        opened = disk.open_file(self._path / file)
        try:
            for start in range(0, opened.size, _BLOCK):
                digest.update(opened.read(start, min(_BLOCK, opened.size - start)))
        finally:
            opened.close()
        if digest.hexdigest() != receipt.xxh3_128:
            raise VaultError("its bytes are not those that were committed")

    def _check_manifest(self) -> None:
        with self._noting(MANIFEST):
            if not disk.look_at(self._path / MANIFEST):
                raise VaultError("it is missing: the vault is unfinished")
            data = disk.read_whole(self._path / MANIFEST, MAX_MANIFEST_BYTES)
            self._bytes += len(data)
            manifest = parse_manifest(data, self._plan, MANIFEST)
            whole = len(self._hashes) == self._plan.units
            if whole and commits_digest(self._hashes) != manifest.commits:
                raise VaultError("it was put over other commits")
            if whole and dict(manifest.bytes) != self._stored:
                raise VaultError("it tells other sizes than the commits do")


def _reason(error: VaultError, path: Place) -> str:
    """What a message says of a file, without the file's name in front."""
    text = str(error)
    for name in (str(path), path.name):
        text = text.removeprefix(f"{name} ")
    return text
