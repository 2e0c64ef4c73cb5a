"""Numbers per example, layer and head that say what kind of head it is: names and definitions.

Weight ``a[i, j]`` is what query token ``i`` gives key token ``j``; ``s[i] = sum_j a[i, j]`` is 1,
or less where the model has sinks. Every metric is a mean over the example's query tokens that are
not special (over all tokens, if all are special): special tokens attend to themselves and to each
other whatever the text says (Clark et al. 2019, section 3.2).

======================  ==========================================================================
entropy                 ``-sum_j p ln p`` in nats, ``p = a / s``
                        (Ghader & Monz 2017; Vig & Belinkov 2019; Clark et al. 2019, section 3.3)
normalized_entropy      entropy / ln(keys that the mask lets the query see): 0 for one key, 1 for
                        all alike; a query that can see one key only is left out
max                     ``max_j a`` (Voita et al. 2019: confidence; they leave </s> out)
distance                ``sum_j p |i - j|`` in tokens (Vig & Belinkov 2019)
self, previous, next    ``a[i, i]``, ``a[i, i-1]``, ``a[i, i+1]``; 0 beyond the text's ends
                        (Clark et al. 2019, section 3.1; Kovaleva et al. 2019: diagonal heads)
first                   ``a[i, 0]``
special                 ``sum_j a`` over special tokens: [CLS], [SEP], <s>
                        (Clark et al. 2019, section 3.2; Kovaleva et al. 2019: vertical heads)
content                 ``sum_j a`` over tokens neither special nor punctuation
a_to_b                  ``sum_j a`` over the second text's own tokens, the mean over the first's
                        own (cf. Kovaleva et al. 2019: block heads); NaN without a second text
b_to_a                  the other way
entropy_without_first   as entropy, with the first token taken out and the rest made to sum to one;
                        a query that gives nothing to the rest is left out. Causal models park
                        attention they do not need on the first token (Vig & Belinkov 2019;
                        Xiao et al. 2023)
distance_without_first  as distance, likewise
======================  ==========================================================================

A metric whose every query is left out is NaN: there is no such number for this example.

In cross-attention ``j`` counts tokens of another sequence than ``i``: which queries count is said
by the tokens of the target, which keys are special or content by those of the source, and what
compares places or the two texts is NaN (:data:`WITHIN_ONE_SEQUENCE`).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .scores import visible_range
from .spec import Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .recipe import Mask
    from .spec import Record

METRICS: Final = (
    "entropy",
    "normalized_entropy",
    "max",
    "distance",
    "self",
    "previous",
    "next",
    "first",
    "special",
    "content",
    "a_to_b",
    "b_to_a",
    "entropy_without_first",
    "distance_without_first",
)
"""Names of the metrics, in the order they are stored."""

WITHIN_ONE_SEQUENCE: Final = (
    "distance",
    "self",
    "previous",
    "next",
    "a_to_b",
    "b_to_a",
    "distance_without_first",
)
"""Metrics that compare a query with a key of its own sequence; NaN in cross-attention."""

LEAST_REST: Final = 1e-12
"""A query that leaves less to all but the first token has no distribution over the rest."""

_BLOCK_CELLS: Final = 1 << 20
_MARKERS: Final = ("##", "\u2581", "\u0120", "\u010a", "@@")


@dataclass(frozen=True, eq=False)
class TokenRoles:
    """What a metric must know of an example's tokens.

    Attributes:
        special: True where the tokenizer put the token there, bool ``(token,)``.
        punctuation: True for tokens of punctuation only, bool ``(token,)``.
        segments: 0 for the first text, 1 for the second, int8 ``(token,)``.
    """

    special: NDArray[np.bool_]
    punctuation: NDArray[np.bool_]
    segments: NDArray[np.int8]


def token_roles(record: Record | Target) -> TokenRoles:
    """The roles of a record's tokens, or of those of its target, which is one text.

    A token is punctuation if all its characters are: those of Unicode's categories P, and ASCII's
    that are neither letter, digit nor blank (as BERT's tokenizer, Devlin et al. 2019).
    """
    special = np.array(record.special, np.bool_)
    texts: tuple[str, ...]
    if isinstance(record, Target):
        texts, segments = (record.text,), (0,) * len(record.tokens)
    else:
        texts, segments = record.text, record.segments
    written = [_is_punctuation(text) for text in _token_texts(record, texts, segments)]
    return TokenRoles(
        special=special,
        punctuation=np.array(written, np.bool_) & ~special,
        segments=np.array(segments, np.int8),
    )


def head_metrics(
    attention: NDArray[np.floating[Any]],
    roles: TokenRoles,
    mask: Mask,
    key_roles: TokenRoles | None = None,
) -> NDArray[np.float32]:
    """The metrics of one example's heads, by the module's definitions, computed in float64.

    Args:
        attention: ``(..., query_token, key_token)``, cropped to the example's own length.
        roles: of its tokens; in cross-attention of the query tokens.
        mask: which keys a query sees.
        key_roles: of the key tokens, in cross-attention.

    Returns:
        float32 ``(..., metric)``, in the order of :data:`METRICS`.
    """
    queries, keys = attention.shape[-2:]
    maps = attention.reshape(-1, queries, keys)
    out = np.empty((len(maps), len(METRICS)), np.float32)
    step = max(1, _BLOCK_CELLS // (queries * keys))
    for start in range(0, len(maps), step):
        block = maps[start : start + step].astype(np.float64)
        for place, values in enumerate(_measure(block, roles, mask, key_roles or roles)):
            out[start : start + step, place] = values
    if key_roles is not None:
        out[:, [METRICS.index(name) for name in WITHIN_ONE_SEQUENCE]] = np.nan
    return out.reshape(*attention.shape[:-2], len(METRICS))


def _measure(
    weights: NDArray[np.float64], roles: TokenRoles, mask: Mask, key_roles: TokenRoles
) -> Iterator[NDArray[np.float64]]:
    """The metrics of ``(map, query_token, key_token)`` in order, each ``(map,)``."""
    own = ~roles.special
    queries = own if own.any() else np.ones_like(own)
    entropy, distance, _ = _spread(weights, 0)
    rest_entropy, rest_distance, rest = _spread(weights, 1)
    low, high = visible_range(mask, range(len(own)), weights.shape[-1])
    seen = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = entropy / np.log(seen)
    yield _mean(entropy, queries)
    yield _mean(normalized, queries & (seen > 1))
    yield _mean(weights.max(-1), queries)
    yield _mean(distance, queries)
    for offset in (0, -1, 1):
        yield _mean(_diagonal(weights, offset), queries)
    yield _mean(weights[:, :, 0], queries)
    content = ~key_roles.special & ~key_roles.punctuation
    yield _mean(weights[:, :, key_roles.special].sum(-1), queries)
    yield _mean(weights[:, :, content].sum(-1), queries)
    for text in (0, 1):
        asking = own & (roles.segments == text)
        asked = ~key_roles.special & (key_roles.segments == 1 - text)
        mass = weights[:, :, asked].sum(-1) if asked.any() else np.full(entropy.shape, np.nan)
        yield _mean(mass, asking)
    left = queries & (rest > LEAST_REST)
    yield _mean(rest_entropy, left)
    yield _mean(rest_distance, left)


def _spread(
    weights: NDArray[np.float64], first: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Entropy, mean distance and sum of each row over the keys from ``first`` on."""
    kept = weights[:, :, first:]
    total = kept.sum(-1)  # (map, query_token)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = kept / total[:, :, None]
        entropy = -np.where(share == 0, 0.0, share * np.log(share)).sum(-1)
    queries, keys = (np.arange(size) for size in weights.shape[1:])
    away = np.abs(queries[:, None] - keys[None, first:])
    return entropy, (share * away).sum(-1), total


def _diagonal(weights: NDArray[np.float64], offset: int) -> NDArray[np.float64]:
    """``a[i, i + offset]`` of every query, 0 where there is no such key: ``(map, query_token)``."""
    values = np.zeros(weights.shape[:2])
    found = np.diagonal(weights, offset, -2, -1)
    start = max(-offset, 0)
    values[:, start : start + found.shape[-1]] = found
    return values


def _mean(values: NDArray[np.float64], queries: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over some query tokens; NaN over none. ``queries`` is one mask, or one per map."""
    chosen = np.broadcast_to(queries, values.shape)
    count = chosen.sum(-1)
    total = np.where(chosen, values, 0.0).sum(-1)
    mean = np.full(len(values), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _token_texts(
    record: Record | Target, texts: Sequence[str], segments: Sequence[int]
) -> Iterator[str]:
    """What each token stands for in its text; where offsets are unknown, its spelling."""
    for place, token in enumerate(record.tokens):
        if record.offsets and segments[place] < len(texts):
            start, end = record.offsets[place]
            yield texts[segments[place]][start:end]
        else:
            for marker in _MARKERS:
                token = token.removeprefix(marker)
            yield token.removesuffix("</w>").removesuffix("@@")


@lru_cache(maxsize=1 << 16)  # a corpus holds millions of tokens, but few kinds
def _is_punctuation(text: str) -> bool:
    characters = text.strip()
    return bool(characters) and all(
        unicodedata.category(c).startswith("P") or (c < "\x7f" and not c.isalnum())
        for c in characters
    )
