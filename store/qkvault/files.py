"""A file of a vault, open for reading, wherever it stands."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from .errors import ResourceError, VaultError

if TYPE_CHECKING:
    from pathlib import Path


def explain(error: OSError) -> str:
    """What the system says of a failure, without number and path."""
    return error.strerror or str(error)


class OpenFile(Protocol):
    """A file of a vault, open for reading; threads may share it.

    Attributes:
        size: in bytes.
    """

    @property
    def size(self) -> int: ...

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes at ``offset``; ``VaultError`` if it cannot give them."""
        ...

    def close(self) -> None: ...


class LocalFile:
    """A regular file, open until nobody holds it."""

    __slots__ = ("_fd", "path", "size")

    def __init__(self, path: Path) -> None:
        self._fd = -1
        self.path = path
        self._fd, self.size = _open(path)

    def __del__(self) -> None:
        self.close()

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes at ``offset``; keeps no position.

        Raises:
            VaultError: the file ends early or the disk fails.
        """
        fd = self._fd
        try:
            data = os.pread(fd, size, offset)
            while len(data) < size:
                more = os.pread(fd, size - len(data), offset + len(data))
                if not more:
                    raise VaultError(f"{self.path} ends early: it has fewer bytes than it should")
                data += more
        except OSError as error:
            raise VaultError(f"cannot read {self.path}: {explain(error)}") from error
        return data

    def close(self) -> None:
        """Close it now; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _open(path: Path) -> tuple[int, int]:
    """File descriptor and size in bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise VaultError(f"{path} is missing") from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise ResourceError(f"cannot open {path}: {explain(error)}; raise ulimit -n") from error
        raise VaultError(f"cannot open {path}: {explain(error)}") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise VaultError(f"{path} is not a regular file")
    except OSError as error:
        os.close(fd)
        raise VaultError(f"cannot look at {path}: {explain(error)}") from error
    except BaseException:
        os.close(fd)
        raise
    return fd, status.st_size
