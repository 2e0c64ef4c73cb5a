"""What the input side hands on: rows that can be used, and rows that cannot with the reason.

A row is what the data holds, before any tokenizer has seen it; :class:`qkvault.Record` is what
comes after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qkvault import Json, Label


_NONE: Final[Mapping[str, Json]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """One usable row of the data.

    Attributes:
        number: position in the data, from 0, counted over all files, rejected rows included.
        source: where it stands, to be named to the user: ``train.tsv line 18`` (lines count from 1,
            the header included) or ``train.parquet row 4`` (rows count from 0, as Python does).
        texts: one text, or the two of a pair; never empty, always encodable as UTF-8.
        id: the id column's value as a string, or ``str(number)``.
        label: the label column's value; None where the row has none.
        columns: all other columns whose values JSON can carry; NaN and infinities become None.
        target: what the decoder of an encoder-decoder is to say; None where no column was named.
        messages: of a conversation, ``role`` and ``content`` of each; then there are no texts yet.
    """

    number: int
    source: str
    texts: tuple[str, ...]
    id: str
    label: Label = None
    columns: Mapping[str, Json] = field(default_factory=dict)
    messages: tuple[Mapping[str, str], ...] = ()
    target: str | None = None

    def bare(self) -> Row:
        """The row without its texts and columns: what names it, and its target."""
        return Row(self.number, self.source, (), self.id, columns=_NONE, target=self.target)


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that was left out, and why.

    Attributes:
        number: position in the data, as :attr:`Row.number`.
        source: where it stands, as :attr:`Row.source`.
        id: its id, where it could be read.
        reason: what is wrong with it, in a few words.
    """

    number: int
    source: str
    id: str | None
    reason: str

    def to_json(self) -> dict[str, Json]:
        """Give the reject as the vault lists it: keys ``row``, ``source``, ``id``, ``reason``."""
        return {"row": self.number, "source": self.source, "id": self.id, "reason": self.reason}


@dataclass(frozen=True)
class Inputs:
    """Everything read from ``--data``, checked.

    Attributes:
        rows: the usable rows in dataset order; at least one, all with as many texts.
        rejects: the rows left out (only with ``on_bad="skip"``).
        text_hash: :func:`qkvault_extractor.identity.text_hash` of ``rows``.
        sources: names of the files or data sets, in the order read.
        formats: their formats, one per source.
        text_columns: the one or two columns that hold the texts.
        label_column: the column that holds the label, or None.
        target_column: the column that holds the target text, or None.
        id_column: the column that holds the id, or None for running numbers.
        label_names: names of the classes in order, where the data set declares them.
        dropped: columns left out because JSON cannot carry their values (images, bytes).
    """

    rows: list[Row]
    rejects: list[Reject]
    text_hash: str
    sources: tuple[str, ...]
    formats: tuple[str, ...]
    text_columns: tuple[str, ...]
    label_column: str | None
    id_column: str | None
    label_names: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    target_column: str | None = None
