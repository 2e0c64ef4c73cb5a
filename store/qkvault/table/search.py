"""The search table of a vault: find, filter, sort and page through millions of examples."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError, OutOfRange, ResourceError
from .cache import Connections, cache_folder, ensure_table
from .filter import Where, parse_where
from .reader import TableReader
from .terms import parse_search

if TYPE_CHECKING:
    from .build import TableSource
    from .columns import Column
    from .order import Ordered

MAX_LIMIT: Final = 10_000
"""A page has at most this many rows."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Page:
    """Some rows of the table.

    Attributes:
        rows: ``index``, ``id``, ``text`` (one or two), ``length`` (tokens), ``label``,
            ``prediction``, ``correct`` and ``columns`` (the data's others) of each; ``metrics``
            where head metrics were sorted by or filtered on.
        next: cursor of the page that follows; None after the last.
        total: how many rows pass the filter, on all pages.
    """

    rows: list[dict[str, Any]]
    next: str | None
    total: int


@dataclass(frozen=True)
class Position:
    """Where an example stands in a filtered, sorted list.

    Attributes:
        index: the example.
        place: how many rows of the list come before it; None if it is not in the list.
        total: rows in the list.
        previous: the example before it, or before where it would stand; None at the start.
        next: the example after it; None at the end.
    """

    index: int
    place: int | None
    total: int
    previous: int | None
    next: int | None


class Table:
    """What is known of every example, to be searched, filtered, sorted and paged through.

    Built from the vault on first use, which takes about a second per 10,000 examples, and kept in
    the user's cache folder. Any number of threads may use one table, and processes that
    are forked from them.

    Args:
        source: the vault.
        folder: where the table is kept, instead of the user's cache folder.
    """

    def __init__(self, source: TableSource, *, folder: Path | None = None) -> None:
        self._source = source
        self._folder = folder
        self._path: Path | None = None
        self._reader: TableReader | None = None
        self._building = threading.Lock()
        self._pid = os.getpid()

    @property
    def ready(self) -> bool:
        """Whether the table is open already; if not, the first question opens or builds it."""
        return self._reader is not None

    def build(self, progress: Callable[[float], None] | None = None) -> None:
        """Open the table, building it if need be.

        Args:
            progress: called with the share that is done, from 0 to 1, while building.

        Raises:
            VaultError: the vault's records cannot be read.
            ResourceError: there is no room for the table, or no full-text search in this Python.
        """
        self._opened(progress)

    def close(self) -> None:
        """Close the table's file; the table opens it again if it is asked something."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def columns(self) -> list[Column]:
        """The columns that can be sorted by and filtered on, built-in columns first."""
        return self._ask(lambda reader: list(reader.columns.values()))

    def rows(
        self,
        query: str = "",
        where: Where | None = None,
        sort: str = "index",
        descending: bool = False,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """One page of the examples that hold the words and pass the filter.

        Args:
            query: words that must all occur in the texts; ``"side by side"`` in quotes, ``begin*``
                with a star.
            where: column to value, list of values, ``{"min": low, "max": high}`` or None (missing);
                ``min_length`` and ``max_length`` for the number of tokens.
            sort: a column, or a head metric such as ``entropy[3,5]`` (layer 3, head 5); ties by
                example, missing values last.
            descending: highest first.
            cursor: ``next`` of the page before; None for the first page.
            limit: rows on the page, 1 to 10,000.

        Raises:
            InputError: an unknown column, a value no column has, a foreign cursor, a bad limit.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise InputError(f"a page has 1 to {MAX_LIMIT} rows, not {limit}")

        def answer(reader: TableReader) -> Page:
            ordered = self._ordered(reader, query, where, sort, descending)
            start = 0
            if cursor is not None:
                last = _read_cursor(cursor, ordered.name, reader.count)
                start = int(ordered.order.rank[last]) + 1
            found = ordered.following(start, limit + 1)
            shown, more = found[:limit], len(found) > limit
            following = _write_cursor(ordered.name, int(shown[-1])) if more else None
            return Page(reader.read_rows(shown, [sort, *(where or {})]), following, ordered.total)

        return self._ask(answer)

    def ids(
        self,
        query: str = "",
        where: Where | None = None,
        sort: str = "index",
        descending: bool = False,
    ) -> npt.NDArray[np.int64]:
        """int64 (total,): the indices of all examples that hold the words and pass the filter.

        The arguments, the order and the errors are those of :meth:`rows`.
        """

        def answer(reader: TableReader) -> npt.NDArray[np.int64]:
            return self._ordered(reader, query, where, sort, descending).every().astype(np.int64)

        return self._ask(answer)

    def position(
        self,
        index: int,
        query: str = "",
        where: Where | None = None,
        sort: str = "index",
        descending: bool = False,
    ) -> Position:
        """Where an example stands in the list that :meth:`rows` pages through.

        Raises:
            OutOfRange: there is no example of that index.
            InputError: as for :meth:`rows`.
        """

        def answer(reader: TableReader) -> Position:
            if not 0 <= index < reader.count:
                raise OutOfRange(f"the vault has {reader.count} examples, none of index {index}")
            ordered = self._ordered(reader, query, where, sort, descending)
            rank = int(ordered.order.rank[index])
            before, after = ordered.preceding(rank, 1), ordered.following(rank + 1, 1)
            return Position(
                index,
                ordered.count_before(rank) if ordered.passes(index) else None,
                ordered.total,
                int(before[0]) if len(before) else None,
                int(after[0]) if len(after) else None,
            )

        return self._ask(answer)

    def _ordered(
        self,
        reader: TableReader,
        query: str,
        where: Where | None,
        sort: str,
        descending: bool,
    ) -> Ordered:
        conditions = parse_where(where, reader.find, self._source.spec.label_names)
        column = reader.find(sort).name
        return reader.ordered(parse_search(query), conditions, column, descending)

    def _ask(self, question: Callable[[TableReader], _Answer]) -> _Answer:
        try:
            return question(self._opened())
        except sqlite3.DatabaseError:
            self._discard()
        try:
            return question(self._opened())
        except sqlite3.Error as error:
            raise ResourceError(f"the search table cannot be read: {error}") from error

    def _opened(self, progress: Callable[[float], None] | None = None) -> TableReader:
        if self._reader is not None:
            return self._reader
        if self._pid != os.getpid():
            # A fork may have caught the lock while another thread of the parent was building.
            self._building, self._pid = threading.Lock(), os.getpid()
        with self._building:
            if self._reader is None:
                folder = self._folder or cache_folder()
                path = ensure_table(self._source, folder, progress)
                self._path = path
                connections = Connections(path, temporary=path.parent != folder)
                self._reader = TableReader(connections, self._source)
            return self._reader

    def _discard(self) -> None:
        # The file turned out to be damaged, or was removed: it can be made anew from the vault.
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)


def _write_cursor(name: str, last: int) -> str:
    return base64.urlsafe_b64encode(f"{name}.{last}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str, name: str, count: int) -> int:
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        found, _, last = base64.b64decode(padded, b"-_", validate=True).decode().partition(".")
    except (UnicodeError, binascii.Error):
        found, last = "", ""
    if found != name or not (last.isascii() and last.isdigit() and len(last) < 12):
        raise InputError(
            "the cursor belongs to another search, filter or order; start again from the first page"
        )
    if int(last) >= count:
        raise InputError(f"the cursor points past the last of {count} examples")
    return int(last)
