"""From rows to records: tokens, ids, offsets, words, special tokens and segments.

What a user writes is text. A special token spelled in a text (``[SEP]``, ``</s>``) is cut up like
any other string and never becomes the special token's id; where a tokenizer cannot do that, the row
is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

from qkvault import InputError, Json, Record
from qkvault_extractor.encoders import Encoded, Encoder, make_encoder
from qkvault_extractor.rows import Reject, Row
from qkvault_extractor.spool import RecordSpool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qkvault_extractor.options import OnBad

_BATCH_ROWS = 1024


def encode_rows(
    rows: Iterable[Row],
    tokenizer: Any,
    *,
    max_length: int | None = None,
    truncate: bool = False,
    model_limit: int | None = None,
    vocab_size: int | None = None,
    on_bad: OnBad = "stop",
    chat: bool = False,
) -> tuple[RecordSpool, list[Reject]]:
    """Tokenize rows, in order; see :func:`walk_records`, which this gathers.

    Returns:
        The records of usable rows, and the rejects (only with ``on_bad="skip"``).

    Raises:
        InputError: as :func:`walk_records`; or no row is left.
    """
    records = RecordSpool()
    rejects: list[Reject] = []
    for made in walk_records(
        rows,
        tokenizer,
        max_length=max_length,
        truncate=truncate,
        model_limit=model_limit,
        vocab_size=vocab_size,
        on_bad=on_bad,
        chat=chat,
    ):
        if isinstance(made, Record):
            records.append(made)
        else:
            rejects.append(made)
    if rejects and not records:
        raise InputError(
            f"none of the {len(rejects)} rows can be used; {rejects[0].source}: {rejects[0].reason}"
        )
    return records, rejects


def walk_records(
    rows: Iterable[Row],
    tokenizer: Any,
    *,
    max_length: int | None = None,
    truncate: bool = False,
    model_limit: int | None = None,
    vocab_size: int | None = None,
    on_bad: OnBad = "stop",
    chat: bool = False,
) -> Iterator[Record | Reject]:
    """Tokenize rows a batch at a time, in order, holding no more than a batch.

    Args:
        rows: checked rows, all with as many texts.
        tokenizer: a transformers tokenizer; slow ones give no offsets and no words.
        max_length: most tokens of an example, special tokens included; None for the model's limit.
        truncate: cut what is longer (a pair's longer text first) instead of refusing it. A record
            that was cut has ``columns["truncated"] = True``, unless the data has such a column.
        model_limit: :func:`qkvault_extractor.limits.model_limit_of`; None for no limit.
        vocab_size: entries in the model's vocabulary; None to leave ids unchecked.
        on_bad: "stop" raises at the first row that cannot be used, "skip" yields a reject for it.
        chat: texts are conversations, written out by a template with all special tokens.

    Raises:
        InputError: ``max_length`` above the model's limit or too small for any text; a token id the
            model does not have; and, on "stop", a row that is too long, makes no tokens or spells a
            special token that the tokenizer cannot take as text.
    """
    encoder = make_encoder(tokenizer, chat=chat)
    limit = _choose_limit(max_length, model_limit)
    maker = _Maker(encoder, limit, truncate, "--max-length" if max_length else "the model")
    todo = iter(rows)
    while batch := list(islice(todo, _BATCH_ROWS)):
        _check_room(encoder, limit, len(batch[0].texts))
        for row, made in zip(batch, maker.make(batch), strict=True):
            if isinstance(made, str):
                if on_bad == "stop":
                    raise InputError(f"{row.source}: {made}, or leave out with --on-bad skip")
                yield Reject(row.number, row.source, row.id, made)
            else:
                _check_ids(row, made, vocab_size)
                yield made


def find_spelled_specials(rows: Iterable[Row], tokenizer: Any) -> list[tuple[Row, str]]:
    """Find rows in whose texts a special token is spelled out, and which; it is text there.

    They are given bare.
    """
    spelled = tuple(s for s in tokenizer.all_special_tokens if s)
    firsts = ((row, _first_in(row.texts, spelled)) for row in rows)
    return [(row.bare(), token) for row, token in firsts if token]


def _first_in(texts: Sequence[str], spelled: Sequence[str]) -> str:
    return next((s for s in spelled if any(s in text for text in texts)), "")


def note_spelled_specials(found: Sequence[tuple[Row, str]]) -> str:
    """A line about what :func:`find_spelled_specials` found; "" if that was nothing."""
    if not found:
        return ""
    row, token = found[0]
    rows = "1 row spells" if len(found) == 1 else f"{len(found)} rows spell"
    return (
        f"{rows} special tokens such as {token} ({row.source}): it is text there, cut up like any"
        " other, and marks nothing"
    )


class _Maker:
    """Makes records, or says in a string why a row gives none."""

    def __init__(self, encoder: Encoder, limit: int | None, truncate: bool, limiter: str) -> None:
        self.encoder = encoder
        self.limit = limit
        self.truncate = truncate
        self.limiter = limiter
        self.spelling = Spelling(encoder.tokenizer)

    def make(self, rows: Sequence[Row]) -> list[Record | str]:
        found = self.encoder.encode([row.texts for row in rows], None)
        long = [i for i, e in enumerate(found) if self.limit and len(e.ids) > self.limit]
        cut: dict[int, Encoded] = {}
        if long and self.truncate:
            shorter = self.encoder.encode([rows[i].texts for i in long], self.limit)
            cut = dict(zip(long, shorter, strict=True))
        elif long:
            return [
                self._too_long(found[i]) if i in set(long) else self._record(row, found[i], False)
                for i, row in enumerate(rows)
            ]
        return [self._record(row, cut.get(i, found[i]), i in cut) for i, row in enumerate(rows)]

    def _too_long(self, encoded: Encoded) -> str:
        return (
            f"{len(encoded.ids)} tokens where {self.limiter} takes {self.limit}"
            " at most; cut with --truncate"
        )

    def _record(self, row: Row, encoded: Encoded, truncated: bool) -> Record | str:
        flaw = encoded.flaw(len(row.texts), self.encoder.special_ids)
        if flaw:
            return flaw
        columns: dict[str, Json] = dict(row.columns)
        if truncated:
            columns.setdefault("truncated", True)
        return Record(
            id=row.id,
            text=row.texts,
            tokens=tuple(map(self.spelling.__getitem__, encoded.ids)),
            token_ids=tuple(encoded.ids),
            segments=encoded.segments,
            special=encoded.special,
            offsets=encoded.offsets,
            words=encoded.words,
            label=row.label,
            columns=columns,
        )


class Spelling(dict[int, str]):
    """Token strings by id, each made once: a corpus holds millions of tokens, but few kinds."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, token_id: int) -> str:
        found = self._tokenizer.convert_ids_to_tokens(token_id)
        self[token_id] = spelled = str(token_id) if found is None else str(found)
        return spelled


def number_words(record: Record, words: Sequence[str]) -> Record:
    """Number a record's tokens by the data's own words, whose text joins them with blanks.

    Args:
        record: of one text, with offsets; without them it is given back as it is.
        words: of its text.
    """
    if not record.offsets:
        return record
    ends = list(accumulate(len(word) + 1 for word in words))
    numbers = tuple(
        -1 if special else bisect_right(ends, start)
        for (start, _), special in zip(_trimmed(record), record.special, strict=True)
    )
    return replace(record, words=numbers)


def _trimmed(record: Record) -> Iterator[tuple[int, int]]:
    """Characters of each token without the blanks it begins with, as byte-level tokens do."""
    text = record.text[0]
    for start, end in record.offsets:
        while start < end - 1 and text[start] == " ":
            start += 1
        yield start, end


def _choose_limit(max_length: int | None, model_limit: int | None) -> int | None:
    if max_length is not None and model_limit is not None and max_length > model_limit:
        raise InputError(
            f"--max-length {max_length} is more than the {model_limit} tokens the model takes;"
            f" give {model_limit} or less, or leave it out"
        )
    return model_limit if max_length is None else max_length


def _check_room(encoder: Encoder, limit: int | None, texts: int) -> None:
    need = encoder.count_specials(pair=texts == 2) + texts
    if limit is not None and limit < need:
        raise InputError(
            f"--max-length {limit} is too short: special tokens and one token of each text"
            f" make {need}"
        )


def _check_ids(row: Row, record: Record, vocab_size: int | None) -> None:
    if vocab_size is not None and max(record.token_ids) >= vocab_size:
        token = record.token_ids.index(max(record.token_ids))
        raise InputError(
            f"{row.source}: token {record.tokens[token]!r} has the id {record.token_ids[token]},"
            f" but the model's vocabulary ends at {vocab_size - 1}: the tokenizer belongs to"
            " another model"
        )
