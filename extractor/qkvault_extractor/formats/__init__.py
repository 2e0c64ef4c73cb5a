"""Readers for every format the extractor takes; :func:`open_sources` is the way in.

Order: source (what a reader gives) <- lines, conll, delimited, parquet, saved <- detect <- this
file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from qkvault import InputError
from qkvault_extractor.formats.conll import read_conll
from qkvault_extractor.formats.delimited import read_csv, read_tsv
from qkvault_extractor.formats.detect import SUFFIXES, detect_format, refuse_binary
from qkvault_extractor.formats.lines import read_jsonl, read_text
from qkvault_extractor.formats.parquet import read_parquet
from qkvault_extractor.formats.saved import is_saved, read_dataset
from qkvault_extractor.formats.source import FORMATS, Format, Raw, Source
from qkvault_extractor.suggestion import did_you_mean, list_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["FORMATS", "Format", "Raw", "Source", "open_source", "open_sources"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def open_sources(
    data: Sequence[str], format: str | None, split: str | None, config: str | None
) -> Iterator[Source]:
    """Open each of ``data`` in turn, the next only when the one before has been read.

    Raises:
        InputError: see :func:`open_source`; or no data at all, or a format that is not known.
    """
    if not data:
        raise InputError("no data; give --data a file, a folder or a data set's name")
    if format is not None and format not in FORMATS:
        raise InputError(
            f"no format {format!r}{did_you_mean(format, FORMATS) or ';'}"
            f" formats: {', '.join(FORMATS)}"
        )
    # All are looked up before the first is read: a missing second file should not cost an hour.
    for name in data:
        _locate(name, format, split, config)
    for name in data:
        yield open_source(name, format, split, config)


def open_source(
    name: str, format: str | None = None, split: str | None = None, config: str | None = None
) -> Source:
    """Open one file, saved folder or named data set.

    Args:
        name: a path, or the name of a data set that the ``datasets`` library finds.
        format: one of :data:`FORMATS`; None to tell it from name and content.
        split: the data set's split; not for files.
        config: the data set's configuration; not for files.

    Raises:
        InputError: not there, empty, a folder that is no data set, unreadable, or of no known
            format.
        ResourceError: the library that reads it is not installed.
    """
    path = _locate(name, format, split, config)
    if path is None:
        return read_dataset(name, split, config)
    try:
        return _read_file(path, format or detect_format(path))
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error})") from error


def _read_file(path: Path, format: str) -> Source:
    if format == "parquet":
        return read_parquet(path)
    with path.open("rb") as file:
        refuse_binary(path.name, file.read(8))
    if format in ("tsv", "mrpc"):
        return read_tsv(path, "mrpc" if format == "mrpc" else "tsv")
    readers = {"jsonl": read_jsonl, "csv": read_csv, "text": read_text, "conll": read_conll}
    return readers[format](path)


def _locate(name: str, format: str | None, split: str | None, config: str | None) -> Path | None:
    """Return the file's path; None for what the ``datasets`` library has to open."""
    path = Path(name).expanduser()
    if path.is_dir():
        if format in (None, "datasets") and (is_saved(path) or format):
            return None
        raise InputError(_describe_folder(path, format))
    if not path.exists():
        if _asks_for_dataset(name, path, format, split, config):
            return None
        raise InputError(_describe_missing(name, path))
    if format == "datasets" or split is not None or config is not None:
        wrong = "--format datasets is" if format == "datasets" else "--split and --config are"
        raise InputError(f"{name} is a file; {wrong} for data sets and folders: leave it out")
    if not path.is_file():
        raise InputError(f"{name} is not a regular file; write it to a file first")
    if path.stat().st_size == 0:
        raise InputError(f"{name} is empty")
    return path


def _asks_for_dataset(
    name: str, path: Path, format: str | None, split: str | None, config: str | None
) -> bool:
    """Tell a data set's name from the path of a file that is missing."""
    if format is not None:
        return format == "datasets"
    if split is not None or config is not None:
        return True
    looks_like_file = path.suffix.lower() in SUFFIXES or not _HUB_NAME.fullmatch(name)
    in_folder = path.parent.is_dir() and str(path.parent) != "."
    return not (looks_like_file or in_folder or _nearby(path))


def _nearby(path: Path) -> str:
    """Return "; did you mean ...?" if the folder holds a name like the missing one, else ""."""
    if not path.parent.is_dir():
        return ""
    try:
        return did_you_mean(path.name, (p.name for p in path.parent.iterdir()))
    except OSError:
        return ""


def _describe_missing(name: str, path: Path) -> str:
    if not path.parent.is_dir():
        return f"no file {name!r}: the folder {str(path.parent)!r} does not exist"
    where = "the current folder" if str(path.parent) == "." else f"{str(path.parent)!r}"
    return f"no file {path.name!r} in {where}{_nearby(path)}"


def _describe_folder(path: Path, format: str | None) -> str:
    if format not in (None, "datasets"):
        return f"{path} is a folder, not a file of format {format}"
    files = sorted(p.name for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    listed = f"name its files one by one ({list_names(files, 8)})" if files else "name a file"
    return (
        f"{path} is a folder, but not one that the datasets library saved; {listed},"
        " or say --format datasets to let that library read it"
    )
