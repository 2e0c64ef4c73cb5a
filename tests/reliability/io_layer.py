"""Stands between Python and the system's files: counts what a test does to them, and interferes.

The functions of :mod:`os` (and ``fcntl.flock``) are wrapped, below anything that the store does,
so that no step between two calls escapes and the store needs no hooks.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

READING = ("pread", "stat", "lstat", "fstat", "listdir", "scandir")
WRITING = (
    *("write", "writev", "fsync", "link", "rename", "replace", "unlink"),
    *("mkdir", "rmdir", "utime"),
)
EITHER = ("open", "flock")


@dataclass
class Call:
    """One call that reaches a file of the test.

    Attributes:
        number: counted from 1.
        name: of the function, such as ``"rename"``; ``"create"`` for an open that may make a file.
        path: of the file.
        target: where a link or a new name is to be; else empty.
    """

    number: int
    name: str
    path: str
    target: str

    @property
    def changes(self) -> bool:
        """Whether the call may change what stands on disk."""
        return self.name in WRITING or self.name == "create"


Interfere = Callable[[Call, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@dataclass
class IoLayer:
    """What was called below a folder, and who may interfere.

    Attributes:
        root: calls on other files pass by uncounted.
        interfere: called in place of each function with (call, function, args, kwargs).
        calls: all calls so far.
    """

    root: Path
    interfere: Interfere
    calls: list[Call] = field(default_factory=list)

    def call(self, function: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        """Make a call, or let ``interfere`` do with it what it wants."""
        path = _path_of(args, kwargs)
        if not path.startswith(str(self.root)):
            return function(*args, **kwargs)
        if name == "open" and args[1] & os.O_CREAT:
            name = "create"
        target = os.fspath(args[1]) if name in ("link", "rename", "replace") else ""
        self.calls.append(Call(len(self.calls) + 1, name, path, target))
        return self.interfere(self.calls[-1], function, args, kwargs)


def let_pass(
    call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The interference that is none."""
    return function(*args, **kwargs)


@contextmanager
def io_layer(root: Path, interfere: Interfere = let_pass) -> Iterator[IoLayer]:
    """Count, and interfere with, every call on files below ``root``."""
    layer = IoLayer(root, interfere)
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in (*READING, *WRITING, "open"):
            _wrap(monkeypatch, os, name, layer)
        _wrap(monkeypatch, fcntl, "flock", layer)
        yield layer


def _wrap(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, layer: IoLayer) -> None:
    function = getattr(module, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return layer.call(function, name, *args, **kwargs)

    monkeypatch.setattr(module, name, wrapped)


_READLINK = os.readlink


def _path_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    target = args[0] if args else ""
    folder = kwargs.get("dir_fd")
    if folder is not None:
        return f"{_fd_path(folder)}/{target}"
    return _fd_path(target) if isinstance(target, int) else os.fspath(target)


def _fd_path(fd: int) -> str:
    try:
        return _READLINK(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
