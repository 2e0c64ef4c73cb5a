"""Numbers that a file could only spell in digits: CSV, TSV and MRPC know nothing but strings.

A column becomes integers when every one of its values is spelled as Python would spell that integer
(so ``007`` stays text, and nothing is lost); a label column also becomes floats when every value is
a decimal number. What is empty becomes None.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qkvault import Json, Label
    from qkvault_extractor.rows import Row

# 15 digits: what a double, and so a browser, holds exactly.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")
_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?")


def read_digits(rows: list[Row], spelled: Sequence[int]) -> None:
    """Replace, in place, the rows at the indices ``spelled`` by rows with the numbers they spell.

    A column counts as a whole over all the given rows, also when several files make it up.
    """
    some = [rows[i] for i in spelled]
    label = _reader([r.label for r in some], decimals=True)
    names = dict.fromkeys(name for r in some for name in r.columns)
    found = {name: _reader((r.columns.get(name) for r in some), decimals=False) for name in names}
    readers = {name: read for name, read in found.items() if read is not None}
    if label is None and not readers:
        return
    for i in spelled:
        row = rows[i]
        columns: dict[str, Json] = {
            name: readers[name](value) if name in readers else value
            for name, value in row.columns.items()
        }
        rows[i] = replace(row, label=label(row.label) if label else row.label, columns=columns)


def _reader(values: Iterable[object], *, decimals: bool) -> Callable[[object], Label] | None:
    """Return what turns each of the values into a number; None if one of them spells no number."""
    spelled = [v for v in values if isinstance(v, str) and v]
    if not spelled:
        return None
    if all(_INTEGER.fullmatch(v) for v in spelled):
        return lambda v: int(v) if isinstance(v, str) and v else None
    if decimals and all(_DECIMAL.fullmatch(v) for v in spelled):
        return lambda v: float(v) if isinstance(v, str) and v else None
    return None
