"""Attention in tiles: the model's own output, and every weight shown once, in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from qkvault import (
    Mask,
    Recipe,
    RelativeBias,
    Sinks,
    TokenRoles,
    derive_attention,
    head_metrics,
    make_thumbnail,
    visible_range,
)
from qkvault_extractor import tiles
from qkvault_extractor.metrics import HeadMetrics
from qkvault_extractor.summaries import LayerSummary
from qkvault_extractor.tiles import TiledAttention

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADS, KEY_HEADS, DIM = 4, 2, 8
RECIPES = {
    "full": Recipe(),
    "causal": Recipe(Mask(causal=True)),
    "window": Recipe(Mask(causal=True, window=3)),
    "both sides": Recipe(Mask(window=2)),
    "chunk": Recipe(Mask(causal=True, chunk=4)),
    "softcap": Recipe(softcap=2.0),
    "slopes": Recipe(Mask(causal=True), slopes=(0.5, 0.25, 0.125, 0.0625)),
    "bias": Recipe(bias=RelativeBias((-9, -1, 0, 3), tuple((h, 1.0, 0.0, -1.0) for h in range(4)))),
    "sinks": Recipe(Mask(causal=True), sinks=Sinks((1.0, 0.0, 3.0, -2.0), "softmax")),
}
LENGTHS = [5, 9, 9, 12]


@pytest.fixture(autouse=True, params=[1 << 20, 300, 1], ids=["whole", "examples", "rows"])
def _tile_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiles.CELLS, "cpu", request.param)


def make_inputs(lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(len(lengths))
    longest = max(lengths)
    return (
        torch.randn(len(lengths), longest, HEADS, DIM).transpose(1, 2),  # as models lay them out
        torch.randn(len(lengths), longest, KEY_HEADS, DIM).transpose(1, 2),
        torch.randn(len(lengths), longest, KEY_HEADS, DIM - 2).transpose(1, 2),
    )


def make_mask(rule: Mask, lengths: Sequence[int]) -> torch.Tensor:
    """A boolean mask with padding, ``(example, 1, query_token, key_token)``."""
    longest = max(lengths)
    low, high = visible_range(rule, range(longest), longest)
    j = np.arange(longest)
    seen = (j >= low[:, None]) & (j < high[:, None])
    there = j < np.array(lengths)[:, None, None]
    return torch.from_numpy((seen & there)[:, None])


def expected(
    recipe: Recipe, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Attention and output of one example by the store's reference."""
    weights = derive_attention(query[:, :tokens].numpy(), key[:, :tokens].numpy(), 0.3, recipe)
    repeated = np.repeat(value[:, :tokens].numpy(), HEADS // KEY_HEADS, axis=0)
    return weights, (weights @ repeated).transpose(1, 0, 2)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("kind", ["boolean", "additive", "none"])
def test_tiles_are_the_reference(recipe: Recipe, kind: str) -> None:
    lengths = [12, 12] if kind == "none" else LENGTHS
    query, key, value = make_inputs(lengths)
    mask = None
    if kind != "none":
        mask = make_mask(recipe.mask, lengths)
    if kind == "additive":
        assert mask is not None
        mask = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    longest = max(lengths)
    seen = torch.full((len(lengths), HEADS, longest, longest), torch.nan)

    def on_tile(index: int, first: int, start: int, weights: torch.Tensor) -> None:
        assert index == 1
        part = seen[first : first + len(weights), :, start : start + weights.shape[2]]
        assert part.isnan().all(), "a weight was shown twice"
        part.copy_(weights)

    tiled = TiledAttention([Recipe(), recipe], on_tile)
    tiled.start(lengths, query.device)
    out = tiled(1, query, key, value, mask, 0.3)
    assert not tiled.finish()
    assert out.shape == (len(lengths), longest, HEADS, DIM - 2)
    assert out.isfinite().all()
    for row, tokens in enumerate(lengths):
        weights, mixed = expected(recipe, query[row], key[row], value[row], tokens)
        np.testing.assert_allclose(seen[row, :, :tokens, :tokens], weights, atol=1e-6)
        np.testing.assert_allclose(out[row, :tokens], mixed, atol=1e-5)


@pytest.mark.parametrize("changed", ["one key more", "one key less", "a mask per head"])
def test_a_mask_that_breaks_its_rule_is_refused(changed: str) -> None:
    query, key, value = make_inputs(LENGTHS)
    mask = make_mask(Mask(causal=True), LENGTHS)
    if changed == "a mask per head":
        mask = mask.expand(-1, HEADS, -1, -1)
    else:
        mask[2, 0, 6, 8 if changed == "one key more" else 4] ^= True
    tiled = TiledAttention([Recipe(Mask(causal=True))], None)
    tiled.start(LENGTHS, query.device)
    tiled(0, query, key, value, mask, 0.3)
    broken = range(len(LENGTHS)) if changed == "a mask per head" else [2]
    assert tiled.finish() == dict.fromkeys(broken, tiles.MASKS_OTHERS)


def test_masks_are_told_apart_though_one_comes_to_lie_in_the_place_of_another() -> None:
    query, key, value = make_inputs(LENGTHS)
    rule = Mask(causal=True)
    tiled = TiledAttention([Recipe(rule)], None)
    tiled.start(LENGTHS, query.device)
    tiled(0, query, key, value, make_mask(rule, LENGTHS), 0.3)  # let go of by its maker
    for _ in range(20):
        tiled(0, query, key, value, make_mask(Mask(causal=True, window=2), LENGTHS), 0.3)
    assert tiled.finish() == dict.fromkeys(range(len(LENGTHS)), tiles.MASKS_OTHERS)


def test_padding_may_be_masked_as_it_likes() -> None:
    query, key, value = make_inputs(LENGTHS)
    mask = make_mask(Mask(causal=True), LENGTHS)
    mask[0, 0, 5:] = torch.rand(7, 12) < 0.5
    mask[1, 0, 9:] = False
    tiled = TiledAttention([Recipe(Mask(causal=True))], None)
    tiled.start(LENGTHS, query.device)
    assert tiled(0, query, key, value, mask, 0.3).isfinite().all()
    assert not tiled.finish()


@pytest.mark.parametrize("lengths", [[5, 9, 9, 12], [70, 70, 131]], ids=["short", "long"])
def test_summaries_are_those_of_whole_maps(lengths: list[int]) -> None:
    recipe = RECIPES["causal"]
    query, key, value = make_inputs(lengths)
    random = np.random.default_rng(0)
    roles = []
    for tokens in lengths:
        special = np.arange(tokens) == 0
        punctuation = (random.random(tokens) < 0.2) & ~special
        segments = (np.arange(tokens) > tokens // 2).astype(np.int8)
        roles.append(TokenRoles(special, punctuation, segments))
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    runs = [(a, b, lengths[a], lengths[a]) for a, b in zip(edges, edges[1:], strict=False)]
    meter = HeadMetrics(lengths, roles, query.device)
    summary = LayerSummary(runs, meter)
    tiled = TiledAttention([recipe], lambda _, *tile: summary.add(*tile))
    tiled.start(lengths, query.device)
    tiled(0, query, key, value, make_mask(recipe.mask, lengths), 0.3)
    measured = meter.average(summary.metric_rows(), recipe.mask).numpy()
    thumbnails = {
        first + place: codes
        for first, run in summary.thumbnails()
        for place, codes in enumerate(run.numpy())
    }
    assert sorted(thumbnails) == list(range(len(lengths)))
    for row, tokens in enumerate(lengths):
        weights, _ = expected(recipe, query[row], key[row], value[row], tokens)
        codes = make_thumbnail(weights)
        assert thumbnails[row].dtype == np.uint8
        assert np.abs(thumbnails[row].astype(int) - codes).max() <= 1
        np.testing.assert_allclose(
            measured[row], head_metrics(weights, roles[row], recipe.mask), rtol=1e-4, atol=1e-5
        )
