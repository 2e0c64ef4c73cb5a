"""Head metrics on the device against the numpy reference, batched, padded and in tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qkvault import METRICS, Mask, TokenRoles, head_metrics, visible_range
from qkvault_extractor import metrics as module
from qkvault_extractor.metrics import HeadMetrics

LENGTHS = [3, 9, 9, 14, 17, 1]
HEADS = 5
MASKS = [
    Mask(),
    Mask(causal=True),
    Mask(window=3),
    Mask(causal=True, window=4),
    Mask(causal=True, chunk=5),
]
TIGHT = {"rtol": 2e-5, "atol": 2e-6}


def make_roles(tokens: int, kind: int, random: np.random.Generator) -> TokenRoles:
    """Pairs, single texts, texts of special tokens only, texts without any."""
    special = np.zeros(tokens, bool)
    segments = np.zeros(tokens, np.int8)
    if kind != 3:
        special[[0, -1, tokens // 2]] = True
    if kind == 2:
        special[:] = True
    if kind == 0:
        segments[tokens // 2 :] = 1
    punctuation = (random.random(tokens) < 0.2) & ~special
    return TokenRoles(special, punctuation, segments)


def make_batch(
    mask: Mask, seed: int = 0
) -> tuple[torch.Tensor, list[np.ndarray], list[TokenRoles]]:
    """A padded batch whose padding rows hold NaN, its maps one by one, and their roles."""
    random = np.random.default_rng(seed)
    longest = max(LENGTHS)
    batch = np.full((len(LENGTHS), HEADS, longest, longest), np.nan, np.float32)
    maps, roles = [], []
    for place, tokens in enumerate(LENGTHS):
        low, high = visible_range(mask, range(tokens), tokens)
        j = np.arange(tokens)
        weights = np.exp(random.normal(0, 3, (HEADS, tokens, tokens)))
        weights[:, (j < low[:, None]) | (j >= high[:, None])] = 0.0
        weights[1, :, 0] += 1e4 * weights[1].max()  # a head that rests on the first token
        weights[2, :, 1:] *= 1e-14  # and one that gives the rest nothing to speak of
        weights = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
        weights[3] *= np.float32(0.25)  # as with a sink
        batch[place, :, :tokens] = 0.0
        batch[place, :, :tokens, :tokens] = weights
        maps.append(weights)
        roles.append(make_roles(tokens, place % 4, random))
    return torch.from_numpy(batch), maps, roles


@pytest.mark.parametrize("mask", MASKS, ids=str)
@pytest.mark.parametrize("cells", [1 << 24, 1], ids=["at once", "head by head"])
def test_batches_equal_the_reference(
    mask: Mask, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CELLS_AT_ONCE", cells)
    batch, maps, roles = make_batch(mask)
    values = HeadMetrics(LENGTHS, roles, batch.device).measure(batch, mask)
    assert values.shape == (len(LENGTHS), HEADS, len(METRICS))
    assert values.dtype == torch.float32
    for got, weights, role in zip(values, maps, roles, strict=True):
        np.testing.assert_allclose(got.numpy(), head_metrics(weights, role, mask), **TIGHT)


def test_every_metric_has_numbers_in_the_batch() -> None:
    batch, _, roles = make_batch(Mask())
    values = HeadMetrics(LENGTHS, roles, batch.device).measure(batch, Mask())
    assert torch.isfinite(values).any(0).any(0).all()
    assert torch.isnan(values).any()


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_tiles_of_query_rows_equal_whole_maps(mask: Mask) -> None:
    batch, _, roles = make_batch(mask)
    meter = HeadMetrics(LENGTHS, roles, batch.device)
    tiles = [
        meter.take_rows(batch[:, :, start : start + 5], start)
        for start in range(0, batch.shape[2], 5)
    ]
    whole, tiled = meter.measure(batch, mask), meter.average(torch.cat(tiles, 3), mask)
    torch.testing.assert_close(tiled, whole, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_half_precision_is_measured_in_float32() -> None:
    batch, _, roles = make_batch(Mask())
    meter = HeadMetrics(LENGTHS, roles, batch.device)
    half = batch.to(torch.bfloat16)
    torch.testing.assert_close(
        meter.measure(half, Mask()), meter.measure(half.float(), Mask()), equal_nan=True
    )


def test_input_is_left_as_it_was() -> None:
    batch, _, roles = make_batch(Mask())
    before = batch.clone()
    HeadMetrics(LENGTHS, roles, batch.device).measure(batch, Mask())
    torch.testing.assert_close(batch, before, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("cells", [1 << 24, 1], ids=["at once", "head by head"])
def test_cross_attention_is_measured_by_the_tokens_of_both_axes(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CELLS_AT_ONCE", cells)
    random = np.random.default_rng(1)
    targets = LENGTHS[::-1]
    maps = [random.dirichlet(np.ones(k), (HEADS, q)) for q, k in zip(targets, LENGTHS, strict=True)]
    asking = [make_roles(tokens, place % 4, random) for place, tokens in enumerate(targets)]
    asked = [make_roles(tokens, (place + 1) % 4, random) for place, tokens in enumerate(LENGTHS)]
    batch = np.zeros((len(LENGTHS), HEADS, max(targets), max(LENGTHS)), np.float32)
    for padded, weights in zip(batch, maps, strict=True):
        padded[:, : weights.shape[1], : weights.shape[2]] = weights
    attention = torch.from_numpy(batch)
    meter = HeadMetrics(targets, asking, attention.device, (LENGTHS, asked))
    values = meter.measure(attention, Mask())
    for got, weights, *roles in zip(values, maps, asking, asked, strict=True):
        exact = weights.astype(np.float32)
        expected = head_metrics(exact, roles[0], Mask(), roles[1])
        np.testing.assert_allclose(got.numpy(), expected, **TIGHT)
    tiles = [meter.take_rows(attention[:, :, at : at + 3], at) for at in range(0, max(targets), 3)]
    tiled = meter.average(torch.cat(tiles, 3), Mask())
    torch.testing.assert_close(tiled, values, equal_nan=True, rtol=1e-5, atol=1e-6)
