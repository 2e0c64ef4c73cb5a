"""Scores and attention derived from queries and keys, against plain loops in float64."""

from __future__ import annotations

import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from qkvault import scores as scores_module
from qkvault.errors import InputError, MissingArray
from qkvault.recipe import (
    Mask,
    Recipe,
    RelativeBias,
    Sinks,
    check_recipe,
    default_recipe,
    parse_recipe,
    recipe_document,
)
from qkvault.scores import derive_attention, derive_scores, visible_range

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADS, KEY_HEADS, TOKENS, DIM = 4, 2, 11, 6

BIAS = RelativeBias((-20, -3, 0, 1, 5), tuple((h, -1.0, 0.5 * h, 0.0, 2.0) for h in range(HEADS)))
RECIPES = {
    "full": Recipe(),
    "causal": Recipe(Mask(causal=True)),
    "window": Recipe(Mask(window=3)),
    "causal window": Recipe(Mask(causal=True, window=4)),
    "chunk": Recipe(Mask(chunk=4)),
    "causal chunk": Recipe(Mask(causal=True, chunk=4)),
    "causal window chunk": Recipe(Mask(causal=True, window=2, chunk=5)),
    "softcap": Recipe(softcap=1.5),
    "slopes": Recipe(Mask(causal=True), slopes=(0.5, 0.25, 0.125, 0.0625)),
    "bias": Recipe(bias=BIAS),
    "sinks": Recipe(Mask(causal=True), sinks=Sinks((2.0, -1.0, 0.0, 30.0), "softmax")),
    "gate": Recipe(Mask(causal=True), sinks=Sinks((2.0, -1.0, 0.0, 30.0), "gate")),
    "all": Recipe(
        Mask(causal=True, window=6),
        softcap=4.0,
        slopes=(0.5, 0.25, 0.125, 0.0625),
        bias=BIAS,
        sinks=Sinks((2.0, -1.0, 0.0, 5.0), "softmax"),
    ),
}


def sees(mask: Mask, i: int, j: int) -> bool:
    """The mask's rule, word for word."""
    if mask.causal and j > i:
        return False
    if mask.window is not None and abs(i - j) > mask.window:
        return False
    return mask.chunk is None or i // mask.chunk == j // mask.chunk


def score_of(recipe: Recipe, product: float, head: int, i: int, j: int) -> float:
    """One score by the formula of ``qkvault.recipe``."""
    if not sees(recipe.mask, i, j):
        return -math.inf
    score = product
    if recipe.softcap is not None:
        score = recipe.softcap * math.tanh(score / recipe.softcap)
    if recipe.slopes is not None:
        score += recipe.slopes[head] * (j - i)
    if recipe.bias is not None:
        step = max((s for s, start in enumerate(recipe.bias.starts) if start <= j - i), default=0)
        score += recipe.bias.values[head][step]
    return score


