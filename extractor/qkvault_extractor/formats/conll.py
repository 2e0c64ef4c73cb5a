"""Reader for CoNLL's formats: one word a line with its annotations, a blank line after a sentence.

The shared tasks of CoNLL-2000 and CoNLL-2003 have the word first and the tag last; CoNLL-U has ten
columns, tab separated, with the word second. A row is a sentence: its words joined by blanks are
the text, and every annotation is a list as long as the list of words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qkvault_extractor.formats.source import Raw, Source, describe_undecodable, peek, read_lines

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

WORDS: Final = "words"
"""Column of the words, as the data has them."""

_UNIVERSAL: Final = (
    "id",
    WORDS,
    "lemma",
    "upos",
    "xpos",
    "feats",
    "head",
    "deprel",
    "deps",
    "misc",
)


def read_conll(path: Path) -> Source:
    """Open a file; a row has the columns ``text``, :data:`WORDS` and those of the annotations."""
    return peek(path.name, "conll", _walk(path))


def _walk(path: Path) -> Generator[Raw]:
    start, lines = 0, list[bytes]()
    width = 0
    for number, line in read_lines(path):
        if line.strip() and not line.startswith(b"-DOCSTART-"):
            start = start or number
            lines.append(line)
            continue
        if lines:
            made = _read(path.name, start, lines, width)
            width = width or _width(made)
            yield from _unless_empty(made)
        start, lines = 0, []
    if lines:
        yield from _unless_empty(_read(path.name, start, lines, width))


def _unless_empty(raw: Raw) -> Generator[Raw]:
    if raw.flaw or raw.values:
        yield raw


def _width(raw: Raw) -> int:
    """Columns of a sentence's lines; 0 if it could not be read."""
    return len(raw.values) - ("sent_id" in raw.values) - 1 if raw.values else 0


def _read(name: str, start: int, lines: Sequence[bytes], width: int) -> Raw:
    """One sentence; without values if it has comments only."""
    source = f"{name} line {start}"
    words: list[list[str]] = []
    sentence: dict[str, object] = {}
    for number, line in enumerate(lines, start):
        if flaw := describe_undecodable(line):
            return Raw(f"{name} line {number}", {}, flaw)
        text = line.decode()
        if text.startswith("# ") and not words:
            key, _, value = text[2:].partition("=")
            if key.strip() == "sent_id":
                sentence["sent_id"] = value.strip()
            continue
        fields = text.split("\t") if "\t" in text else text.split()
        width = width or len(fields)
        if len(fields) != width:
            flaw = f"{len(fields)} columns where the lines before have {width}"
            return Raw(f"{name} line {number}", {}, flaw)
        if len(fields) == len(_UNIVERSAL) and _is_no_word(fields[0]):
            continue
        words.append(fields)
    if not words:
        return Raw(source, {})
    columns = dict(zip(_names(words[0]), map(list, zip(*words, strict=True)), strict=True))
    return Raw(source, {"text": " ".join(columns[WORDS]), **columns, **sentence})


def _is_no_word(number: str) -> bool:
    """Whether a line of CoNLL-U is a span (``3-4``) or an empty node (``8.1``)."""
    first, _, second = number.replace(".", "-").partition("-")
    return first.isdigit() and second.isdigit()


def _names(fields: Sequence[str]) -> tuple[str, ...]:
    if len(fields) == len(_UNIVERSAL) and fields[0].isdigit():
        return _UNIVERSAL
    middle = tuple(f"column {place}" for place in range(2, len(fields)))
    return (WORDS, *middle, "tags") if len(fields) > 1 else (WORDS,)
