"""Where a tokenizer puts its special tokens, and which text each of them belongs to.

A tokenizer makes ``before A between B after`` of a pair and ``before A after`` of one text; the
three runs of special tokens may be empty. Told apart by what they do:

    BERT      [CLS] A [SEP] B [SEP]          between closes A
    RoBERTa   <s> A </s> </s> B </s>         the first closes A, the second opens B
    XLNet     A <sep> B <sep> <cls>          between closes A; after belongs to B
    T5        A </s> B </s>                  between closes A
    Llama     <s> A <s> B                    between opens B
    GPT-2     A B                            no special tokens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Layout:
    """How many tokens of each run one example has; ``between`` and ``b`` are 0 for one text.

    Attributes:
        before: special tokens before the first text.
        a: tokens of the first text.
        between: special tokens between the texts.
        b: tokens of the second text.
        after: special tokens at the end.
        closing: how many of ``between`` belong to the first text.
    """

    before: int
    a: int
    between: int
    b: int
    after: int
    closing: int

    @property
    def segments(self) -> tuple[int, ...]:
        """0 for the first text's tokens, 1 for the second's, special ones with their text."""
        if not self.b:
            return (0,) * (self.before + self.a + self.after)
        first = self.before + self.a + self.closing
        return (0,) * first + (1,) * (self.between - self.closing + self.b + self.after)

    @property
    def special(self) -> tuple[int, ...]:
        """1 for special tokens, 0 for the texts' own."""
        return (
            (1,) * self.before
            + (0,) * self.a
            + (1,) * self.between
            + (0,) * self.b
            + (1,) * self.after
        )


def lay_out(ids: Sequence[int], before: int, a: int, between: int, b: int) -> Layout:
    """Make the layout of one example from its token ids and the sizes of its runs."""
    end = before + a + between + b
    closing = count_closing(
        tuple(ids[:before]), tuple(ids[before + a : before + a + between]), tuple(ids[end:])
    )
    return Layout(before, a, between, b, len(ids) - end, closing)


@lru_cache(maxsize=256)
def count_closing(before: tuple[int, ...], between: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Count the special tokens between two texts that belong to the first one.

    A token that also stands before the first text but not after the last opens the second text,
    and so does all that follows it. Otherwise, where nothing closes the last text nothing closes
    the first one either; else a lone token closes, and of several the latter half opens.
    """
    for position, token in enumerate(between):
        if token in before and token not in after:
            return position
    if before and not after:
        return 0
    return (len(between) + 1) // 2
