"""Transformers tokenizers, fast and slow, behind one face: texts in, ids and their layout out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qkvault import InputError
from qkvault_extractor.template import Layout, lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example, tokenized.

    Attributes:
        ids: token ids, special tokens included.
        layout: which of them belong to which text, and which are special.
        offsets: half-open character range of each token in its text; (0, 0) for special tokens;
            empty if the tokenizer knows none.
        words: word number of each token in its text; -1 for special tokens; empty likewise.
    """

    ids: list[int]
    layout: Layout
    offsets: tuple[tuple[int, int], ...] = ()
    words: tuple[int, ...] = ()

    @property
    def segments(self) -> tuple[int, ...]:
        """Text of each token: 0 or 1."""
        return self.layout.segments

    @property
    def special(self) -> tuple[int, ...]:
        """1 for special tokens, 0 for the texts' own."""
        return self.layout.special

    def flaw(self, texts: int, special_ids: frozenset[int]) -> str:
        """Say why no record can be made of this, or ""."""
        here = self.layout
        if not here.a or (texts == 2 and not here.b):
            which = "the text" if texts == 1 else f"text {2 if here.a else 1}"
            return f"the tokenizer makes no tokens of {which}; mend or remove the row"
        own = self.ids[here.before : here.before + here.a]
        own += self.ids[here.before + here.a + here.between :][: here.b]
        if not special_ids.isdisjoint(own):
            return (
                "a text spells one of the tokenizer's special tokens, and this tokenizer cannot"
                " take it as text; remove it"
            )
        return ""


@dataclass(frozen=True, slots=True)
class EncodedChat(Encoded):
    """One conversation, tokenized: special tokens stand where its template wrote them.

    Attributes:
        marks: ids of special tokens.
    """

    marks: frozenset[int] = frozenset()

    @property
    def special(self) -> tuple[int, ...]:
        """1 for special tokens, 0 for all others."""
        return tuple(int(token in self.marks) for token in self.ids)

    def flaw(self, texts: int, special_ids: frozenset[int]) -> str:
        """Say why no record can be made of this, or ""."""
        return "" if self.ids else "the tokenizer makes no tokens of the text"


