"""The way in to the input side: from ``--data`` and its options to checked rows.

Everything that can be wrong with the data is found here, before torch is imported. Order: rows and
suggestion <- formats <- columns <- checks, digits, identity <- this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qkvault import InputError
from qkvault_extractor.checks import check_row
from qkvault_extractor.columns import Columns, choose_columns
from qkvault_extractor.digits import read_digits
from qkvault_extractor.formats import open_sources
from qkvault_extractor.identity import text_hash
from qkvault_extractor.rows import Inputs, Reject, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkvault_extractor.formats import Source
    from qkvault_extractor.options import OnBad


def load_inputs(
    *,
    data: Sequence[str],
    format: str | None = None,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    id_column: str | None = None,
    split: str | None = None,
    config: str | None = None,
    limit: int | None = None,
    on_bad: OnBad = "stop",
    chat: bool = False,
    target_column: str | None = None,
) -> Inputs:
    """Read and check all of the data.

    Args:
        data: files, saved folders or data set names, read one after the other as one data set.
        format: one of :data:`qkvault_extractor.formats.FORMATS` for all of them; None to tell it.
        text_columns: one column, or two for pairs; none to tell them by name.
        label_column: None to tell it by name.
        id_column: None for running numbers ("0", "1", ...), counted over all the data.
        split: a data set's split.
        config: a data set's configuration.
        limit: how many rows to read at most, rejected ones included; None for all.
        on_bad: "stop" raises at the first row that cannot be used, "skip" lists such rows.
        chat: rows are conversations: lists of messages in one column.
        target_column: the column of the target text; None for none.

    Raises:
        InputError: anything that is wrong with files, options or rows; names file, row and remedy.
        ResourceError: a library the format needs is not installed.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit} leaves no row; it has to be 1 or more")
    reading = _Reading(on_bad)
    for source in open_sources(data, format, split, config):
        columns = choose_columns(source, text_columns, label_column, id_column, chat, target_column)
        if reading.read(source, columns, limit):
            break
    reading.finish()
    columns = reading.columns
    return Inputs(
        rows=reading.rows,
        rejects=sorted(reading.rejects, key=lambda r: r.number),
        text_hash=text_hash(reading.rows),
        sources=tuple(s.name for s in reading.sources),
        formats=tuple(s.format for s in reading.sources),
        text_columns=columns.texts,
        label_column=columns.label,
        id_column=columns.id,
        label_names=reading.sources[0].label_names.get(columns.label or "", ()),
        dropped=tuple(sorted(reading.dropped)),
        target_column=columns.target,
    )


@dataclass
class _Reading:
    """Rows gathered so far, over all sources."""

    on_bad: OnBad
    sources: list[Source] = field(default_factory=list)
    columns: Columns = field(default_factory=lambda: Columns((), None, None))
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)
    spelled: list[int] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def read(self, source: Source, columns: Columns, limit: int | None) -> bool:
        """Take a source's rows; True once ``limit`` rows have been read in all."""
        if self.sources and columns != self.columns:
            raise InputError(_tell_difference(self.sources[0], self.columns, source, columns))
        self.sources.append(source)
        self.columns = columns
        for raw in source.rows:
            row = check_row(raw, self.count, columns, self.dropped)
            self.count += 1
            if isinstance(row, Row) and columns.id is not None:
                row = self._refuse_twin(row)
            if isinstance(row, Reject):
                self._reject(row)
            else:
                if source.spelled:
                    self.spelled.append(len(self.rows))
                self.rows.append(row)
            if self.count == limit:
                return True
        return False

    def finish(self) -> None:
        """Read numbers out of digits, then check that all labels are of one kind."""
        read_digits(self.rows, self.spelled)
        kept: list[Row] = []
        first: Row | None = None
        for row in self.rows:
            if row.label is not None:
                first = first or row
                if isinstance(row.label, str) != isinstance(first.label, str):
                    self._reject(_mixed(row, first))
                    continue
            kept.append(row)
        self.rows = kept
        if not kept:
            one = self.rejects[0]
            raise InputError(
                f"none of the {self.count} rows can be used; {one.source}: {one.reason}"
            )

    def _refuse_twin(self, row: Row) -> Row | Reject:
        before = self.seen.setdefault(row.id, row.source)
        if before is row.source:
            return row
        return Reject(row.number, row.source, row.id, f"id {row.id!r} stands at {before} already")

    def _reject(self, reject: Reject) -> None:
        if self.on_bad == "stop":
            raise InputError(
                f"{reject.source}: {reject.reason}; mend it, or leave out such rows"
                " with --on-bad skip"
            )
        self.rejects.append(reject)


def _mixed(row: Row, first: Row) -> Reject:
    reason = f"label {row.label!r} is of another kind than label {first.label!r} at {first.source}"
    return Reject(row.number, row.source, row.id, reason)


def _tell_difference(a: Source, of_a: Columns, b: Source, of_b: Columns) -> str:
    return (
        f"{a.name} and {b.name} have other columns (texts {','.join(of_a.texts)}, label"
        f" {of_a.label}; texts {','.join(of_b.texts)}, label {of_b.label});"
        " name columns that both have, or extract each to its own vault"
    )
