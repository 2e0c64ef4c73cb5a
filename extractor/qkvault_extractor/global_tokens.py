"""Global tokens of models that attend in windows: they see all tokens, and all tokens see them.

Which tokens are global is said with each input (Beltagy et al. 2020, section 3.1), so that it is
part of what a vault is of. Classes of Longformer that answer questions choose them by themselves,
and so do those that classify texts; a bare model has none, nor has any of LED's classes.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Final, Literal

from qkvault import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from qkvault import Record

GlobalTokens = Literal["none", "first", "question"]
GLOBAL_TOKENS: Final[tuple[GlobalTokens, ...]] = ("none", "first", "question")
"""No token; the first of each text; those of the first of two texts, what closes it left out."""


def find_rule(model: str, config: PreTrainedConfig, asked: str | None) -> GlobalTokens | None:
    """Which tokens a model is to be told are global.

    Args:
        model: what the user calls it.
        config: its configuration.
        asked: what the user wants; None for what the checkpoint's class does.

    Returns:
        The rule; None where the model's class is left to do as it does, or knows no such tokens.

    Raises:
        InputError: they are asked of a model that knows none, or the checkpoint's class makes
            tokens global by a rule that is none of these.
    """
    if not _knows_any(config):
        if asked is None:
            return None
        raise InputError(
            f"model {model} (type {config.model_type}) knows no global tokens, as Longformer and "
            "LED do; leave out --global-tokens"
        )
    if asked is not None:
        return next(rule for rule in GLOBAL_TOKENS if rule == asked)
    if config.is_encoder_decoder:
        return None  # none of LED's classes chooses any
    saved = " ".join(config.architectures or ())
    if "ForMultipleChoice" in saved:
        raise InputError(
            f"model {model} (saved as {saved}) makes the tokens of its choices global, which are "
            f"no texts here; say with --global-tokens which are: {', '.join(GLOBAL_TOKENS)}"
        )
    return "question" if "ForQuestionAnswering" in saved else None


def _knows_any(config: PreTrainedConfig) -> bool:
    from transformers import MODEL_MAPPING

    bare = MODEL_MAPPING.get(type(config), None)
    forward = getattr(bare[0] if isinstance(bare, tuple) else bare, "forward", None)
    return forward is not None and "global_attention_mask" in inspect.signature(forward).parameters


def mark_global(record: Record, rule: GlobalTokens) -> list[int]:
    """1 for each token of a record that is global, else 0."""
    tokens = len(record.token_ids)
    count = {"none": 0, "first": 1, "question": tokens}[rule]
    if rule == "question" and 1 in record.segments:
        count = record.segments.index(1)
        while count > 1 and record.special[count - 1]:  # what closes the question is not of it
            count -= 1
    return [int(place < count) for place in range(tokens)]