def slowly(
    query: NDArray[Any], key: NDArray[Any], scaling: float, recipe: Recipe, first: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores and attention, one number after the other."""
    group = len(query) // len(key)
    scores = np.empty((len(query), query.shape[1], key.shape[1]))
    attention = np.zeros_like(scores)
    for h, i, j in np.ndindex(*scores.shape):
        product = scaling * float(query[h, i].astype(np.float64) @ key[h // group, j])
        scores[h, i, j] = score_of(recipe, product, h, first + i, j)
    for h, i in np.ndindex(*scores.shape[:2]):
        weights = np.exp(scores[h, i])
        total = weights.sum()
        if recipe.sinks is not None and recipe.sinks.mode == "softmax":
            total += math.exp(recipe.sinks.values[h])
        attention[h, i] = weights / total
    return scores, attention


def vectors(
    tokens: int = TOKENS, heads: int = HEADS, key_heads: int = KEY_HEADS, queries: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(tokens)
    query = random.normal(size=(heads, queries or tokens, DIM)).astype(np.float32)
    return query, random.normal(size=(key_heads, tokens, DIM)).astype(np.float32)


@pytest.fixture(params=[1 << 17, 40, 1], ids=["one block", "small blocks", "row by row"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "_BLOCK_CELLS", request.param)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_every_recipe_is_its_formula(recipe: Recipe, key_heads: int) -> None:
    query, key = vectors(key_heads=key_heads)
    scores, attention = slowly(query, key, 0.4, recipe)
    np.testing.assert_allclose(derive_scores(query, key, 0.4, recipe), scores, atol=2e-6)
    np.testing.assert_allclose(derive_attention(query, key, 0.4, recipe), attention, atol=5e-7)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_some_heads_and_some_query_rows(recipe: Recipe) -> None:
    query, key = vectors()
    whole = derive_attention(query, key, 0.4, recipe)
    heads, first, last = [3, 0, 1], 4, 9
    part = derive_attention(
        query[heads, first:last],
        key[[1, 0]],
        0.4,
        recipe,
        heads=heads,
        key_head=[0, 1, 1],
        first_query=first,
    )
    np.testing.assert_allclose(part, whole[heads, first:last], atol=2e-7)


@pytest.mark.usefixtures("_blocks")
def test_queries_and_keys_of_different_texts() -> None:
    query, key = vectors(queries=5)
    scores, attention = slowly(query, key, 1.0, Recipe())
    np.testing.assert_allclose(derive_scores(query, key, 1.0, Recipe()), scores, atol=2e-6)
    np.testing.assert_allclose(derive_attention(query, key, 1.0, Recipe()), attention, atol=5e-7)


def test_rows_sum_to_one_but_for_sinks() -> None:
    query, key = vectors()
    for name, recipe in RECIPES.items():
        sums = derive_attention(query, key, 0.4, recipe).sum(-1)
        if recipe.sinks is not None and recipe.sinks.mode == "softmax":
            assert (sums < 0.999).any(), name
        else:
            np.testing.assert_allclose(sums, 1.0, atol=1e-6, err_msg=name)


def test_large_scores_do_not_overflow() -> None:
    query, key = vectors()
    attention = derive_attention(200 * query, 200 * key, 1.0, RECIPES["sinks"])
    assert np.isfinite(attention).all()
    low = derive_attention(query, key, 1.0, Recipe(sinks=Sinks((300.0,) * HEADS, "softmax")))
    assert np.isfinite(low).all()
    assert low.max() < 1e-30


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_visible_range_is_the_rule(recipe: Recipe) -> None:
    low, high = visible_range(recipe.mask, range(2, TOKENS), TOKENS)
    for place, i in enumerate(range(2, TOKENS)):
        seen = [j for j in range(TOKENS) if sees(recipe.mask, i, j)]
        assert list(range(low[place], high[place])) == seen


def test_half_precision_inputs_are_computed_in_float32() -> None:
    query, key = (part.astype(np.float16) for part in vectors())
    _, attention = slowly(query.astype(np.float32), key.astype(np.float32), 0.4, Recipe())
    np.testing.assert_allclose(derive_attention(query, key, 0.4, Recipe()), attention, atol=5e-7)


def test_output_is_written_in_place() -> None:
    query, key = vectors()
    out = np.full((HEADS, TOKENS, TOKENS + 3), np.nan, np.float32)
    got = derive_attention(query, key, 0.4, RECIPES["causal"], out=out[:, :, :TOKENS])
    assert np.shares_memory(got, out)
    np.testing.assert_array_equal(got, derive_attention(query, key, 0.4, RECIPES["causal"]))
    assert np.isnan(out[:, :, TOKENS:]).all()


@pytest.mark.parametrize("recipe", [RECIPES["full"], RECIPES["all"]], ids=["full", "all"])
def test_memory_beyond_the_result_is_one_block(recipe: Recipe) -> None:
    tokens = 1024
    query, key = vectors(tokens, heads=4, key_heads=2)
    out = np.empty((4, tokens, tokens), np.float32)
    derive_attention(query[:, :8], key[:, :8], 0.4, recipe)  # loads what is loaded late
    tracemalloc.start()
    derive_attention(query, key, 0.4, recipe, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < out[0].nbytes // 2


def test_unknown_recipe_is_refused_with_its_reason() -> None:
    query, key = vectors()
    for derive in (derive_scores, derive_attention):
        with pytest.raises(MissingArray, match="position terms depend on content"):
            derive(query, key, 1.0, Recipe(unknown="position terms depend on content"))


def test_shapes_that_do_not_fit_are_refused() -> None:
    query, key = vectors()
    wrong: list[tuple[Any, Any, dict[str, Any]]] = [
        (query[0], key, {}),
        (query, key[:, :, :-1], {}),
        (query[:3], key, {}),
        (query, key, {"key_head": [0, 0, 1]}),
        (query, key, {"key_head": [0, 0, 1, 2]}),
        (query, key, {"first_query": -1}),
        (query, key, {"out": np.empty((1, 2, 3), np.float32)}),
        (query, key, {"out": np.empty((HEADS, TOKENS, TOKENS), np.float64)}),
    ]
    for bad_query, bad_key, settings in wrong:
        with pytest.raises(InputError):
            derive_attention(bad_query, bad_key, 1.0, Recipe(), **settings)
    with pytest.raises(InputError, match="see none"):
        derive_attention(query, key, 1.0, Recipe(Mask(window=2)), first_query=TOKENS)


def test_recipes_go_through_json() -> None:
    import json

    layers = (*RECIPES.values(), RECIPES["bias"], Recipe(unknown="it depends"))
    document = json.loads(json.dumps(recipe_document(layers)))
    assert len(document["forms"]) == len(RECIPES) + 1
    assert parse_recipe(document) == layers
    for recipe in layers:
        check_recipe(recipe, HEADS, causal=False)


def test_float32_tables_survive_json() -> None:
    import json

    values = tuple(float(x) for x in np.random.default_rng(0).normal(size=64).astype(np.float32))
    text = json.dumps(recipe_document([Recipe(slopes=values)]))
    (read,) = parse_recipe(json.loads(text))
    assert read.slopes == values


def test_default_recipe_follows_causality() -> None:
    assert default_recipe(2, causal=True) == (Recipe(Mask(causal=True)),) * 2
    assert default_recipe(1, causal=False) == (Recipe(),)


BAD = [
    Recipe(Mask(window=-1)),
    Recipe(Mask(window=True)),
    Recipe(Mask(chunk=0)),
    Recipe(Mask(chunk=1 << 40)),
    Recipe(Mask(causal=1)),  # type: ignore[arg-type]
    Recipe(softcap=0.0),
    Recipe(softcap=math.inf),
    Recipe(slopes=(1.0,) * (HEADS - 1)),
    Recipe(slopes=(math.nan,) * HEADS),
    Recipe(slopes=("1",) * HEADS),  # type: ignore[arg-type]
    Recipe(sinks=Sinks((0.0,) * (HEADS + 1), "softmax")),
    Recipe(sinks=Sinks((0.0,) * HEADS, "drain")),  # type: ignore[arg-type]
    Recipe(bias=RelativeBias((), ((),) * HEADS)),
    Recipe(bias=RelativeBias((0, 0), ((1.0, 2.0),) * HEADS)),
    Recipe(bias=RelativeBias((0, 1), ((1.0, 2.0),) * (HEADS - 1))),
    Recipe(bias=RelativeBias((0, 1), ((1.0,),) * HEADS)),
    Recipe(bias=RelativeBias(tuple(range(1 << 17)), ((0.0,) * (1 << 17),) * HEADS)),
    Recipe(unknown=""),
]


@pytest.mark.parametrize("recipe", BAD, ids=range(len(BAD)))
def test_recipes_that_make_no_sense_are_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="."):
        check_recipe(recipe, HEADS, causal=False)


def test_a_causal_stack_needs_causal_masks() -> None:
    with pytest.raises(ValueError, match="causal"):
        check_recipe(Recipe(), HEADS, causal=True)
    check_recipe(Recipe(Mask(causal=True)), HEADS, causal=False)


@pytest.mark.parametrize(
    "change",
    [
        {"forms": [{}]},
        {"forms": [{"mask": {"causal": False}}]},
        {"layers": [1]},
        {"layers": [-1]},
        {"layers": ["0"]},
        {"forms": [{"mask": {"causal": False, "window": None, "chunk": None}, "twist": 1}]},
    ],
    ids=str,
)
def test_documents_that_are_no_recipe_are_refused(change: dict[str, Any]) -> None:
    document = {**recipe_document([Recipe()]), **change}
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        parse_recipe(document)
