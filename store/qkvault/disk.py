"""Every call that reaches the disk, and how its failures are told.

Reading fails as :class:`VaultError` (the vault is not what it should be); writing fails as
:class:`ResourceError` (the machine could not). Writing is always to a temporary name first: what
stands under a final name is whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .errors import ResourceError, VaultError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BUFFERS_PER_WRITE = 512  # below IOV_MAX (1024) everywhere
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF)


def _tell(error: OSError) -> str:
    return error.strerror or str(error)


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an ``OSError`` into a :class:`ResourceError` that names the path."""
    try:
        yield
    except OSError as error:
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see to it"
        raise ResourceError(
            f"cannot write {path}: {_tell(error)}; {hint} and run the same command again to go on"
        ) from error


def look_at(path: Path, *, follow: bool = True) -> os.stat_result | None:
    """What stands at a path; None if nothing does.

    Args:
        follow: look at what a link names; False at the link itself.

    Raises:
        VaultError: the system does not tell.
    """
    try:
        return path.stat(follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return None
    except OSError as error:
        raise VaultError(f"cannot look at {path}: {_tell(error)}") from error


def is_file(path: Path) -> bool:
    """Whether a regular file stands there; raises as :func:`look_at`."""
    status = look_at(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: Path) -> bool:
    """Whether a folder stands there; raises as :func:`look_at`."""
    status = look_at(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def list_folder(path: Path) -> list[str]:
    """Names in a folder.

    Raises:
        VaultError: the system does not tell.
    """
    try:
        return [entry.name for entry in path.iterdir()]
    except OSError as error:
        raise VaultError(f"cannot list {path}: {_tell(error)}") from error


def open_for_reading(path: Path) -> tuple[int, int]:
    """Open a regular file; returns (file descriptor, size in bytes).

    Raises:
        VaultError: missing, not a regular file, or not readable.
        ResourceError: the process has too many files open.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise VaultError(f"{path} is missing") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise ResourceError(f"cannot open {path}: {_tell(error)}; raise ulimit -n") from error
        raise VaultError(f"cannot open {path}: {_tell(error)}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise VaultError(f"{path} is not a regular file")
    except OSError as error:
        os.close(fd)
        raise VaultError(f"cannot look at {path}: {_tell(error)}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size


def read_at(fd: int, size: int, offset: int, path: Path) -> bytes:
    """Read exactly ``size`` bytes at ``offset``.

    Raises:
        VaultError: the file ends early or the disk fails.
    """
    try:
        data = os.pread(fd, size, offset)
        while len(data) < size:
            more = os.pread(fd, size - len(data), offset + len(data))
            if not more:
                raise VaultError(f"{path} ends early: it has fewer bytes than it should")
            data += more
    except OSError as error:
        raise VaultError(f"cannot read {path}: {_tell(error)}") from error
    return data


def read_whole(path: Path, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        VaultError: missing, unreadable or larger.
    """
    fd, size = open_for_reading(path)
    try:
        if size > limit:
            raise VaultError(f"{path} has {size} bytes; at most {limit} are read")
        return read_at(fd, size, 0, path)
    finally:
        os.close(fd)


def try_lock(fd: int) -> bool | None:
    """Lock a file open for writing, until it is closed or its process dies.

    Returns:
        True if it is now ours, False if it is another's, None if locks do not work on this disk.

    Raises:
        OSError: anything else.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep(folder: Path) -> None:
    """Remove a folder of leftovers, as far as the disk lets it; whoever comes next goes on."""
    with suppress(OSError):  # which rmtree lets through where it looks at what it has opened
        shutil.rmtree(folder, ignore_errors=True)


def write_buffers(fd: int, buffers: Iterable[bytes | memoryview]) -> None:
    """Write all buffers in order, however little the system takes at a time."""
    pending = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    start = 0
    while start < len(pending):
        written = os.writev(fd, pending[start : start + _BUFFERS_PER_WRITE])
        while start < len(pending) and written >= len(pending[start]):
            written -= len(pending[start])
            start += 1
        if written:
            pending[start] = pending[start][written:]


def write_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a new file in place, where no reader can look yet (a planning folder)."""
    with writing(path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            write_buffers(fd, [data])
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)


def put_if_absent(path: Path, data: bytes, temporary: Path) -> None:
    """Publish a file whole and durable under ``path``, never over another.

    The file is written and synced under ``temporary``, then linked: of several writers one wins.
    It is no failure if the same bytes stand there already.

    Raises:
        ResourceError: the disk refuses.
        VaultError: other bytes stand there.
    """
    write_file(temporary, data)
    try:
        with writing(path):
            try:
                os.link(temporary, path)
            except FileExistsError:
                if read_whole(path, max(len(data), 1)) != data:
                    raise VaultError(
                        f"{path} already exists with other contents; another process wrote it"
                    ) from None
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()
