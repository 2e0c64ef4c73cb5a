"""A vault open for reading."""

from __future__ import annotations

import math
from functools import cached_property
from operator import index as as_int
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import disk
from .axes import Lengths
from .documents import sha256_hex
from .errors import InputError, OutOfRange, UnknownExample, VaultError
from .example import Example
from .ids import find_id
from .record_file import iter_record_lines, record_line
from .records import parse_record
from .remote import Place, locate
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .samples import Samples
    from .scan import Scan, ScanArray, Which
    from .selection import Examples, Selection
    from .spec import Json, Record, VaultSpec
    from .table import Table


class Vault:
    """A vault, as a sequence of :class:`Example` in the dataset's order.

    Opening reads three small files, however many examples there are. Threads may share a vault,
    and a forked child may go on with it. As a context manager it closes itself.

    Attributes:
        path: the folder.
        spec: what was kept, and how.
        complete: False only for an unfinished vault opened with ``partial=True``.
        store: the folder's files (for qkvault's own modules).
    """

    def __init__(self, path: Place | str, *, partial: bool = False) -> None:
        """Open a vault.

        Args:
            path: the folder, its URL (``s3://bucket/name``), or an export in one HDF5 file.
            partial: accept an unfinished vault; what is not finished raises when touched.

        Raises:
            VaultError: missing, not a vault, damaged, of another format, or unfinished.
        """
        folder = locate(path)
        if isinstance(folder, Path) and disk.is_file(folder):
            from .hdf5_store import Hdf5Store

            self._attach(Hdf5Store(folder))
            return
        self._attach(Store(folder))
        if not self.complete and not partial:
            raise VaultError(
                f"{self.path} is unfinished; run the same extraction again to go on with it"
            )

    @classmethod
    def over(cls, store: Store) -> Vault:
        """A vault over an open store, finished or not."""
        vault = cls.__new__(cls)
        vault._attach(store)
        return vault

    def _attach(self, store: Store) -> None:
        self.store = store
        self.path: Place = store.path
        self.spec: VaultSpec = store.plan.spec
        self.complete: bool = store.manifest is not None
        self._by_bucket: dict[int, NDArray[np.int64]] = {}

    @cached_property
    def digest(self) -> str:
        """Names the contents: the manifest's hash, 64 hexadecimal digits.

        An unfinished vault's digest changes with every unit that is finished before it is first
        asked for.
        """
        if self.store.manifest is not None:
            return self.store.manifest.hash
        done = ",".join(str(unit) for unit in self.finished_units())
        return sha256_hex(f"{self.store.plan.hash} {done}".encode())

    def __repr__(self) -> str:
        return f"<Vault {self.path}, {len(self)} examples>"

    def __len__(self) -> int:
        return self.store.plan.examples

    def __getitem__(self, index: int) -> Example:
        """The example at a place in the dataset's order; a negative one counts from the end.

        Raises:
            OutOfRange: no such place.
        """
        count = len(self)
        try:
            number = as_int(index)
        except TypeError:
            raise InputError(
                f"an example is asked for by its number; found {index!r:.100}"
            ) from None
        if not -count <= number < count:
            raise OutOfRange(f"example {number} was asked for; there are {count}, 0 to {count - 1}")
        return self._example(number % count)

    def __iter__(self) -> Iterator[Example]:
        return (self._example(index) for index in range(len(self)))

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all open files."""
        self.store.close()

    def by_id(self, example_id: str) -> Example:
        """The example with an id.

        Raises:
            UnknownExample: no example has it.
        """
        index = find_id(self, example_id)
        if index is None:
            raise UnknownExample(f"no example of {self.path} has the id {example_id!r:.200}")
        return self[index]

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of every example, its target's not, int32 ``(example,)``, read-only."""
        lengths: NDArray[np.int32] = self.places[:, 2].astype(np.int32)
        lengths.flags.writeable = False
        return lengths

    @cached_property
    def target_lengths(self) -> NDArray[np.int32] | None:
        """Tokens of every example's target, as :attr:`lengths`; None where there are no targets."""
        if not self.spec.target:
            return None
        lengths: NDArray[np.int32] = self.places[:, 3].astype(np.int32)
        lengths.flags.writeable = False
        return lengths

    @property
    def places(self) -> NDArray[np.int32]:
        """Bucket length, row and length of every example, and the length of its target where there
        are targets: int32 ``(example, 3)`` or ``(example, 4)``."""
        return self.store.examples("place").rows(0, len(self))

    @cached_property
    def table(self) -> Table:
        """Search, filter and sort over all examples."""
        from .table import Table

        return Table(self)

    def select(self, query: str = "", /, **where: object) -> Selection:
        """Examples that hold the words and pass the filter: ``v.select(label=1, correct=False)``.

        Words and filter are those of :meth:`qkvault.table.Table.rows`; a range is a pair, such as
        ``length=(10, 20)``.
        """
        from .selection import Selection

        return Selection(self, self.table.ids(query, where))

    def scan(
        self,
        layer: Which,
        head: Which,
        arrays: Sequence[ScanArray] = ("query", "key"),
        *,
        stack: str | None = None,
        select: Examples = None,
        prefetch: int = 2,
    ) -> Scan:
        """Go through one head, or some, of all examples in the order of the files.

        Iterating gives one :class:`ScanItem` per example; :meth:`Scan.batches` many at a time.

        Args:
            layer: the model's own number (the axis goes), several, or None for all.
            head: number of the query head, several, or None for all; keys and values are those of
                the key head that it uses.
            arrays: some of attention, query, key, value, thumbnail.
            stack: the first one if not given.
            select: a selection, numbers, ids or a mask; all examples if not given.
            prefetch: batches of a few megabytes that are read ahead.

        Raises:
            InputError, OutOfRange, UnknownExample: what was asked for is not there.
            MissingArray: the vault does not keep an array.
            VaultError: while iterating, a touched file or chunk is missing or damaged.
        """
        from .scan import Scan

        return Scan(self, layer, head, arrays, stack, select, prefetch)

    def to_torch(
        self,
        layer: Which = None,
        head: Which = None,
        arrays: Sequence[ScanArray] = ("query", "key"),
        *,
        stack: str | None = None,
        select: Examples = None,
        padding: float = math.nan,
    ) -> Samples:
        """A map-style dataset for ``torch.utils.data.DataLoader``, usable from its workers.

        Give its ``collate`` as ``collate_fn``. Arguments and errors are those of :meth:`scan`, but
        examples come in the order given; ``padding`` fills what a batch adds to shorter examples.
        """
        from .samples import Samples

        return Samples(self, layer, head, arrays, stack=stack, select=select, padding=padding)

    def metrics(
        self, name: str, stack: str | None = None, layer: Which = None, head: Which = None
    ) -> NDArray[np.float32]:
        """A head metric of the whole corpus.

        Args:
            name: one of ``spec.metrics``, such as ``entropy``.
            stack: the first one if not given.
            layer: a layer by the model's own number, or several; all if not given.
            head: a head, or several; all if not given.

        Returns:
            float32 ``(example, layer, head)``, in the dataset's order; a layer or head given as a
            number has no axis. NaN where an example has no such number, or is not finished yet.

        Raises:
            InputError, OutOfRange: no such metric, stack, layer or head.
            MissingArray: the vault keeps no metrics.
            VaultError: what is stored is missing or damaged.
        """
        from .measured import corpus_metric

        return corpus_metric(self, name, stack, layer, head)

    def info(self) -> dict[str, Json]:
        """What the vault holds, JSON-ready."""
        from .info import describe

        return describe(self)

    def rejects(self) -> list[dict[str, Json]]:
        """Rows of the data that were left out, in order: ``row``, ``source``, ``id``, ``reason``.

        Raises:
            VaultError: their list is missing (as in an export) or damaged.
        """
        return self.store.rejects()

    def record(self, index: int) -> Record:
        """The record of an example.

        Raises:
            VaultError: it is damaged.
        """
        return parse_record(self.record_line(index), index, has_target=self.spec.target)

    def record_line(self, index: int) -> bytes:
        """The record of an example as it is stored; raises as :meth:`record`."""
        return record_line(self.store, index)

    def iter_records(self, start: int = 0) -> Iterator[Record]:
        """Records in the dataset's order, from an example on."""
        for index, line in enumerate(iter_record_lines(self.store, start), start):
            yield parse_record(line, index, has_target=self.spec.target)

    def iter_outcomes(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Outputs of the classification head, unit by unit: (examples int64, logits float32).

        Nothing for a model without such a head; only finished units of an unfinished vault.
        """
        if not self.spec.logits:
            return
        for unit in self.finished_units():
            bucket, start, stop = self.store.plan.unit_rows(unit)
            logits = self.store.logits(bucket.length).rows(start, stop)
            yield self.unit_examples(unit), logits.astype(np.float32)

    def logits(self, length: int, row: int) -> NDArray[np.float32] | None:
        """Outputs for a row of a bucket, float32 ``(class,)``; None without such a head."""
        if not self.spec.logits:
            return None
        values: NDArray[np.float32] = self.store.logits(length).row(row).astype(np.float32)
        return values

    def unit_examples(self, unit: int) -> NDArray[np.int64]:
        """Examples of a unit, by row, int64."""
        bucket, start, stop = self.store.plan.unit_rows(unit)
        return self.bucket_examples(bucket.length)[start:stop]

    def bucket_examples(self, length: int) -> NDArray[np.int64]:
        """Examples of a bucket, by row: a bucket's rows are in the dataset's order."""
        kept = self._by_bucket.get(length)
        if kept is None:
            found = np.flatnonzero(self.places[:, 0] == length).astype(np.int64)
            rows = self.store.plan.bucket(length).rows
            if len(found) != rows:
                raise VaultError(
                    f"{self.path} is damaged: {len(found)} examples are said to be in the bucket of"
                    f" length {length}, which has {rows} rows"
                )
            kept = self._by_bucket.setdefault(length, found)
        return kept

    def finished_units(self) -> Iterator[int]:
        """Numbers of the units that are finished, ascending."""
        yield from range(self.store.plan.units) if self.complete else self.store.committed_units()

    def _example(self, index: int) -> Example:
        length, row, *tokens = self.store.examples("place").row(index).tolist()
        try:
            bucket = self.store.plan.bucket(length)
            fits = zip(tokens, bucket.lengths, strict=False)
            known = 0 <= row < bucket.rows and all(0 < n <= most for n, most in fits)
        except KeyError:
            known = False
        if not known:
            raise VaultError(f"{self.path} is damaged: example {index} has no place in a bucket")
        return Example(self, index, length, row, Lengths(*tokens))
