"""Readers for tables of text: CSV (fields may be quoted), TSV and MRPC's own files (they may not).

In a TSV file a quotation mark is text and a field cannot hold a tab or a line end; this is how GLUE
and MRPC are distributed. CSV is RFC 4180 with the delimiter read off the header, so a tab-separated
file whose fields are quoted is read as ``csv``.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from qkvault import InputError
from qkvault_extractor.formats.source import (
    BOM,
    Format,
    Raw,
    Source,
    describe_undecodable,
    peek,
    read_lines,
)
from qkvault_extractor.suggestion import list_names

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

MRPC_COLUMNS: Final = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")

_DELIMITERS = (",", ";", "\t", "|")
_LONGEST_FIELD = 2**31 - 1


def read_tsv(path: Path, format: Format = "tsv") -> Source:
    """Open a tab-separated file without quoting, or one of MRPC's own (``format="mrpc"``).

    Raises:
        InputError: no header, a column named twice, or not MRPC's columns.
    """
    header = next(read_lines(path), (1, b""))[1]
    flaw = describe_undecodable(header)
    if flaw:
        raise InputError(f"{path.name} line 1: {flaw}")
    columns = _name_columns(path.name, header.decode().split("\t"))
    if format == "mrpc" and columns != MRPC_COLUMNS:
        raise InputError(
            f"{path.name} is not one of MRPC's own files: its header has to be"
            f" {', '.join(MRPC_COLUMNS)}, separated by tabs; try --format tsv"
        )
    return peek(path.name, format, _walk_tsv(path, columns), columns, spelled=True)


def read_csv(path: Path) -> Source:
    """Open a CSV file; the delimiter (comma, semicolon, tab or bar) is read off the header.

    Raises:
        InputError: no header, a column named twice, or a quotation mark never closed.
    """
    header_line = next(read_lines(path), (1, b""))[1]
    records = _walk_csv(path, find_delimiter(header_line.decode(errors="replace")))
    source, header, flaw = next(records, (f"{path.name} line 1", [], "no header"))
    if flaw:
        raise InputError(f"{source}: {flaw}")
    columns = _name_columns(path.name, header)
    return peek(path.name, "csv", _name_fields(records, columns), columns, spelled=True)


def find_delimiter(header: str) -> str:
    """Return the delimiter that cuts the header into most fields; a comma if none cuts it."""
    return max(_DELIMITERS, key=lambda d: len(next(csv.reader([header], delimiter=d), [])))


def _walk_tsv(path: Path, columns: tuple[str, ...]) -> Generator[Raw]:
    lines = read_lines(path)
    next(lines)
    for number, line in lines:
        source = f"{path.name} line {number}"
        flaw = describe_undecodable(line)
        if flaw:
            yield Raw(source, {}, flaw)
            continue
        fields = line.decode().split("\t")
        flaw = _count_flaw(len(fields), len(columns))
        if flaw and any(f.startswith('"') for f in fields):
            flaw += "; if quotation marks enclose fields, say --format csv"
        yield Raw(source, {} if flaw else dict(zip(columns, fields, strict=True)), flaw)


def _count_flaw(found: int, expected: int) -> str:
    if found == expected:
        return ""
    fields = "field" if found == 1 else "fields"
    return f"{found} {fields} where the header has {expected} columns"


def _name_fields(
    records: Iterator[tuple[str, list[str], str]], columns: tuple[str, ...]
) -> Generator[Raw]:
    for source, fields, broken in records:
        flaw = broken or _count_flaw(len(fields), len(columns))
        yield Raw(source, {} if flaw else dict(zip(columns, fields, strict=True)), flaw)


def _walk_csv(path: Path, delimiter: str) -> Generator[tuple[str, list[str], str]]:
    """Yield (source, fields, flaw) per record, header first; blank lines at the end are none."""
    # The module's limit of 131,072 characters a field is one setting for the whole process.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    undecodable: list[str] = []
    reader = csv.reader(_decode_lines(path, undecodable), delimiter=delimiter, strict=True)
    blank: list[tuple[str, list[str], str]] = []
    while True:
        start = reader.line_num + 1
        source = f"{path.name} line {start}"
        try:
            fields = next(reader)
            flaw = "" if fields else "a blank line"
        except StopIteration:
            return
        except csv.Error as error:
            fields, flaw = [], _explain_csv(str(error), source)
        if undecodable:
            flaw = undecodable[0]
            undecodable.clear()
        if flaw == "a blank line":
            blank.append((source, fields, flaw))
            continue
        yield from blank
        blank.clear()
        yield source, fields, flaw


def _explain_csv(error: str, source: str) -> str:
    if "unexpected end of data" in error:
        # All that follows was swallowed by the open quotation mark: a bad file, not one bad row.
        raise InputError(
            f'{source}: a quotation mark opened here is never closed; double it ("") if it is'
            " text, or say --format tsv if the file's quotation marks are all text"
        )
    if "new-line character" in error:
        return "a carriage return inside a field that is not quoted"
    if "expected after" in error:
        return "broken CSV (text right after a closing quotation mark)"
    return f"broken CSV ({error})"


def _decode_lines(path: Path, undecodable: list[str]) -> Iterator[str]:
    """Yield lines with their ends, noting in ``undecodable`` what is wrong with those not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file):
            body = line.removeprefix(BOM) if number == 0 else line
            flaw = describe_undecodable(body)
            if flaw:
                undecodable.append(flaw)
            yield body.decode(errors="surrogateescape")


def _name_columns(name: str, header: list[str]) -> tuple[str, ...]:
    """Check a header; a column without a name (a written index) is called ``column N``, from 1."""
    columns = tuple(h or f"column {i}" for i, h in enumerate(header, 1))
    twice = [c for c in columns if columns.count(c) > 1]
    if twice:
        raise InputError(
            f"{name} line 1: column {twice[0]!r} stands twice in the header; rename one"
            f" (columns: {list_names(columns)})"
        )
    return columns
