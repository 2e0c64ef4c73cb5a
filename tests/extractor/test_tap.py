"""Attention of models that compute it themselves is followed through their operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from qkvault_extractor.products import product_of, value_of
from qkvault_extractor.tap import Tap

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault_extractor.capture import AttentionCall

HEADS, TOKENS, WIDTH = 2, 5, 4


class Model(torch.nn.Module):
    """Stands for a transformers model: runs one function of queries, keys and values."""

    def __init__(self, attend: Any) -> None:
        super().__init__()
        self.config: Any = type("Config", (), {"_attn_implementation": "eager"})()
        self.attend = attend

    def set_attn_implementation(self, name: str) -> None:
        self.config._attn_implementation = name

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found: Tensor = self.attend(query, key, value)
        return found


def vectors(examples: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (3, examples, HEADS, TOKENS, WIDTH)
    query, key, value = torch.randn(shape, generator=generator)
    return query, key, value


def follow(attend: Any, *inputs: Tensor) -> list[AttentionCall]:
    calls: list[AttentionCall] = []
    model: Any = Model(attend)
    with torch.inference_mode(), Tap(model, calls.append, describe=True):
        model(*(inputs or vectors()))
    return calls


LATER = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
LEAST = torch.finfo(torch.float32).min


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2) / 2 + LEAST * LATER, -1) @ v


def in_place(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.matmul(q, k.transpose(-1, -2))
    scores /= 2
    scores.masked_fill_(LATER, LEAST)
    weights = torch.nn.functional.softmax(scores.float(), dim=-1).type_as(scores)
    q *= 0  # after its use, as Longformer does
    return torch.matmul(torch.nn.functional.dropout(weights, 0.1, False), v)


def flat(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Examples and heads in one axis, as BLOOM."""
    a, b, c = (x.reshape(-1, TOKENS, WIDTH) for x in (q, k, v))
    mask = LEAST * LATER
    scores = torch.zeros(len(a), 1, TOKENS).baddbmm(a, b.transpose(1, 2), beta=1.0, alpha=0.5)
    weights = (scores.view(-1, HEADS, TOKENS, TOKENS) + mask).softmax(dim=-1)
    return torch.bmm(weights.view(-1, TOKENS, TOKENS), c)


def letters(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Tokens in front, as XLNet."""
    a, b, c = (x.permute(2, 0, 1, 3) for x in (q, k, v))
    scores = torch.einsum("ibnd,jbnd->bnij", a, b) * 0.5
    weights = torch.where(~LATER, scores, torch.tensor(LEAST)).softmax(3)
    return torch.einsum("bnij,jbnd->ibnd", weights, c)


def listed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Operands in a list, as CvT."""
    scores = torch.einsum("bhik,bhjk->bhij", [q, k]) * 0.5 + LEAST * LATER
    return torch.einsum("bhij,bhjv->bhiv", [scores.softmax(-1), v])


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.parametrize("attend", [plain, in_place, flat, letters, listed, fused])
def test_spellings_of_one_attention_are_one_call(attend: Any) -> None:
    query, key, value = vectors()
    expected = torch.softmax(query @ key.transpose(-1, -2) / 2 + LEAST * LATER, -1)
    (call,) = follow(attend)
    assert torch.allclose(call.weights, expected, atol=1e-6, rtol=0)
    assert torch.equal(call.query, query)
    assert torch.equal(call.key, key)
    assert torch.equal(call.value, value)
    assert call.scaling == 0.5
    assert call.mask is not None
    assert torch.equal(call.mask.expand(3, HEADS, -1, -1)[1, 1] == 0, ~LATER)
    assert "position_bias" not in call.terms


def test_torchs_multi_head_attention_is_followed_head_by_head() -> None:
    """As in WavLM, which is told only of the mean over heads."""
    hidden = torch.randn(TOKENS, 3, HEADS * WIDTH)
    own = torch.nn.MultiheadAttention(HEADS * WIDTH, HEADS).eval()
    bias = torch.randn(3 * HEADS, TOKENS, TOKENS)
    output, expected = own(hidden, hidden, hidden, attn_mask=bias, average_attn_weights=False)
    given: list[Any] = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given.extend(own(hidden, hidden, hidden, attn_mask=bias))
        return q

    (call,) = follow(attend)
    assert torch.equal(call.weights, expected)
    assert torch.equal(given[0], output)
    assert torch.equal(given[1], expected.mean(1))
    assert torch.equal(call.terms["position_bias"].flatten(0, 1), bias)
    scores = call.scaling * call.query @ call.key.transpose(-1, -2) + call.terms["position_bias"]
    assert torch.allclose(scores.softmax(-1), expected, atol=1e-6, rtol=0)
    mixed = (call.weights @ call.value).permute(2, 0, 1, 3).flatten(2)
    assert torch.allclose(own.out_proj(mixed), output, atol=1e-6, rtol=0)


def test_what_is_added_is_told_apart_from_the_mask() -> None:
    bias = torch.randn(HEADS, TOKENS, TOKENS)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2) + bias) * 0.5
        return scores.masked_fill(LATER, LEAST).softmax(-1) @ v

    (call,) = follow(attend)
    assert torch.equal(call.terms["position_bias"][0], (bias * 0.5).masked_fill(LATER, 0.0))


