"""Which columns hold the texts, the label and the id: as the user says, or as their names tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qkvault import InputError
from qkvault_extractor.suggestion import did_you_mean, list_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkvault_extractor.formats import Source

TEXT_COLUMNS: Final[tuple[tuple[str, ...], ...]] = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("#1 String", "#2 String"),
    ("sentence_A", "sentence_B"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("query", "passage"),
    ("question", "context"),
    ("text",),
    ("sentence",),
)
"""Names that tell the texts: GLUE's tasks, MRPC's own files, SICK, retrieval and QA sets."""

MESSAGE_COLUMNS: Final = ("messages", "conversation", "conversations")
"""Names that tell the messages of a conversation."""

LABEL_COLUMNS: Final = (
    "label",
    "Quality",
    "gold_label",
    "is_duplicate",
    "labels",
    "class",
    "target",
)
"""Names that tell the label, the first that is there wins."""


@dataclass(frozen=True)
class Columns:
    """The columns chosen: one or two texts, perhaps a label, an id, a target text.

    Where ``chat`` is true, the one column of ``texts`` holds lists of messages.
    """

    texts: tuple[str, ...]
    label: str | None
    id: str | None
    chat: bool = False
    target: str | None = None


def choose_columns(
    source: Source,
    text_columns: Sequence[str] = (),
    label_column: str | None = None,
    id_column: str | None = None,
    chat: bool = False,
    target_column: str | None = None,
) -> Columns:
    """Choose a source's columns.

    Args:
        source: the opened file or data set.
        text_columns: one column, or two for pairs; none to tell them by :data:`TEXT_COLUMNS`, or by
            there being one column only.
        label_column: None to tell it by :data:`LABEL_COLUMNS`.
        id_column: None for running numbers; an id column is never guessed.
        chat: the texts are conversations: one column of messages.
        target_column: the column of the target text; never guessed.

    Raises:
        InputError: a column that is not there (the nearest is named), named twice, more than two
            texts, or texts that cannot be told by name.
    """
    if len(text_columns) > 2:
        raise InputError(
            f"--text-columns takes one column, or two for pairs; {len(text_columns)} were given"
            f" ({list_names(text_columns)})"
        )
    if chat and len(text_columns) > 1:
        raise InputError("--chat-template takes one column of messages; two were given")
    named = (label_column, id_column, target_column)
    given = [*text_columns, *(c for c in named if c is not None)]
    for column in given:
        _require(column, source)
        if given.count(column) > 1:
            raise InputError(f"column {column!r} is named twice; each column has one use")
    guess = _guess_messages if chat else _guess_texts
    texts = tuple(text_columns) or guess(source, target_column)
    label = label_column if label_column is not None else _guess_label(source, (*texts, *given))
    if taken := [c for c in (label, id_column, target_column) if c in texts]:
        raise InputError(
            f"column {taken[0]!r} holds the texts;"
            f" choose the texts with --text-columns (columns: {list_names(source.columns)})"
        )
    return Columns(texts, label, id_column, chat, target_column)


def _require(column: str, source: Source) -> None:
    if column not in source.columns:
        raise InputError(
            f"column {column!r} is not in {source.name}"
            f"{did_you_mean(column, source.columns) or ';'} columns: {list_names(source.columns)}"
        )


def _guess_messages(source: Source, target: str | None) -> tuple[str, ...]:
    free = _others(source, target)
    known = [name for name in free if name in MESSAGE_COLUMNS]
    if len(known) == 1 or len(free) == 1:
        return tuple(known) or free
    raise InputError(
        f"which column of {source.name} holds the messages? say --text-columns NAME"
        f" (columns: {list_names(source.columns)})"
    )


def _others(source: Source, target: str | None) -> tuple[str, ...]:
    """The columns that do not hold the target."""
    return tuple(column for column in source.columns if column != target)


def _guess_texts(source: Source, target: str | None) -> tuple[str, ...]:
    free = _others(source, target)
    if len(free) == 1:
        return free
    there = set(free)
    known = [names for names in TEXT_COLUMNS if there.issuperset(names)]
    widest = [n for n in known if not any(set(n) < set(other) for other in known)]
    if len(widest) == 1:
        return widest[0]
    found = "no column has a known name" if not widest else _tell_choices(widest)
    raise InputError(
        f"which columns of {source.name} hold the texts? {found}; say --text-columns NAME or"
        f" NAME,NAME (columns: {list_names(source.columns)})"
    )


def _tell_choices(choices: Sequence[tuple[str, ...]]) -> str:
    return "it could be " + " or ".join(",".join(names) for names in choices)


def _guess_label(source: Source, taken: Sequence[str]) -> str | None:
    free = (c for c in LABEL_COLUMNS if c in source.columns and c not in taken)
    return next((c for c in free if _is_plain(source, c)), None)


def _is_plain(source: Source, column: str) -> bool:
    """Tell whether the sample's first value is a single one; a label per token is no label."""
    values = (r.values.get(column) for r in source.sample)
    first = next((v for v in values if v is not None), None)
    return not isinstance(first, list | tuple | Mapping)
