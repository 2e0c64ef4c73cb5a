"""Head metrics: hand-made heads whose numbers are known, and plain loops over random ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from qkvault import Record
from qkvault.metrics import METRICS, TokenRoles, head_metrics, token_roles
from qkvault.recipe import Mask
from qkvault.scores import visible_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

# [CLS] the dog . [SEP] a cat , sat [SEP]
SPECIAL = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0, 1], bool)
PUNCTUATION = np.array([0, 0, 0, 1, 0, 0, 0, 1, 0, 0], bool)
SEGMENTS = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], np.int8)
PAIR = TokenRoles(SPECIAL, PUNCTUATION, SEGMENTS)
TOKENS = len(SPECIAL)
FULL, CAUSAL = Mask(), Mask(causal=True)


def measured(
    attention: NDArray[np.floating], roles: TokenRoles = PAIR, mask: Mask = FULL
) -> dict[str, float]:
    """Metrics of one map by name."""
    values = head_metrics(attention, roles, mask)
    return dict(zip(METRICS, values.tolist(), strict=True))


def random_maps(count: int, tokens: int, mask: Mask = FULL, seed: int = 0) -> NDArray[np.float32]:
    scores = np.random.default_rng(seed).normal(0, 3, (count, tokens, tokens))
    low, high = visible_range(mask, range(tokens), tokens)
    j = np.arange(tokens)
    hidden = (j < low[:, None]) | (j >= high[:, None])
    weights = np.where(hidden, 0.0, np.exp(scores))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


def slowly(a: NDArray[np.floating], roles: TokenRoles, mask: Mask) -> dict[str, float]:
    """Every definition written out for one map, cell by cell."""
    n = len(a)
    own = [i for i in range(n) if not roles.special[i]]
    queries = own or list(range(n))
    low, high = visible_range(mask, range(n), n)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else math.nan

    def mass(i: int, keys: list[int]) -> float:
        return sum(float(a[i, j]) for j in keys if 0 <= j < n)

    def entropy(i: int, keys: range) -> float:
        total = mass(i, list(keys))
        shares = [float(a[i, j]) / total for j in keys]
        return -sum(p * math.log(p) for p in shares if p > 0)

    def distance(i: int, keys: range) -> float:
        return sum(float(a[i, j]) * abs(i - j) for j in keys) / mass(i, list(keys))

    every, rest = range(n), range(1, n)
    first, second = ([i for i in own if roles.segments[i] == side] for side in (0, 1))
    special = [j for j in every if roles.special[j]]
    content = [j for j in own if not roles.punctuation[j]]
    left = [i for i in queries if mass(i, list(rest)) > 1e-12]
    several = [i for i in queries if high[i] - low[i] > 1]
    return {
        "entropy": mean([entropy(i, every) for i in queries]),
        "normalized_entropy": mean(
            [entropy(i, every) / math.log(high[i] - low[i]) for i in several]
        ),
        "max": mean([float(a[i].max()) for i in queries]),
        "distance": mean([distance(i, every) for i in queries]),
        "self": mean([mass(i, [i]) for i in queries]),
        "previous": mean([mass(i, [i - 1]) for i in queries]),
        "next": mean([mass(i, [i + 1]) for i in queries]),
        "first": mean([mass(i, [0]) for i in queries]),
        "special": mean([mass(i, special) for i in queries]),
        "content": mean([mass(i, content) for i in queries]),
        "a_to_b": mean([mass(i, second) for i in first]) if second else math.nan,
        "b_to_a": mean([mass(i, first) for i in second]) if first else math.nan,
        "entropy_without_first": mean([entropy(i, rest) for i in left]),
        "distance_without_first": mean([distance(i, rest) for i in left]),
    }


def test_uniform_head() -> None:
    seen = measured(np.full((TOKENS, TOKENS), 0.1))
    assert seen["entropy"] == pytest.approx(math.log(10))
    assert seen["normalized_entropy"] == pytest.approx(1.0)
    assert seen["max"] == pytest.approx(0.1)
    assert seen["special"] == pytest.approx(0.3)
    assert seen["content"] == pytest.approx(0.5)
    assert seen["a_to_b"] == pytest.approx(0.4)
    assert seen["b_to_a"] == pytest.approx(0.3)
    assert seen["entropy_without_first"] == pytest.approx(math.log(9))


@pytest.mark.parametrize(("offset", "name"), [(-1, "previous"), (0, "self"), (1, "next")])
def test_diagonal_heads(offset: int, name: str) -> None:
    seen = measured(np.eye(TOKENS, k=offset) + 0.0)
    assert seen[name] == 1.0
    assert seen["max"] == 1.0
    assert seen["entropy"] == 0.0
    assert seen["distance"] == abs(offset)


def test_head_that_looks_at_the_first_token() -> None:
    attention = np.zeros((TOKENS, TOKENS))
    attention[:, 0] = 1.0
    seen = measured(attention)
    assert (seen["first"], seen["special"], seen["content"]) == (1.0, 1.0, 0.0)
    assert seen["distance"] == pytest.approx((1 + 2 + 3 + 5 + 6 + 7 + 8) / 7)
    assert math.isnan(seen["entropy_without_first"])
    assert math.isnan(seen["distance_without_first"])


def test_uniform_causal_head_is_as_broad_as_it_can_be() -> None:
    attention = np.tri(TOKENS) / np.arange(1, TOKENS + 1)[:, None]
    assert measured(attention, mask=CAUSAL)["normalized_entropy"] == pytest.approx(1.0)
    window = np.tril(np.triu(np.ones((TOKENS, TOKENS)), -2))
    window /= window.sum(-1, keepdims=True)
    seen = measured(window, mask=Mask(causal=True, window=2))
    assert seen["normalized_entropy"] == pytest.approx(1.0)


def test_special_tokens_do_not_ask() -> None:
    attention = random_maps(1, TOKENS)[0]
    changed = attention.copy()
    changed[SPECIAL] = np.eye(TOKENS, dtype=np.float32)[SPECIAL]
    assert measured(attention) == measured(changed)


def test_one_text_has_no_mass_between_texts() -> None:
    roles = TokenRoles(SPECIAL, PUNCTUATION, np.zeros(TOKENS, np.int8))
    seen = measured(random_maps(1, TOKENS)[0], roles)
    assert math.isnan(seen["a_to_b"])
    assert math.isnan(seen["b_to_a"])
    assert not any(math.isnan(seen[name]) for name in METRICS if "_to_" not in name)


@pytest.mark.parametrize(
    "mask", [FULL, CAUSAL, Mask(window=2), Mask(causal=True, chunk=3)], ids=str
)
@pytest.mark.parametrize(
    "special", [SPECIAL, ~SPECIAL, np.zeros(TOKENS, bool), np.ones(TOKENS, bool)]
)
def test_definitions(mask: Mask, special: NDArray[np.bool_]) -> None:
    roles = TokenRoles(special, PUNCTUATION & ~special, SEGMENTS)
    maps = random_maps(6, TOKENS, mask)
    maps[4] *= np.float32(0.3)  # with a sink, rows sum to less than one
    maps[5, 1:, 0] += 40.0
    maps[5] /= maps[5].sum(-1, keepdims=True)
    values = head_metrics(maps.reshape(2, 3, TOKENS, TOKENS), roles, mask)
    assert values.shape == (2, 3, len(METRICS))
    assert values.dtype == np.float32
    for head, attention in zip(values.reshape(6, -1), maps, strict=True):
        expected = slowly(attention, roles, mask)
        assert list(expected) == list(METRICS)
        np.testing.assert_allclose(head, list(expected.values()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 2])
def test_very_short_texts(tokens: int) -> None:
    roles = TokenRoles(np.zeros(tokens, bool), np.zeros(tokens, bool), np.zeros(tokens, np.int8))
    attention = random_maps(1, tokens, CAUSAL)[0]
    expected = slowly(attention, roles, CAUSAL)
    np.testing.assert_allclose(
        list(measured(attention, roles, CAUSAL).values()), list(expected.values()), atol=1e-6
    )


def test_masses_on_kinds_of_tokens_add_up() -> None:
    maps = random_maps(5, TOKENS)
    values = dict(zip(METRICS, head_metrics(maps, PAIR, FULL).T, strict=True))
    punctuation = maps[:, ~SPECIAL][:, :, PUNCTUATION].sum(-1).mean(-1)
    np.testing.assert_allclose(values["special"] + values["content"] + punctuation, 1.0, atol=1e-6)


def make_record(tokens: list[str], text: str, offsets: list[tuple[int, int]]) -> Record:
    count = len(tokens)
    special = tuple(int(token.startswith("[")) for token in tokens)
    return Record("r", (text,), tuple(tokens), (7,) * count, (0,) * count, special, tuple(offsets))


def test_punctuation_by_the_text_itself() -> None:
    text = "Well — “no”, $5…"
    pieces = ["Well", "—", "“", "no", "”", ",", "$", "5", "…"]
    offsets, at = [(0, 0)], 0
    for piece in pieces:
        at = text.index(piece, at)
        offsets.append((at, at + len(piece)))
    record = make_record(["[CLS]", *(f"Ġx{i}" for i in range(len(pieces)))], text, offsets)
    roles = token_roles(record)
    marked = [p for p, is_mark in zip(pieces, roles.punctuation[1:], strict=True) if is_mark]
    assert marked == ["—", "“", "”", ",", "$", "…"]
    assert roles.special.tolist() == [True] + [False] * len(pieces)


def test_punctuation_by_spelling_where_offsets_are_unknown() -> None:
    tokens = ["[CLS]", "no", "##,", "Ġ.", "▁?", "a.b", "##s", "...", "Ġ", "!</w>", "[SEP]"]
    roles = token_roles(make_record(tokens, "", []))
    marked = [t for t, is_mark in zip(tokens, roles.punctuation, strict=True) if is_mark]
    assert marked == ["##,", "Ġ.", "▁?", "...", "!</w>"]
