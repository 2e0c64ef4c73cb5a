"""What a user types into a search box, as a search that cannot fail to parse.

Words must all occur; ``"quoted words"`` must occur side by side; ``word*`` is any word that starts
so. Everything else is text: no operator of the full-text engine can be reached from here.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from ..errors import InputError

MAX_TERMS = 64
"""More words than this are refused: each one costs a look-up."""

# A term is a quoted run (its closing quote may be missing while it is still being typed) or a run
# of anything but blanks and quotes; either may carry the star of a prefix.
_TERM = re.compile(r'"([^"]*)(?:"(\*?)|$)|([^\s"]+)')
_PLAIN = re.compile(r"[0-9a-z]+\Z")
# Scripts written without blanks between words: each of these characters is indexed as a word.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff])"
)


@dataclass(frozen=True)
class Term:
    """One thing that must occur.

    Attributes:
        text: what is looked for, without quotes and star.
        prefix: whether the last word of ``text`` may go on.
    """

    text: str
    prefix: bool = False

    @property
    def plain(self) -> str | None:
        """The term as the engine spells a word, in lower case; None unless it is one ASCII word."""
        lowered = self.text.lower()
        return lowered if _PLAIN.match(lowered) else None

    def expression(self) -> str:
        """The term as a quoted string of SQLite's FTS5 query language."""
        quoted = spaced(self.text).replace('"', " ").strip()
        return f'"{quoted}"{"*" if self.prefix else ""}'


Search = tuple[Term, ...] | Literal["nothing"]
"""Terms that must all occur (none: every example matches), or a search that no example matches."""


def parse_search(words: str) -> Search:
    """Split what a user typed into terms, each once, in order.

    Args:
        words: any text at all.

    Returns:
        The terms; empty for blank input (and a lone quote or star, which is a term being begun);
        ``"nothing"`` where only punctuation is asked for, which the index does not hold.

    Raises:
        InputError: more than :data:`MAX_TERMS` different words.
    """
    words = storable(words).replace("\0", " ")
    terms: dict[Term, None] = {}
    for quoted, quoted_star, bare in _TERM.findall(words):
        text = quoted or bare
        star = bool(quoted_star) or bare.endswith("*")
        if bare:
            text = bare.rstrip("*")
        if _has_word(text):
            terms.setdefault(Term(text.strip(), star and _goes_on(text)))
    if len(terms) > MAX_TERMS:
        raise InputError(
            f"a search may have {MAX_TERMS} words, this one has {len(terms)}; quote phrases"
        )
    if not terms and words.replace('"', "").replace("*", "").strip():
        return "nothing"
    return tuple(terms)


def spaced(text: str) -> str:
    """``text`` with blanks around every character of a script that writes none between words."""
    return text if text.isascii() else _UNSPACED.sub(r" \1 ", text)


def storable(text: str) -> str:
    """``text`` with what UTF-8 cannot hold (lone surrogates) replaced by ``?``."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def _has_word(text: str) -> bool:
    return any(_is_word_character(character) for character in text)


def _is_word_character(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LN" or category == "Co"


def _goes_on(text: str) -> bool:
    # FTS5 puts the star on the last word; after closing punctuation that word is already whole.
    return bool(text) and _is_word_character(text.rstrip()[-1])
