"""Conversations: messages written out by the tokenizer's own template, and where each one lies.

A template is a Jinja program that comes with the model; transformers runs it in a sandbox. What it
writes around the messages are special tokens and is tokenized as such. A message that spells one of
them would forge a turn of somebody else, so its row is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qkvault import InputError, Json, Record
from qkvault_extractor.rows import Reject, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from qkvault_extractor.options import OnBad

ROLES = "messages"
"""Column of the vault that tells role and place of every message."""


def template_of(tokenizer: Any, model: str) -> str:
    """The chat template that comes with a tokenizer.

    Raises:
        InputError: there is none that could be used.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not isinstance(template, str) or not template.strip():
        raise InputError(
            f"model {model} has no chat template; choose a chat model, or leave out --chat-template"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"the tokenizer of model {model} tells no offsets, so messages cannot be told from "
            "what the template writes; give the model a tokenizer.json"
        )
    return template


def template_hash(tokenizer: Any, model: str) -> str:
    """SHA-256 of the template, hexadecimal; raises as :func:`template_of`."""
    return hashlib.sha256(template_of(tokenizer, model).encode()).hexdigest()


def render_rows(
    rows: Iterable[Row], tokenizer: Any, *, opens: bool, on_bad: OnBad
) -> tuple[list[Row], list[Reject]]:
    """Write out the messages of rows.

    Args:
        rows: with messages.
        tokenizer: one that :func:`template_of` lets pass.
        opens: end with what opens the model's own turn, for it to go on.
        on_bad: "stop" raises at the first row that cannot be used, "skip" lists it.

    Returns:
        Rows of one text each, with role and characters of every message in column
        :data:`ROLES`, and the rejects.

    Raises:
        InputError: a row cannot be used and ``on_bad`` says stop.
    """
    marks = special_spellings(tokenizer)
    made: list[Row] = []
    rejects: list[Reject] = []
    for row in rows:
        found = _render(row, tokenizer, marks, opens)
        if isinstance(found, Row):
            made.append(found)
        elif on_bad == "stop":
            raise InputError(f"{row.source}: {found}, or leave out with --on-bad skip")
        else:
            rejects.append(Reject(row.number, row.source, row.id, found))
    return made, rejects


def special_spellings(tokenizer: Any) -> tuple[str, ...]:
    """How the tokenizer's special tokens are spelled, those of the template among them."""
    added = tokenizer.added_tokens_decoder.values()
    marked = {str(token) for token in added if token.special}
    return tuple(sorted({*marked, *map(str, tokenizer.all_special_tokens)} - {""}))


def _render(row: Row, tokenizer: Any, marks: Sequence[str], opens: bool) -> Row | str:
    """The row as one text, or why there is none."""
    for number, message in enumerate(row.messages, 1):
        for mark in marks:
            if mark in message["content"] or mark in message["role"]:
                return f"message {number} spells the special token {mark!r}; remove it"
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in row.messages], tokenize=False, add_generation_prompt=opens
        )
    except Exception as error:  # templates raise what they like, to refuse a message
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return f"the chat template refuses the messages ({reason[0][:120]}); mend or remove the row"
    if not isinstance(text, str) or not text.strip():
        return "the chat template makes no text of the messages; mend or remove the row"
    places: list[Json] = [*_find(row.messages, text)]
    return replace(row, texts=(text,), columns={**row.columns, ROLES: places})


def _find(messages: Sequence[Mapping[str, str]], text: str) -> Iterable[dict[str, Json]]:
    """Role and characters of each message that stands in the text, as it is or stripped."""
    start = 0
    for message in messages:
        for content in (message["content"], message["content"].strip()):
            at = text.find(content, start) if content else -1
            if at >= 0:
                start = at + len(content)
                yield {"role": message["role"], "characters": [at, start]}
                break


def place_messages(record: Record) -> Record:
    """Add to each message of a record which tokens it became: the first, and after the last."""
    placed: list[Json] = []
    messages = record.columns[ROLES]
    assert isinstance(messages, list)
    for message in messages:
        assert isinstance(message, dict)
        assert isinstance(message["characters"], list)
        first, last = message["characters"]
        inside = [
            place
            for place, (start, end) in enumerate(record.offsets)
            if not record.special[place] and start < last and end > first  # type: ignore[operator]
        ]
        if inside:
            placed.append({**message, "tokens": [inside[0], inside[-1] + 1]})
    return replace(record, columns={**record.columns, ROLES: placed})
