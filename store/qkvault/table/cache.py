"""Where the search table's file is, and connections to it.

One file per vault, named by the vault's digest, in the user's own cache folder. It is never read
from the vault itself, which may come from anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ..errors import ResourceError
from .build import TABLE_VERSION, TableSource, build_table

CACHE_LIMIT: Final = 8 * 2**30
"""Bytes that the files of all vaults may take together; the longest unused go first."""
_ABANDONED: Final = 24 * 3600.0
_POOL: Final = 8
_SUFFIX: Final = ".sqlite"
_PARTIAL: Final = ".partial"


def cache_folder() -> Path:
    """The folder of the tables: ``$XDG_CACHE_HOME/qkvault``, or ``~/.cache/qkvault``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG Base Directory Specification says to ignore a path that is not absolute.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "qkvault"


def table_path(source: TableSource, folder: Path) -> Path:
    """Where the table of ``source`` is kept, whether or not it is there."""
    digest = source.digest
    if not re.fullmatch(r"[0-9A-Za-z_-]{8,128}", digest):
        digest = hashlib.sha256(digest.encode("utf-8", "replace")).hexdigest()
    return folder / f"{digest}{_SUFFIX}"


def ensure_table(
    source: TableSource, folder: Path, progress: Callable[[float], None] | None = None
) -> Path:
    """The path of a sound table of ``source``: the one in ``folder``, or one that is built now.

    A vault that is still being extracted gets a table of its own, since its digest does not tell
    how far it is; so does any vault where ``folder`` cannot be written. Such a table lies in a
    folder for temporary files and the caller removes it.

    Raises:
        VaultError: the vault's records cannot be read.
        ResourceError: there is no room for the table anywhere.
    """
    path = table_path(source, folder)
    if source.complete and is_sound(path, source):
        with contextlib.suppress(OSError):
            os.utime(path)
        return path
    if source.complete and _writable(folder):
        try:
            _build_and_rename(source, path, progress)
        except (OSError, ResourceError):
            return _build_aside(source, progress)
        remove_old_tables(folder, keep=path)
        return path
    return _build_aside(source, progress)


def is_sound(path: Path, source: TableSource) -> bool:
    """Whether the file is whole, of this version, and of this vault; reads only its first pages."""
    if not _has_its_size(path):
        return False
    try:
        with contextlib.closing(connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            about = dict(connection.execute("SELECT key, value FROM about"))
    except sqlite3.Error:
        return False
    return version == TABLE_VERSION and about == {
        "digest": source.digest,
        "examples": len(source),
    }


def connect(path: Path) -> sqlite3.Connection:
    """Open a table that nobody changes any more: without locks, and without the right to write."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )


def remove_old_tables(folder: Path, keep: Path, limit: int = CACHE_LIMIT) -> None:
    """Remove the tables unused for longest until the rest take ``limit`` bytes; and dead leftovers.

    ``keep`` stays in any case. A table that another process has open stays readable to it.
    """
    with contextlib.suppress(OSError):
        for leftover in folder.glob(f"*{_PARTIAL}"):
            if leftover.stat().st_mtime < time.time() - _ABANDONED:
                leftover.unlink(missing_ok=True)
        room = limit
        tables = [(path.stat(), path) for path in folder.glob(f"*{_SUFFIX}")]
        for status, path in sorted(tables, key=lambda item: -item[0].st_mtime):
            room -= status.st_size
            if room < 0 and path != keep:
                path.unlink(missing_ok=True)


class Connections:
    """Connections to one table, lent to one thread at a time; a forked child opens its own.

    Attributes:
        path: the table's file.
    """

    def __init__(self, path: Path, *, temporary: bool) -> None:
        self.path = path
        self._own_pool(temporary)

    @contextlib.contextmanager
    def lend(self) -> Iterator[sqlite3.Connection]:
        """A connection for the time of a ``with`` block."""
        if self._pid != os.getpid():
            # SQLite forbids the use of a connection that was opened before a fork; the finalizer of
            # the parent's pool keeps those alive here, unused.
            self._own_pool(temporary=False)
        idle = self._idle
        try:
            connection = idle.pop()
        except IndexError:
            connection = connect(self.path)
        try:
            yield connection
        finally:
            if len(idle) < _POOL and self._closing.alive:
                idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close the idle connections, and a lent one when it returns; remove a temporary table."""
        self._closing()

    def _own_pool(self, temporary: bool) -> None:
        self._idle: deque[sqlite3.Connection] = deque()
        self._pid = os.getpid()
        self._closing = weakref.finalize(
            self, _close_pool, self._idle, self.path, self._pid, temporary
        )


def _close_pool(idle: deque[sqlite3.Connection], path: Path, pid: int, temporary: bool) -> None:
    if pid != os.getpid():
        return
    while idle:
        idle.pop().close()
    if temporary:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def _has_its_size(path: Path) -> bool:
    # The header says how many pages there are: a file cut short is noticed without reading it.
    try:
        with path.open("rb") as file:
            header = file.read(32)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    if len(header) < 32 or not header.startswith(b"SQLite format 3\0"):
        return False
    page = int.from_bytes(header[16:18], "big")
    page = 65536 if page == 1 else page
    return size == page * int.from_bytes(header[28:32], "big")


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _build_and_rename(
    source: TableSource, path: Path, progress: Callable[[float], None] | None
) -> None:
    handle, name = tempfile.mkstemp(f"{_SUFFIX}{_PARTIAL}", f"{path.stem}.", path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        build_table(source, partial, progress)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _build_aside(source: TableSource, progress: Callable[[float], None] | None) -> Path:
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="qkvault-"))
        build_table(source, folder / f"table{_SUFFIX}", progress)
    except OSError as error:
        raise ResourceError(
            f"no folder can hold the search table ({error}); set XDG_CACHE_HOME or TMPDIR to one"
        ) from error
    except BaseException:
        if folder is not None:
            (folder / f"table{_SUFFIX}").unlink(missing_ok=True)
            folder.rmdir()
        raise
    return folder / f"table{_SUFFIX}"
