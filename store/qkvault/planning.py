"""Making a vault's folder before the model runs: records, places, metadata, and ``plan.json`` last.

All of it happens in a sibling folder that gets the vault's name only when it is whole, so that bad
input leaves nothing behind. The folder is locked while its process lives; what a dead one left is
swept away.
"""

from __future__ import annotations

import json
import os
import secrets
from array import array
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import disk
from .arrays import Column
from .axes import Lengths, bucket_length
from .cache import Cache
from .chunks import (
    EXAMPLE_CHUNKS_PER_SHARD,
    EXAMPLE_ROWS_PER_CHUNK,
    ArrayPlan,
    group_name,
    place_width,
    plan_bucket,
)
from .commits import COMMITS
from .documents import sha256_hex
from .errors import InputError, VaultError
from .lines import LineWriter
from .metadata import ArrayMeta, array_document, group_document, meta_of, root_document
from .plan import BucketSize, Plan, check_spec, number_buckets, plan_bytes, spec_hash
from .records import id_hash, parse_record, record_line
from .shards import Shard, ShardReceipt, ShardWriter
from .store import EXAMPLES, PLAN, REJECTS, vault_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from .spec import Json, Record, VaultSpec

_SUFFIX: Final = ".planning-"


def make_folder(
    path: Path,
    spec: VaultSpec,
    records: Iterable[Record],
    rejects: Iterable[Mapping[str, Json]],
    compress: bool,
) -> None:
    """Make a vault's folder, all but its units.

    Raises:
        InputError: something stands at ``path``; the spec or a record cannot be used; no records;
        an id
            appears twice.
        ResourceError: the disk refuses.
    """
    check_spec(spec)
    if not disk.is_folder(path.parent):
        raise InputError(f"{path} cannot be made: {path.parent} is not a folder")
    _refuse_what_stands_there(path)
    sweep_dead_plans(path)
    with planning_folder(path) as folder:
        Planner(folder, spec, compress).run(records, rejects)
        _refuse_what_stands_there(path)
        with disk.writing(path):
            try:
                folder.rename(path)
            except OSError:
                _refuse_what_stands_there(path)  # made by another process at the same time
                raise
            disk.sync_folder(path.parent)


