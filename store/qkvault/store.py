"""A vault's folder: its documents checked once, its arrays and shards opened when first touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from . import disk
from .arrays import Column, RowReader
from .axes import MAPS
from .cache import Cache
from .chunks import (
    array_paths,
    group_name,
    is_column,
    is_implied,
    place_width,
    row_shape,
    stack_of,
)
from .commits import (
    COMMITS,
    MANIFEST,
    MAX_COMMIT_BYTES,
    MAX_MANIFEST_BYTES,
    Commit,
    Manifest,
    commit_path,
    parse_commit,
    parse_manifest,
)
from .documents import MAX_DOCUMENT_BYTES, canonical_bytes, sha256_hex
from .encodings import max_error, stored_dtype
from .errors import VaultError
from .implied import ImpliedThumbnails
from .metadata import MAX_METADATA_BYTES, ArrayMeta, parse_array, root_members
from .plan import MAX_PLAN_BYTES, Plan, VaultState, parse_plan
from .remote import Place, RemotePath, locate
from .shards import Shard, ShardReceipt

if TYPE_CHECKING:
    from .spec import Json

PLAN: Final = "plan.json"
ROOT: Final = "zarr.json"
EXAMPLES: Final = "examples"
REJECTS: Final = "rejects.jsonl"

_OPEN_SHARDS: Final = 128
_KEPT_COMMITS: Final = 1024
_KEPT_CHUNKS: Final = 256
_KEPT_BYTES: Final = 32 << 20


def vault_state(path: Place | str) -> VaultState:
    """What stands at a path, without opening it.

    Returns:
        ``"absent"``, ``"empty"`` (a folder with nothing in it), ``"unfinished"`` or ``"complete"``
        (a vault), or ``"other"`` (a file, or a folder that is not a vault).

    Raises:
        VaultError: the system does not tell.
    """
    folder = locate(path)
    if not disk.is_folder(folder):
        return "other" if disk.look_at(folder, follow=False) else "absent"
    if disk.is_file(folder / PLAN):
        return "complete" if disk.is_file(folder / MANIFEST) else "unfinished"
    return "other" if disk.list_folder(folder) else "empty"


class Store:
    """The files of one vault, for reading. Threads may share it, and so may a forked child."""

    def __init__(self, path: Place, *, manifest: bool = True) -> None:
        """Read plan and manifest; nothing that grows with the number of examples.

        Args:
            manifest: False leaves the manifest alone, for those who check it themselves.

        Raises:
            VaultError: missing, not a vault, damaged, or of another format version.
        """
        self.path = path
        self.plan: Plan = parse_plan(self._read_plan(), f"{path / PLAN}")
        self.manifest: Manifest | None = None
        data = disk.read_if_there(path / MANIFEST, MAX_MANIFEST_BYTES) if manifest else None
        if data is not None:
            self.manifest = parse_manifest(data, self.plan, f"{path / MANIFEST}")
        self._members: dict[str, Any] = {}
        self._shards: Cache[tuple[str, int], Shard] = Cache(_OPEN_SHARDS)
        self._commits: Cache[int, Commit] = Cache(_KEPT_COMMITS)
        self._chunks: Cache[tuple[str, int], Any] = Cache(_KEPT_CHUNKS, _KEPT_BYTES)
        self._readers: dict[tuple[int, str], RowReader | ImpliedThumbnails] = {}
        self._columns: dict[str, Column] = {}

    def rows(self, length: int, array: str) -> RowReader | ImpliedThumbnails:
        """Reader of a bucket's five-axis array, such as (64, ``encoder/attention``)."""
        reader = self._readers.get((length, array))
        if reader is None:
            reader = self._readers.setdefault((length, array), self._make_reader(length, array))
        return reader

    def _make_reader(self, length: int, array: str) -> RowReader | ImpliedThumbnails:
        if is_implied(self.plan.spec, array, self.plan.bucket(length).lengths):
            attention = array.rpartition("/")[0] + "/attention"
            return ImpliedThumbnails(self._stored_rows(length, attention))
        return self._stored_rows(length, array)

    def _stored_rows(self, length: int, array: str) -> RowReader:
        meta = self.meta(f"{group_name(length)}/{array}")
        self._check_meta(meta, length, array)
        stack, _, name = array.rpartition("/")
        layers = stack_of(self.plan.spec, stack).layers
        return RowReader(meta, self._unit_shard, layers, max_error(self.plan.spec, name))

    def column(self, length: int, array: str) -> Column:
        """Reader of a bucket's array without token axes: ``logits``, ``encoder/metrics``."""
        path = f"{group_name(length)}/{array}"
        column = self._columns.get(path)
        if column is None:
            meta = self.meta(path)
            self._check_meta(meta, length, array)
            column = self._columns.setdefault(path, Column(meta, self._unit_shard, self._chunks))
        return column

    def logits(self, length: int) -> Column:
        """Reader of a bucket's logits."""
        return self.column(length, "logits")

    def examples(self, name: str) -> Column:
        """Reader of ``place``, ``offset``, ``records``, ``id_hash`` or ``id_row``."""
        column = self._columns.get(name)
        if column is None:
            meta = self.meta(f"{EXAMPLES}/{name}")
            self._check_examples(meta, name)
            column = self._columns.setdefault(name, Column(meta, self._example_shard, self._chunks))
        return column

    def meta(self, path: str) -> ArrayMeta:
        """An array's metadata, its digest checked against the plan.

        Raises:
            VaultError: missing, damaged, or not an array this release reads.
        """
        relative = f"{path}/zarr.json"
        if isinstance(self.path, RemotePath):
            data = canonical_bytes(self._root_members().get(path, {}))
        else:
            data = disk.read_whole(self.path / relative, MAX_METADATA_BYTES)
        self._check_digest(data, relative)
        return parse_array(data, path, str(self.path / relative))

    def _root_members(self) -> dict[str, Any]:
        """The root's copies of all metadata: one request where each file would be one."""
        if not self._members:
            data = disk.read_whole(self.path / ROOT, MAX_DOCUMENT_BYTES)
            self._check_digest(data, ROOT)
            self._members = root_members(data, str(self.path / ROOT))
        return self._members

    def _check_digest(self, data: bytes, relative: str) -> None:
        if sha256_hex(data) != self.plan.metadata.get(relative):
            raise VaultError(
                f"{self.path / relative} is damaged: it is not the file that the plan names"
            )

    def commit(self, unit: int) -> Commit:
        """The commit of a unit.

        Raises:
            VaultError: the unit was never finished, or its commit is damaged.
        """
        kept = self._commits.get(unit)
        if kept is not None:
            return kept
        file = self.path / commit_path(unit)
        data = disk.read_if_there(file, MAX_COMMIT_BYTES)
        if data is None:
            word = (
                "is missing" if self.manifest else "does not exist: this part was never extracted"
            )
            raise VaultError(f"{file} {word}")
        return self._commits.put(unit, parse_commit(data, self.plan, unit, str(file)))

    def rejects(self) -> list[dict[str, Json]]:
        """Rows of the data that were left out; as :meth:`qkvault.Vault.rejects`."""
        count, digest = self.plan.rejects
        if not count:
            return []
        file = self.path / REJECTS
        data = disk.read_whole(file, MAX_DOCUMENT_BYTES)
        if sha256_hex(data) != digest:
            raise VaultError(f"{file} is damaged: it is not the file that the plan names")
        try:
            found = [json.loads(line) for line in data.splitlines()]
        except (ValueError, RecursionError) as error:
            raise VaultError(f"{file} is damaged: a line is not JSON") from error
        if not all(isinstance(reject, dict) for reject in found):
            raise VaultError(f"{file} is damaged: a line is not a JSON object")
        return found

    def committed_units(self) -> list[int]:
        """Numbers of the units that have a commit, valid or not, ascending.

        Raises:
            VaultError: the folder of commits is missing or cannot be listed.
        """
        names = set(disk.list_folder(self.path / COMMITS))
        stems = [name.removesuffix(".json") for name in names]
        numbers = {int(stem) for stem in stems if stem.isdecimal()}
        paths = {n: commit_path(n) for n in numbers if n < self.plan.units}
        return sorted(n for n, path in paths.items() if path.rpartition("/")[2] in names)

    def unit_shard(self, length: int, array: str, number: int) -> Shard:
        """A shard of a bucket's array, its tail checked.

        Raises:
            VaultError: it is missing or is not the one that was committed.
        """
        return self._unit_shard(self.array_meta(length, array), number)

    def array_meta(self, length: int, array: str) -> ArrayMeta:
        """Metadata of a bucket's array, checked against the plan."""
        if is_column(array):
            return self.column(length, array).meta
        return self.rows(length, array).meta

    def example_shard(self, name: str, number: int) -> Shard:
        """A shard of ``place``, ``offset``...; as :meth:`unit_shard`."""
        return self._example_shard(self.examples(name).meta, number)

    def close(self) -> None:
        """Let go of all open files, and of what was read. A later read opens them again."""
        self._shards.clear()
        self._chunks.clear()
        self._commits.clear()

    def _read_plan(self) -> bytes:
        data = disk.read_if_there(self.path / PLAN, MAX_PLAN_BYTES)
        if data is None:
            if vault_state(self.path) == "absent":
                raise VaultError(f"{self.path} does not exist")
            raise VaultError(f"{self.path} has no {PLAN}: it is not a vault, or has lost it")
        return data

    def _unit_shard(self, meta: ArrayMeta, number: int) -> Shard:
        shard = self._shards.get((meta.path, number))
        if shard is None:
            path = meta.shard_path(number)
            length = int(meta.path[1:].partition("/")[0])
            unit = self.plan.bucket(length).first_unit + number
            receipt = self.commit(unit).files[path]
            shard = self._open_shard(meta, number, receipt)
        return shard

    def _example_shard(self, meta: ArrayMeta, number: int) -> Shard:
        shard = self._shards.get((meta.path, number))
        if shard is None:
            path = meta.shard_path(number)
            receipt = self.plan.shards.get(path)
            if receipt is None:
                raise VaultError(f"{self.path / path} is not a file that the plan names")
            shard = self._open_shard(meta, number, receipt)
        return shard

    def _open_shard(self, meta: ArrayMeta, number: int, receipt: ShardReceipt) -> Shard:
        path = meta.shard_path(number)
        opened = Shard(self.path / path, meta.chunks_per_shard, receipt)
        return self._shards.put((meta.path, number), opened)

    def _check_meta(self, meta: ArrayMeta, length: int, array: str) -> None:
        """A bucket's array must have the shape and type that the plan implies."""
        spec, bucket = self.plan.spec, self.plan.bucket(length)
        shape = (bucket.rows, *row_shape(spec, array, bucket.lengths))
        stack, _, name = array.rpartition("/")
        dtype = stored_dtype(spec, name)
        if meta.shape != shape or meta.dtype != dtype or meta.shard[0] != bucket.rows_per_unit:
            raise VaultError(
                f"{self.path / meta.path} has another shape or type than the plan says"
            )
        if meta.may_be_empty != (name in MAPS and stack_of(spec, stack).beside is not None):
            raise VaultError(
                f"{self.path / meta.path} and the plan differ in what is beside its tokens"
            )

    def _check_examples(self, meta: ArrayMeta, name: str) -> None:
        count = self.plan.examples
        expected: dict[str, tuple[tuple[int, ...], str]] = {
            "place": ((count, place_width(self.plan.spec)), "int32"),
            "offset": ((count + 1,), "uint64"),
            "records": (meta.shape[:1], "uint8"),
            "id_hash": ((count,), "uint64"),
            "id_row": ((count,), "int32"),
        }
        shape, dtype = expected[name]
        if meta.shape != shape or meta.dtype != dtype or len(meta.shape) > 2:
            raise VaultError(
                f"{self.path / meta.path} has another shape or type than the plan says"
            )

    def bucket_arrays(self, length: int) -> list[str]:
        """Paths of a bucket's arrays within its group."""
        return array_paths(self.plan.spec, self.plan.bucket(length).lengths)
