"""The columns of the search table: their names, their types, where their values are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from .terms import storable

if TYPE_CHECKING:
    from ..spec import Json

MAX_COLUMNS: Final = 256
"""The data's columns after this many stay out of the table; the examples still carry them."""

ColumnType = Literal["integer", "number", "text", "boolean", "json", "mixed", "empty"]

_BUILT_IN: Final[Mapping[str, str]] = {
    "index": "n",
    "id": "id",
    # A line break sorts before everything printed, so this is the order by first, then second text.
    "text": "first || coalesce(char(10) || second, '')",
    "length": "length",
    "label": "label",
    "prediction": "prediction",
    "correct": "correct",
}
_FIXED_TYPES: Final[Mapping[str, ColumnType]] = {
    "id": "text",
    "text": "text",
    "length": "integer",
    "correct": "boolean",
}
_TYPES: Final[Mapping[type, ColumnType]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
}


@dataclass(frozen=True)
class Column:
    """A column of the table: one that can be sorted by and filtered on.

    Attributes:
        name: how it is asked for; a column of the data that has a built-in column's name is
            ``columns.<name>``.
        type: what its values are.
        present: how many examples have a value.
        distinct: its different values and how often each occurs, by value; None if they are many.
        minimum: its lowest value; None if it has none.
        maximum: its highest value; None if it has none.
        place: which of the data's other columns it is; None for a built-in column.
        original: what the data calls it.
    """

    name: str
    type: ColumnType
    present: int
    distinct: tuple[tuple[Json, int], ...] | None
    minimum: Json
    maximum: Json
    place: int | None
    original: str

    @property
    def user(self) -> bool:
        """Whether it comes from the data's other columns."""
        return self.place is not None

    @property
    def sql(self) -> str:
        """The SQL expression of its value; numbers and text compare in it as they do in Python."""
        return column_sql(self.name, self.place)


def column_sql(name: str, place: int | None) -> str:
    """The SQL expression of a column's value; ``place`` is None for a built-in column."""
    return _BUILT_IN[name] if place is None else f"json_extract(columns, '$[{place}]')"


class ColumnKinds:
    """Which columns the records have, in order of first sight, and the types seen in each."""

    def __init__(self) -> None:
        self._seen: dict[str, set[ColumnType]] = {"label": set(), "prediction": set()}
        self._public: dict[str, str] = {}

    def place(self, columns: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
        """(name in the table, value) of one record, by place; None where it lacks the column."""
        for name in columns:
            if name not in self._public and len(self._public) < MAX_COLUMNS:
                self._add(name)
        return ((public, columns.get(name)) for name, public in self._public.items())

    def see(self, name: str, value: Json) -> None:
        """Note the type of a value of the column that the table calls ``name``."""
        if value is not None:
            self._seen[name].add(_TYPES.get(type(value), "json"))

    def type_of(self, name: str) -> ColumnType:
        """The one type that holds every value seen in the column."""
        if name in _FIXED_TYPES:
            return _FIXED_TYPES[name]
        seen = self._seen[name]
        if len(seen) == 1:
            return next(iter(seen))
        if not seen:
            return "empty"
        return "number" if seen == {"integer", "number"} else "mixed"

    def names(self) -> Iterator[tuple[str, int | None, str]]:
        """(name in the table, place, name in the data) of every column that has to be sorted."""
        for name in _BUILT_IN:
            if name != "index":
                yield name, None, name
        for place, (original, name) in enumerate(self._public.items()):
            yield name, place, storable(original)

    def _add(self, original: str) -> None:
        name = storable(original)
        while name in _BUILT_IN or name in self._seen:
            name = f"columns.{name}"
        self._public[original] = name
        self._seen[name] = set()


def index_column(examples: int) -> Column:
    """The column of example numbers, which is neither stored nor sorted."""
    lowest, highest = (0, examples - 1) if examples else (None, None)
    return Column("index", "integer", examples, None, lowest, highest, None, "index")


def typed(value: Json, kind: ColumnType) -> Json:
    """A value as SQLite gives it back, in the column's own type: SQLite has no booleans."""
    return bool(value) if kind == "boolean" and value is not None else value


def as_column_type(name: str) -> ColumnType:
    """A column type read back from the file."""
    return cast("ColumnType", name)