def test_of_two_products_the_one_left_in_place_is_the_content() -> None:
    """As in DeBERTa: queries meet positions too, and that is gathered into place."""
    places = torch.randn(1, HEADS, TOKENS, WIDTH)
    order = torch.arange(TOKENS).flip(0).expand(3, HEADS, TOKENS, TOKENS)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        moved = torch.gather(q @ places.transpose(-1, -2), -1, order)
        return (moved + q @ k.transpose(-1, -2)).softmax(-1) @ v

    (call,) = follow(attend)
    assert torch.equal(call.key, vectors()[1])
    assert call.terms["position_bias"].shape == (3, HEADS, TOKENS, TOKENS)


def test_a_router_is_no_attention() -> None:
    def route(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shares = torch.softmax(q @ k.transpose(-1, -2), -1)
        return v * shares.topk(2, -1).values.sum(-1, keepdim=True)

    assert follow(route) == []


def test_a_softmax_over_queries_is_no_attention() -> None:
    assert follow(lambda q, k, v: torch.softmax(q @ k.transpose(-1, -2), 2) @ v) == []


def test_key_heads_may_be_fewer() -> None:
    query, key, value = vectors()
    (call,) = follow(plain, query, key[:, :1], value[:, :1])
    assert (call.query.shape[1], call.key.shape[1]) == (HEADS, 1)


def test_hooks_are_gone_afterwards() -> None:
    model: Any = Model(plain)
    calls: list[AttentionCall] = []
    with Tap(model, calls.append):
        model(*vectors())
    model(*vectors())
    assert len(calls) == 1
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    "equation",
    ["bid,bjd->bi", "bid,jd->bij", "bid,bjd->bdij", "...id,...jd->...ij", "bii,bjd->bij"],
)
def test_other_contractions_are_no_products_of_vectors(equation: str) -> None:
    x = torch.zeros(2, 2, 2)
    assert product_of("einsum", (equation, x, x), {}) is None


def test_keys_may_stand_before_queries() -> None:
    key, query = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    product = product_of("einsum", ("bjd,bid->bij", key, query), {})
    assert product is not None
    assert torch.equal(product.query, query)
    assert torch.equal(product.key, key)


def test_values_are_put_in_order() -> None:
    weights, value = torch.randn(2, 3, 5, 6), torch.randn(6, 2, 3, 4)
    found = value_of("einsum", 1, ("bnij,jbnd->ibnd", weights, value))
    assert found is not None
    assert torch.equal(found[1], value.permute(1, 2, 0, 3))
