"""Reader for parquet files, a record batch at a time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qkvault import InputError, ResourceError
from qkvault_extractor.formats.source import Raw, Source, peek
from qkvault_extractor.suggestion import list_names

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_BATCH_ROWS = 4096


def read_parquet(path: Path) -> Source:
    """Open a parquet file.

    Raises:
        InputError: not a parquet file, or a column named twice.
        ResourceError: pyarrow is not installed.
    """
    parquet, arrow_error = _load_pyarrow()
    try:
        file = parquet.ParquetFile(path)
    except arrow_error as error:
        raise InputError(f"{path.name} is not a readable parquet file ({_first(error)})") from error
    columns = tuple(str(n) for n in file.schema_arrow.names)
    twice = [c for c in columns if columns.count(c) > 1]
    if twice:
        raise InputError(
            f"{path.name}: column {twice[0]!r} stands twice (columns: {list_names(columns)})"
        )
    return peek(path.name, "parquet", _walk(path.name, file, arrow_error), columns)


def _load_pyarrow() -> tuple[Any, type[Exception]]:
    try:
        parquet = import_module("pyarrow.parquet")
        arrow_error: type[Exception] = import_module("pyarrow").ArrowException
    except ImportError as error:
        raise ResourceError(
            "reading parquet needs pyarrow, which is not installed: pip install 'qkvault[extract]'"
        ) from error
    return parquet, arrow_error


def _walk(name: str, file: Any, arrow_error: type[Exception]) -> Generator[Raw]:
    number = 0
    with file:
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    yield Raw(f"{name} row {number}", values)
                    number += 1
        except (arrow_error, OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{name} cannot be read past row {number} ({_first(error)}); write it anew"
            ) from error


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