class Planner:
    """Writes the parts of one planning folder in turn."""

    def __init__(self, folder: Path, spec: VaultSpec, compress: bool) -> None:
        self._folder = folder
        self._spec = spec
        self._compress = compress
        self._binding = spec_hash(spec)
        self._metadata: dict[str, str] = {}
        self._documents: dict[str, Json] = {}
        self._shards: dict[str, ShardReceipt] = {}

    def run(self, records: Iterable[Record], rejects: Iterable[Mapping[str, Json]]) -> None:
        self._put_group(EXAMPLES)
        lengths, hashes = self._put_records(records)
        buckets = self._put_places(lengths)
        self._put_ids(hashes)
        sizes: list[BucketSize] = []
        for padded, rows in buckets:
            plans = plan_bucket(self._spec, padded, rows, self._compress)
            self._put_bucket(padded.source, plans)
            sizes.append((padded.source, padded.target or None, rows, plans[0].shard[0]))
        self._make(COMMITS)
        attributes: dict[str, Json] = {"qkvault": {"format": self._spec.format, "plan": PLAN}}
        self._put_document("", root_document(attributes, self._documents))
        plan = Plan(
            spec=self._spec,
            examples=len(hashes),
            buckets=number_buckets(sizes),
            metadata=self._metadata,
            shards=self._shards,
            rejects=self._put_rejects(rejects),
        )
        try:
            data = plan_bytes(plan)
        except (TypeError, ValueError) as error:
            raise InputError(f"the vault's spec cannot be written as JSON: {error}") from None
        disk.write_file(self._folder / PLAN, data)
        with disk.writing(self._folder):
            for folder, _, _ in os.walk(self._folder):
                disk.sync_folder(Path(folder))

    def _put_records(self, records: Iterable[Record]) -> tuple[array[int], array[int]]:
        """Write the records and their offsets; returns each example's lengths, one after the other
        (that of the target too, where there are targets), and id hashes."""
        lengths, hashes, offsets = array("i"), array("Q"), array("Q", [0])
        self._make(f"{EXAMPLES}/records")
        lines = LineWriter(self._folder, self._binding)
        try:
            for record in records:
                line = record_line(record, has_target=self._spec.target)
                lines.add(line)
                offsets.append(offsets[-1] + len(line))
                lengths.extend(record.lengths)
                hashes.append(id_hash(record.id))
            if not hashes:
                raise InputError("there are no examples to keep")
            meta = self._finish_records(lines)
        finally:
            lines.abandon()
        self._refuse_duplicates(hashes, offsets, meta)
        self._put_column("offset", np.frombuffer(offsets, np.uint64), ("boundary",))
        return lengths, hashes

    def _finish_records(self, lines: LineWriter) -> ArrayMeta:
        plan, receipts = lines.close()
        self._shards.update(receipts)
        self._put_document(plan.path, array_document(plan))
        return meta_of(plan)

    def _put_places(self, lengths: array[int]) -> list[tuple[Lengths, int]]:
        """Write (bucket length, row, lengths) per example; returns (padded lengths, rows)."""
        width = place_width(self._spec)
        tokens = np.frombuffer(lengths, np.int32).reshape(-1, width - 2)
        places = np.empty((len(tokens), width), np.int32)
        padded = {int(n): bucket_length(int(n)) for n in np.unique(tokens[:, 0])}
        places[:, 0] = [padded[n] for n in tokens[:, 0].tolist()]
        places[:, 2:] = tokens
        buckets = []
        for length in sorted(set(padded.values())):
            found = np.flatnonzero(places[:, 0] == length)
            places[found, 1] = np.arange(len(found))
            targets = [bucket_length(int(n)) for n in tokens[found, 1:].max(axis=0)]
            buckets.append((Lengths(length, *targets), len(found)))
        self._put_column("place", places, ("example", "bucket_row_length"))
        return buckets

    def _put_ids(self, hashes: array[int]) -> None:
        values = np.frombuffer(hashes, np.uint64)
        order = np.argsort(values, kind="stable")
        self._put_column("id_hash", values[order], ("rank",))
        self._put_column("id_row", order.astype(np.int32), ("rank",))

    def _refuse_duplicates(self, hashes: array[int], offsets: array[int], meta: ArrayMeta) -> None:
        values = np.frombuffer(hashes, np.uint64)
        order = np.argsort(values, kind="stable")
        equal = np.flatnonzero(values[order][1:] == values[order][:-1])
        if not len(equal):
            return

        def open_shard(meta: ArrayMeta, number: int) -> Shard:
            path = meta.shard_path(number)
            return Shard(self._folder / path, meta.chunks_per_shard, self._shards[path])

        lines = Column(meta, open_shard, Cache(16))
        for place in equal.tolist():
            pair = sorted(order[place : place + 2].tolist())
            ids = [
                parse_record(
                    lines.rows(offsets[i], offsets[i + 1]).tobytes(),
                    i,
                    has_target=self._spec.target,
                ).id
                for i in pair
            ]
            if ids[0] == ids[1]:
                raise InputError(
                    f"the id {ids[0]!r:.200} appears twice: examples {pair[0]} and {pair[1]}"
                )

    def _put_bucket(self, length: int, plans: list[ArrayPlan]) -> None:
        self._put_group(group_name(length))
        for stack in self._spec.stacks:
            self._put_group(f"{group_name(length)}/{stack.name}")
        for plan in plans:
            self._make(plan.path)
            self._put_document(plan.path, array_document(plan))

    def _put_column(self, name: str, values: NDArray[Any], dims: tuple[str, ...]) -> None:
        rows = len(values)
        chunk = min(EXAMPLE_ROWS_PER_CHUNK, rows)
        chunks = -(-rows // chunk)
        per_shard = min(chunks, EXAMPLE_CHUNKS_PER_SHARD)
        plan = ArrayPlan(
            path=f"{EXAMPLES}/{name}",
            shape=values.shape,
            shard=(per_shard * chunk, *values.shape[1:]),
            chunk=(chunk, *values.shape[1:]),
            dtype=values.dtype.name,
            codec="zstd",
            dims=dims,
            attributes={},
        )
        self._make(plan.path)
        meta = meta_of(plan)
        for number in range(-(-chunks // per_shard)):
            path = meta.shard_path(number)
            writer = ShardWriter(self._folder / path, per_shard, self._binding, path)
            try:
                for place in range(min(per_shard, chunks - number * per_shard)):
                    start = (number * per_shard + place) * chunk
                    block = np.zeros(meta.chunk, meta.dtype)
                    part = values[start : start + chunk]
                    block[: len(part)] = part
                    writer.add([(place, meta.codec.encode(block))])
                self._shards[path] = writer.close()
            finally:
                writer.abandon()
        self._put_document(plan.path, array_document(plan))

    def _put_rejects(self, rejects: Iterable[Mapping[str, Json]]) -> tuple[int, str]:
        try:
            lines = [
                json.dumps(dict(reject), ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"
                for reject in rejects
            ]
            data = "".join(lines).encode("utf-8", "backslashreplace")
        except (TypeError, ValueError) as error:
            raise InputError(f"a rejected row cannot be noted: {error}") from None
        if lines:
            disk.write_file(self._folder / REJECTS, data)
        return len(lines), sha256_hex(data)

    def _put_group(self, path: str) -> None:
        self._make(path)
        self._put_document(path, group_document())

    def _put_document(self, path: str, data: bytes) -> None:
        relative = f"{path}/zarr.json" if path else "zarr.json"
        disk.write_file(self._folder / relative, data)
        self._metadata[relative] = sha256_hex(data)
        if path:
            self._documents[path] = json.loads(data)

    def _make(self, path: str) -> None:
        with disk.writing(self._folder / path):
            (self._folder / path).mkdir(exist_ok=True)


def _refuse_what_stands_there(path: Path) -> None:
    state = vault_state(path)
    if state in ("unfinished", "complete"):
        raise InputError(f"{path} already holds a vault ({state}); choose another folder")
    if state == "other":
        raise InputError(f"{path} exists and is not a vault; choose another folder")


@contextmanager
def planning_folder(path: Path) -> Iterator[Path]:
    """A sibling folder, removed if planning fails; its empty plan is locked until then."""
    lock = -1
    try:
        while lock < 0:
            folder = path.with_name(f"{path.name}{_SUFFIX}{secrets.token_hex(4)}")
            with disk.writing(folder):
                lock = _make_locked(folder)
        yield folder
    except BaseException:
        disk.sweep(folder)
        raise
    finally:
        if lock >= 0:
            os.close(lock)


def _make_locked(folder: Path) -> int:
    """Make a planning folder; its lock, or -1 if another process has just swept it away."""
    folder.mkdir()
    kept = -1
    with suppress(FileNotFoundError):
        lock = os.open(folder / PLAN, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            locked = disk.try_lock(lock) is not False
            if locked and os.path.samestat(os.fstat(lock), (folder / PLAN).stat()):
                kept = lock
        finally:
            if kept < 0:
                os.close(lock)
    return kept


def sweep_dead_plans(path: Path) -> None:
    """Remove planning folders for the same vault whose process is dead, as far as can be seen."""
    try:
        names = disk.list_folder(path.parent)
    except VaultError:
        return
    for name in names:
        if name.startswith(f"{path.name}{_SUFFIX}"):
            folder = path.with_name(name)
            with suppress(OSError):
                folder.rmdir()  # died before it put anything there
            with suppress(OSError):
                _remove_if_dead(folder)


def _remove_if_dead(folder: Path) -> None:
    try:
        lock = os.open(folder / PLAN, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        # A plan is the first file into such a folder: without one, an earlier sweep was cut short.
        disk.sweep(folder)
        return
    try:
        if disk.try_lock(lock):
            disk.sweep(folder)
    finally:
        os.close(lock)