class Encoder(ABC):
    """A tokenizer at work on batches of texts.

    Attributes:
        tokenizer: the transformers tokenizer.
        special_ids: ids that a text of its own must never give; the unknown token is not of them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.special_ids = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    @abstractmethod
    def encode(self, texts: Sequence[tuple[str, ...]], limit: int | None) -> list[Encoded]:
        """Tokenize single texts or pairs (all alike), cut to ``limit`` tokens if it is given."""

    @abstractmethod
    def encode_targets(self, texts: Sequence[str], limit: int | None) -> list[Encoded]:
        """Tokenize single texts as what a decoder is to say: of another language, perhaps."""

    def count_specials(self, *, pair: bool) -> int:
        """Count the special tokens added to a text or a pair."""
        return int(self.tokenizer.num_special_tokens_to_add(pair=pair))


def make_encoder(tokenizer: Any, *, chat: bool = False) -> Encoder:
    """Choose the encoder for a transformers tokenizer.

    Args:
        tokenizer: the tokenizer.
        chat: texts are conversations, written out by a template with all special tokens.

    Raises:
        InputError: a tokenizer of neither kind (mistral-common's).
    """
    if chat:
        return ChatEncoder(tokenizer)
    if getattr(tokenizer, "is_fast", False):
        return FastEncoder(tokenizer)
    if hasattr(tokenizer, "build_inputs_with_special_tokens"):
        return SlowEncoder(tokenizer)
    raise InputError(
        f"a tokenizer of class {type(tokenizer).__name__} tells neither special tokens nor"
        " offsets; give the model a tokenizer.json"
    )


class FastEncoder(Encoder):
    """Tokenizers of the ``tokenizers`` library: they tell offsets, words and text of each token."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self._knows_words = self._probe_words()

    def encode(self, texts: Sequence[tuple[str, ...]], limit: int | None) -> list[Encoded]:
        first, second = [t[0] for t in texts], [t[1] for t in texts if len(t) == 2]
        return [self._read(e) for e in self._call(first, second or None, limit)]

    def encode_targets(self, texts: Sequence[str], limit: int | None) -> list[Encoded]:
        batch = self.tokenizer(text_target=list(texts), **_call_options(limit))
        return [self._read(encoding) for encoding in batch.encodings]

    def _call(self, first: list[str], second: list[str] | None, limit: int | None) -> list[Any]:
        batch = self.tokenizer(first, second, **_call_options(limit))
        return list(batch.encodings)

    def _read(self, encoding: Any) -> Encoded:
        ids: list[int] = encoding.ids
        texts: list[int | None] = encoding.sequence_ids
        a, b = texts.count(0), texts.count(1)
        before = texts.index(0) if a else 0
        between = texts.index(1) - before - a if b else 0
        layout = lay_out(ids, before, a, between, b)
        words = encoding.word_ids if self._knows_words else ()
        return Encoded(
            ids, layout, tuple(encoding.offsets), tuple([-1 if w is None else w for w in words])
        )

    def _probe_words(self) -> bool:
        """Tell whether two words have two numbers; without a pre-tokenizer a text is one word."""
        (encoding,) = self._call(["one two"], None, None)
        return len({w for w in encoding.word_ids if w is not None}) > 1


class ChatEncoder(FastEncoder):
    """Tokenizes conversations: special tokens are in the text, and none are added."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        added = tokenizer.added_tokens_decoder.items()
        marked = {number for number, token in added if token.special}
        self._marks = self.special_ids | (marked - {tokenizer.unk_token_id})

    def count_specials(self, *, pair: bool) -> int:
        """None are added."""
        return 0

    def encode(self, texts: Sequence[tuple[str, ...]], limit: int | None) -> list[Encoded]:
        batch = self.tokenizer(
            [text for (text,) in texts],
            truncation=limit is not None,
            max_length=limit,
            padding=False,
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return [self._read(encoding) for encoding in batch.encodings]

    def _read(self, encoding: Any) -> Encoded:
        ids: list[int] = encoding.ids
        special = [token in self._marks for token in ids]
        pairs = zip(encoding.offsets, special, strict=True)
        offsets = tuple((0, 0) if mark else place for place, mark in pairs)
        found = zip(encoding.word_ids, special, strict=True) if self._knows_words else ()
        words = tuple(-1 if mark or word is None else word for word, mark in found)
        return EncodedChat(ids, Layout(0, len(ids), 0, 0, 0, 0), offsets, words, self._marks)


class SlowEncoder(Encoder):
    """Tokenizers written in Python: they tell ids, and where special tokens go, but no offsets."""

    def encode(self, texts: Sequence[tuple[str, ...]], limit: int | None) -> list[Encoded]:
        return [self._encode(pair, limit) for pair in texts]

    def encode_targets(self, texts: Sequence[str], limit: int | None) -> list[Encoded]:
        batch = self.tokenizer(text_target=list(texts), **_call_options(limit))
        return [self._lay_out_target(list(ids)) for ids in batch["input_ids"]]

    def _lay_out_target(self, ids: list[int]) -> Encoded:
        """Part the special tokens at both ends from those of the text."""
        own = [place for place, token in enumerate(ids) if token not in self.special_ids]
        before, end = (own[0], own[-1] + 1) if own else (0, 0)
        return Encoded(ids, lay_out(ids, before, end - before, 0, 0))

    def _encode(self, texts: tuple[str, ...], limit: int | None) -> Encoded:
        parts = [self._ids_of(text) for text in texts]
        if limit is not None:
            room = limit - self.count_specials(pair=len(texts) == 2)
            _cut_longest(parts, room, from_left=self.tokenizer.truncation_side == "left")
        ids = list(self.tokenizer.build_inputs_with_special_tokens(*parts))
        before = _find(ids, parts[0], 0)
        end = before + len(parts[0])
        b = len(parts[1]) if len(parts) == 2 else 0
        between = _find(ids, parts[1], end) - end if b else 0
        return Encoded(ids, lay_out(ids, before, len(parts[0]), between, b))

    def _ids_of(self, text: str) -> list[int]:
        tokens = self.tokenizer.tokenize(text, split_special_tokens=True)
        return list(self.tokenizer.convert_tokens_to_ids(tokens))


def _call_options(limit: int | None) -> dict[str, Any]:
    """How a tokenizer is called: special tokens that a text spells are text."""
    return {
        "truncation": limit is not None,
        "max_length": limit,
        "padding": False,
        "split_special_tokens": True,
        "return_attention_mask": False,
        "return_token_type_ids": False,
        "verbose": False,
    }


def _cut_longest(parts: list[list[int]], room: int, *, from_left: bool) -> None:
    """Cut token lists in place, always the longer one, until they fit; the last one on a tie."""
    while sum(map(len, parts)) > room:
        longest = max(reversed(parts), key=len)
        del longest[0 if from_left else -1]


def _find(ids: list[int], part: list[int], start: int) -> int:
    """Return where ``part`` begins in ``ids`` at or after ``start``."""
    for position in range(start, len(ids) - len(part) + 1):
        if ids[position : position + len(part)] == part:
            return position
    return start
