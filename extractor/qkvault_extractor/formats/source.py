"""What every reader gives: a source of raw rows, and how its bytes become lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, Literal

from qkvault import InputError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

Format = Literal["jsonl", "csv", "tsv", "parquet", "text", "conll", "mrpc", "datasets"]
FORMATS: Final[tuple[Format, ...]] = (
    "jsonl",
    "csv",
    "tsv",
    "parquet",
    "text",
    "conll",
    "mrpc",
    "datasets",
)

_SAMPLE = 1000
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Raw:
    """One row as it was read, before columns are chosen.

    Attributes:
        source: where it stands (``train.tsv line 18``).
        values: its values by column; empty if ``flaw`` is set.
        flaw: why it could not be read, or "".
    """

    source: str
    values: Mapping[str, object]
    flaw: str = ""


@dataclass(frozen=True)
class Source:
    """One file or data set, opened: its columns are known, its rows are still to be read.

    Attributes:
        name: as the user knows it (a file name, a data set's name).
        format: one of :data:`FORMATS`.
        columns: the column names, in order.
        rows: the rows; can be walked once.
        spelled: whether every value is a string because the format knows nothing else.
        sample: the first rows, for guesses.
        label_names: for columns that declare their classes, the names in order.
    """

    name: str
    format: Format
    columns: tuple[str, ...]
    rows: Iterator[Raw]
    spelled: bool = False
    sample: tuple[Raw, ...] = ()
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def peek(
    name: str,
    format: Format,
    rows: Generator[Raw],
    columns: tuple[str, ...] = (),
    *,
    spelled: bool = False,
    label_names: Mapping[str, tuple[str, ...]] | None = None,
) -> Source:
    """Make a source of a generator of rows, reading the first ones as its sample.

    Without ``columns`` they are the keys of the sample, in order of appearance.

    Raises:
        InputError: there is no row at all, or none of the sample can be read.
    """
    sample = tuple(islice(rows, _SAMPLE))
    if not sample:
        raise InputError(f"{name} has no rows")
    columns = columns or tuple(dict.fromkeys(chain.from_iterable(r.values for r in sample)))
    if not columns:
        raise InputError(f"{sample[0].source}: {sample[0].flaw or 'the row has no columns'}")
    return Source(name, format, columns, chain(sample, rows), spelled, sample, label_names or {})


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Yield (line number from 1, line without its end) over a file, bytes otherwise as they are.

    A line ends at ``\n`` or ``\r\n`` and nowhere else. A byte-order mark is dropped at the file's
    start only, and blank lines at its end are not lines.
    """
    blank: list[tuple[int, bytes]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            body = line.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                body = body.removeprefix(BOM)
            if not body:
                blank.append((number, body))
                continue
            yield from blank
            blank.clear()
            yield number, body


def describe_undecodable(line: bytes) -> str:
    """Say where a line stops being UTF-8; "" if it is UTF-8 throughout."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        found = line[error.start]
        return f"not UTF-8 (byte 0x{found:02x} at byte {error.start + 1}); save the file as UTF-8"
    return ""
