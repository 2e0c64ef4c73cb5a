"""How many tokens a model takes at once, as its configuration tells."""

from __future__ import annotations

from typing import Any, Final

# Their positions start behind the padding index (fairseq's habit), so that many entries of the
# position table are never used: transformers, create_position_ids_from_input_ids.
_OFFSET_POSITIONS: Final = frozenset(
    {
        "altclip_text_model",
        "bridgetower_text_model",
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "layoutlmv3",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
# Relative positions only; an n_positions in such a configuration is what it was trained with.
_UNLIMITED: Final = frozenset(
    {"bloom", "longt5", "mt5", "switch_transformers", "t5", "transfo-xl", "umt5", "xlnet"}
)
_NAMES: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_encoder_position_embeddings",
    "max_seq_len",
    "max_sequence_length",
    "seq_length",
)
# transformers writes 10**30 where a tokenizer knows no limit; no real one comes near this.
_SANE: Final = 10**7


def model_limit_of(config: Any, tokenizer: Any = None) -> int | None:
    """Return the most tokens a model takes, special tokens included; None if it has no limit.

    The size of the position table counts, for rotary positions the length the model is made for,
    which transformers does not enforce. Only where the configuration says nothing does the
    tokenizer's ``model_max_length`` count: it is often another program's default.

    Args:
        config: a transformers configuration; of a composite model its text part is taken.
        tokenizer: a transformers tokenizer, or None.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    kind = getattr(text, "model_type", "")
    if kind in _UNLIMITED:
        return None
    found = next(filter(None, (_positive(getattr(text, name, None)) for name in _NAMES)), None)
    if found is not None:
        offset = (getattr(text, "pad_token_id", None) or 0) + 1 if kind in _OFFSET_POSITIONS else 0
        return found - offset
    return _positive(getattr(tokenizer, "model_max_length", None))


def decoder_limit_of(config: Any, tokenizer: Any = None) -> int | None:
    """Return the most tokens the decoder of an encoder-decoder takes; LED's takes fewer than its
    encoder. Arguments as of :func:`model_limit_of`."""
    own = _positive(getattr(config, "max_decoder_position_embeddings", None))
    return model_limit_of(config, tokenizer) if own is None else own


def _positive(value: object) -> int | None:
    """Keep a limit that makes sense; XLNet says -1, tokenizers without one 10**30."""
    return value if isinstance(value, int) and 0 < value < _SANE else None
