"""The page's modules and styles as one file each, so that a page is a few requests and not seventy.

Nothing is rewritten but what ties modules together: each becomes a function that is run once and
returns what it exports, those that it imports before it. The sources stay as they are, and are what
runs where a browser asks for them one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final

_IMPORT: Final = re.compile(r"^import \{([^}]*)\} from \"([^\"]+)\";\n", re.MULTILINE)
_EXPORT: Final = re.compile(
    r"^export ((?:async function|function|class|const) (\w+))", re.MULTILINE
)
_LOOSE: Final = re.compile(r"^(?:import|export)\b", re.MULTILINE)
_STYLE: Final = re.compile(r"^@import \"([^\"]+)\";\n", re.MULTILINE)


def join_modules(entry: str, read: Callable[[str], str]) -> str:
    """An ECMAScript module and all that it imports, as one module.

    Args:
        entry: path of the module, with ``/`` between its parts.
        read: gives the source of a path.

    Raises:
        ValueError: a module is imported in a circle, or is tied to others in a way other than
            ``import { a, b as c } from "./path.js";`` and ``export`` before a function, a class or
            a constant.
    """
    pieces: list[str] = []
    numbers: dict[str, int] = {}
    _join(entry, read, pieces, numbers, ())
    return "\n".join(pieces)


def _join(
    path: str,
    read: Callable[[str], str],
    pieces: list[str],
    numbers: dict[str, int],
    importers: tuple[str, ...],
) -> None:
    if path in numbers:
        return
    if path in importers:
        raise ValueError(f"{path} is imported in a circle: {' -> '.join([*importers, path])}")
    source = read(path)
    for _, target in _IMPORT.findall(source):
        _join(_beside(path, target), read, pieces, numbers, (*importers, path))

    def take(match: re.Match[str]) -> str:
        names = " ".join(match[1].replace(" as ", ": ").split())
        return f"const {{ {names} }} = module{numbers[_beside(path, match[2])]};\n"

    body = _IMPORT.sub(take, source)
    exported = [name for _, name in _EXPORT.findall(body)]
    body = _EXPORT.sub(r"\1", body)
    if _LOOSE.search(body):
        raise ValueError(f"{path} is tied to other modules in a way that cannot be joined")
    numbers[path] = len(numbers)
    given = f"return {{ {', '.join(exported)} }};\n"
    pieces.append(f"// {path}\nconst module{numbers[path]} = (() => {{\n{body}\n{given}}})();\n")


def join_styles(entry: str, read: Callable[[str], str]) -> str:
    """A style sheet with those that it imports in place; arguments as :func:`join_modules`."""
    return _STYLE.sub(lambda match: read(_beside(entry, match[1])), read(entry))


def _beside(path: str, target: str) -> str:
    """The path that ``target`` means in the file at ``path``."""
    parts: list[str] = []
    for part in (PurePosixPath(path).parent / target).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


ENTRIES: Final[Mapping[str, Callable[[str, Callable[[str], str]], str]]] = {
    "js/main.js": join_modules,
    "js/lineworker.js": join_modules,
    "css/page.css": join_styles,
}
"""Files of the page that are sent with all that they import, and how each is joined."""


def joined(folder: Path, entry: str) -> bytes:
    """An entry of the page below ``folder``, joined; anew only once a source has changed."""
    stamps = [(path.stat().st_mtime_ns, path.name) for path in folder.rglob("*.*")]
    return _joined(folder, entry, hash(tuple(sorted(stamps))))


@lru_cache(maxsize=8)
def _joined(folder: Path, entry: str, stamp: int) -> bytes:
    def read(path: str) -> str:
        return (folder / path).read_text(encoding="utf-8")

    return ENTRIES[entry](entry, read).encode()
