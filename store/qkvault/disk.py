"""Every call that reaches the disk or an object store, and how its failures are told.

Reading fails as :class:`VaultError` (the vault is not what it should be); writing fails as
:class:`ResourceError` (the machine could not). Writing is always to a temporary name first: what
stands under a final name is whole.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ResourceError, VaultError
from .files import LocalFile, explain
from .remote import Changed, RemoteFile, RemotePath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .files import OpenFile
    from .remote import ObjectInfo, Place

_BUFFERS_PER_WRITE = 512  # below IOV_MAX (1024) everywhere
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF)


@contextmanager
def writing(path: Place | str) -> Iterator[None]:
    """Turn an ``OSError`` into a :class:`ResourceError` that names the path."""
    try:
        yield
    except OSError as error:
        hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "see to it"
        raise ResourceError(
            f"cannot write {path}: {explain(error)}; {hint} and run the same command again to go on"
        ) from error


def look_at(path: Place, *, follow: bool = True) -> os.stat_result | ObjectInfo | None:
    """What stands at a path; None if nothing does.

    Args:
        follow: look at what a link names; False at the link itself.

    Raises:
        VaultError: the system does not tell.
    """
    if isinstance(path, RemotePath):
        return path.bucket.look(path.key)
    try:
        return path.stat(follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return None
    except OSError as error:
        raise VaultError(f"cannot look at {path}: {explain(error)}") from error


def is_file(path: Place) -> bool:
    """Whether a regular file or an object stands there; raises as :func:`look_at`."""
    status = look_at(path)
    if isinstance(status, os.stat_result):
        return stat.S_ISREG(status.st_mode)
    return status is not None


def is_folder(path: Place) -> bool:
    """Whether a folder stands there, or objects below; raises as :func:`look_at`."""
    if isinstance(path, RemotePath):
        return next(path.bucket.objects(path.key), None) is not None
    status = look_at(path)
    return isinstance(status, os.stat_result) and stat.S_ISDIR(status.st_mode)


def list_folder(path: Place) -> list[str]:
    """Names in a folder.

    Raises:
        VaultError: the system does not tell.
    """
    if isinstance(path, RemotePath):
        below = len(path.key) + 1
        keys = [key[below:] for key, _ in path.bucket.objects(path.key)]
        return list({key.partition("/")[0]: None for key in keys})
    try:
        return [entry.name for entry in path.iterdir()]
    except OSError as error:
        raise VaultError(f"cannot list {path}: {explain(error)}") from error


def list_times(path: Place) -> dict[str, float]:
    """When each file in a folder was last written, in seconds since 1970; no folder has no files.

    Raises:
        VaultError: the system does not tell.
    """
    if isinstance(path, RemotePath):
        below = len(path.key) + 1
        return {key[below:]: info.st_mtime for key, info in path.bucket.objects(path.key)}
    times = {}
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # removed just now
                    times[entry.name] = entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise VaultError(f"cannot list {path}: {explain(error)}") from error
    return times


def size_lookup(folder: Place) -> Callable[[str], int | None]:
    """What tells the sizes of files below a folder, by their paths in it; None for what is missing.

    An object store is asked once, for a list of all, when the first is wanted: not in a loop that
    waits for others to write.
    """
    if not isinstance(folder, RemotePath):
        return lambda path: None if (found := look_at(folder / path)) is None else found.st_size
    sizes: dict[str, int] = {}

    def size_of(path: str) -> int | None:
        if not sizes:
            below = len(folder.key) + 1
            objects = folder.bucket.objects(folder.key)
            sizes.update((key[below:], info.st_size) for key, info in objects)
        return sizes.get(path)

    return size_of


def open_file(path: Place, size: int | None = None) -> OpenFile:
    """Open a regular file or an object.

    Args:
        size: what it should be, where that is known: an object is then not asked for it.

    Raises:
        VaultError: missing, not a regular file, or not readable.
        ResourceError: the process has too many files open.
    """
    if not isinstance(path, RemotePath):
        return LocalFile(path)
    if size is None:
        found = path.bucket.look(path.key)
        if found is None:
            raise VaultError(f"{path} is missing")
        size = found.st_size
    return RemoteFile(path, size)


def read_whole(path: Place, limit: int) -> bytes:
    """Read a file of at most ``limit`` bytes.

    Raises:
        VaultError: missing, unreadable or larger.
    """
    if isinstance(path, RemotePath):
        data = path.bucket.read(path.key, limit)
        if data is None:
            raise VaultError(f"{path} is missing")
        return data
    file = LocalFile(path)
    try:
        if file.size > limit:
            raise VaultError(f"{path} has {file.size} bytes; at most {limit} are read")
        return file.read(0, file.size)
    finally:
        file.close()


def read_if_there(path: Place, limit: int) -> bytes | None:
    """As :func:`read_whole`; None if nothing stands there."""
    if isinstance(path, RemotePath):
        return path.bucket.read(path.key, limit)
    return None if look_at(path) is None else read_whole(path, limit)


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


def swap_folders(one: Path, other: Path) -> None:
    """Give two folders of one disk each other's name: at once where the system can (Linux's
    renameat2), else by renames between which ``one`` is not there, but beside its place.

    Raises:
        OSError: they stay where they are.
    """
    if not _exchange(one, other):
        aside = one.with_name(f"{one.name}.replaced-{secrets.token_hex(4)}")  # nobody sweeps it
        one.rename(aside)
        try:
            other.rename(one)
        except BaseException:
            aside.rename(one)
            raise
        aside.rename(other)


def _exchange(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if rename(here, os.fsencode(one), here, os.fsencode(other), both):
        code = ctypes.get_errno()
        if code in _NO_EXCHANGE:
            return False
        raise OSError(code, os.strerror(code), str(one))
    return True


def sweep(folder: Place) -> None:
    """Remove a folder of leftovers, as far as the disk lets it; whoever comes next goes on."""
    if isinstance(folder, RemotePath):
        with suppress(VaultError):
            folder.bucket.remove(key for key, _ in folder.bucket.objects(folder.key))
        return
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


def publish(path: Place, data: bytes, partial: Place) -> None:
    """Publish a file as :func:`put_if_absent` does, with a temporary one below ``partial``."""
    if isinstance(path, RemotePath) or isinstance(partial, RemotePath):
        put_if_absent(path, data, Path())
        return
    with writing(partial):
        partial.mkdir(exist_ok=True)
    put_if_absent(path, data, partial / f"{path.name}.{secrets.token_hex(4)}")


def put_if_absent(path: Place, data: bytes, temporary: Path) -> None:
    """Publish a file whole and durable under ``path``, never over another.

    On a disk it is written and synced under ``temporary``, then linked; an object is put on the
    condition that there is none: of several writers one wins. It is no failure if the same bytes
    stand there already.

    Raises:
        ResourceError: the disk refuses.
        VaultError: other bytes stand there.
    """
    if isinstance(path, RemotePath):
        try:
            path.bucket.put(path.key, data, None)
        except Changed:
            _refuse_other(path, data)
        return
    write_file(temporary, data)
    try:
        with writing(path):
            try:
                os.link(temporary, path)
            except FileExistsError:
                _refuse_other(path, data)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _refuse_other(path: Place, data: bytes) -> None:
    if read_whole(path, max(len(data), 1)) != data:
        raise VaultError(
            f"{path} already exists with other contents; another process wrote it"
        ) from None
