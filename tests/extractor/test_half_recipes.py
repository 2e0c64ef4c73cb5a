"""Recipes of models in half precision: found without their rounding, confirmed within it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch

import qkvault
from extractor import test_derive, test_watched
from extractor.models import (
    save,
    tiny_bert,
    tiny_encoder_decoder,
    tiny_gpt2,
    write_pairs,
    write_texts,
)
from extractor.test_tap import Model
from qkvault import (
    InputError,
    Mask,
    Recipe,
    RelativeBias,
    Sinks,
    bound_derived,
    derive_attention,
)
from qkvault_extractor import ExtractOptions, Part, extract, plan, run_vault, stacks, tiles
from qkvault_extractor.capture import _own_eager
from qkvault_extractor.recipes import confirm
from qkvault_extractor.tap import Tap
from qkvault_extractor.watched import FOLLOWS_NOT, WatchedAttention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from qkvault import Vault
    from qkvault_extractor.capture import AttentionCall

HALF: Final = {"float16": torch.float16, "bfloat16": torch.bfloat16}
XGLM: Final = {
    "d_model": 32,
    "ffn_dim": 48,
    "num_layers": 3,
    "attention_heads": 4,
    "max_position_embeddings": 160,
    "init_std": 0.3,
}
MAKERS: Final[dict[str, Callable[[Path], Path]]] = {
    "bert": tiny_bert,
    "gpt2": tiny_gpt2,
    "mistral": test_derive.tiny_mistral,
    "gemma2": test_derive.tiny_gemma2,
    "gpt_oss": test_derive.tiny_gpt_oss,
    "t5": lambda path: tiny_encoder_decoder(path, "t5"),
    "bloom": lambda path: test_watched.make(path.parent, "bloom"),
    "xglm": lambda path: save(path, "XGLM", "Model", XGLM),
    "mpnet": lambda path: test_watched.make(path.parent, "mpnet"),
    "falcon": lambda path: test_watched.make(path.parent, "falcon"),
}


@pytest.fixture(autouse=True)
def fresh_functions() -> Iterator[None]:
    """What is known of models' functions holds for this test alone."""
    _own_eager.cache_clear()
    yield
    _own_eager.cache_clear()


def extract_to(out: Path, model: Path, **options: Any) -> Vault:
    data = out.parent / "texts.jsonl"
    if "t5" in str(model):
        write_pairs(data, [(9, 4), (5, 12), (60, 30)])
        options["target_column"] = "target"
    elif not data.exists():
        write_texts(data, [3, 30, 8, 8, 70, 30])
    given: dict[str, Any] = {"precision": "float32", "batch_tokens": 160, **options}
    extract(ExtractOptions(str(model), (str(data),), out, device="cpu", **given))
    return qkvault.open(out)


def shape_of(recipe: Recipe) -> Recipe:
    """A recipe but for the numbers that half precision rounds."""
    bias, sinks = recipe.bias, recipe.sinks
    return replace(
        recipe,
        slopes=None if recipe.slopes is None else (1.0,),
        bias=None if bias is None else replace(bias, values=()),
        sinks=None if sinks is None else replace(sinks, values=()),
    )


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("family", MAKERS)
def test_recipes_are_those_of_float32(family: str, dtype: str, tmp_path: Path) -> None:
    model = MAKERS[family](tmp_path / family)
    whole = extract_to(tmp_path / "whole", model)
    stored = extract_to(tmp_path / "stored", model, dtype=dtype)
    for one, other in zip(whole.spec.stacks, stored.spec.stacks, strict=True):
        assert [shape_of(r) for r in other.recipe] == [shape_of(r) for r in one.recipe]
        assert other.scaling == pytest.approx(one.scaling)
    derived = extract_to(tmp_path / "derived", model, dtype=dtype, attention="derive")
    assert derived.spec.derived_error is not None
    assert derived.spec.derived_error < {"float16": 5e-3, "bfloat16": 4e-2}[dtype]
    for vault in (stored, derived):
        report = qkvault.verify(vault.path, derive=True)
        assert report.ok, report.damages


def test_a_bias_of_content_is_told_though_it_is_less_than_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert import modeling_bert

    own = modeling_bert.eager_attention_forward

    def biased(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **terms: Any
    ) -> Any:
        leaning = 0.001 * torch.tanh(query.sum(-1, keepdim=True) * key.sum(-1)[:, :, None])
        return own(module, query, key, value, leaning if mask is None else mask + leaning, **terms)

    monkeypatch.setattr(modeling_bert, "eager_attention_forward", biased)
    model = tiny_bert(tmp_path / "bert")
    stored = extract_to(tmp_path / "v", model, dtype="bfloat16")
    assert all("differs from the model's" in str(r.unknown) for r in stored.spec.stacks[0].recipe)
    with pytest.raises(InputError, match="cannot be derived, layer 0"):
        extract_to(tmp_path / "d", model, dtype="bfloat16", attention="derive")
    monkeypatch.setattr(stacks, "find_recipe", lambda *_, **__: Recipe())
    believed = extract_to(tmp_path / "b", model, dtype="bfloat16")
    assert not any(r.unknown for r in believed.spec.stacks[0].recipe), "rounding would hide it"
    assert qkvault.verify(believed.path, derive=True).ok


def test_slopes_that_half_precision_turns_into_steps_are_no_slopes(tmp_path: Path) -> None:
    """Beyond 256 tokens a line of slope 1/4 is no line any more in bfloat16."""
    write_texts(tmp_path / "texts.jsonl", [300])
    model = test_watched.make(tmp_path, "bloom")
    vault = extract_to(tmp_path / "v", model, dtype="bfloat16")
    assert all("more than relative position" in str(r.unknown) for r in vault.spec.stacks[0].recipe)


@pytest.mark.parametrize("family", ["gpt_oss", "bloom"])
def test_parts_of_a_derived_vault_are_those_of_one_run(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 60 << 10)
    model, given = MAKERS[family](tmp_path / family), {"dtype": "bfloat16", "attention": "derive"}
    whole = extract_to(tmp_path / "whole", model, **given)
    data = (str(tmp_path / "texts.jsonl"),)
    options: dict[str, Any] = {"precision": "float32", "batch_tokens": 160, **given}
    plan(ExtractOptions(str(model), data, tmp_path / "parts", device="cpu", **options))
    for part in (0, 1):
        run_vault(tmp_path / "parts", part=Part(part, 2))
    with qkvault.open(tmp_path / "parts") as parts:
        assert parts.digest == whole.digest


RECIPES: Final = {
    "plain": Recipe(),
    "window": Recipe(Mask(causal=True, window=6)),
    "softcap": Recipe(Mask(causal=True), softcap=3.0),
    "bias": Recipe(
        bias=RelativeBias((-40, -3, 0, 4), ((0.0, 2.0, -1.0, 0.5), (3.0, 0.1, 0.2, 1.0)))
    ),
    "slopes": Recipe(Mask(causal=True), slopes=(0.25, 0.0625)),
    "sinks": Recipe(Mask(causal=True), sinks=Sinks((1.0, -2.0), "softmax")),
}
TOKENS: Final = 40


def vectors(size: float, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Queries and keys, ``(2, example, head, token, dim)``."""
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 1, 2, TOKENS, 8, generator=random) * size).to(dtype)


def run_in_half(query: Tensor, key: Tensor, recipe: Recipe) -> Tensor:
    """Attention as models compute it: each operation rounds to the operands' type."""
    places = torch.arange(TOKENS)
    scores = (query @ key.transpose(2, 3)) * 0.35355
    if recipe.softcap is not None:
        scores = torch.tanh(scores / recipe.softcap) * recipe.softcap
    if recipe.slopes is not None:  # BLOOM counts from the first token
        scores = scores + (torch.tensor(recipe.slopes)[:, None, None] * places).to(query.dtype)
    if recipe.bias is not None:
        distance = places - places[:, None]
        steps = torch.bucketize(distance, torch.tensor(recipe.bias.starts), right=True) - 1
        scores = scores + torch.tensor(recipe.bias.values)[:, steps.clamp(min=0)].to(query.dtype)
    reach = TOKENS if recipe.mask.window is None else recipe.mask.window
    back = places[:, None] - places
    if recipe.mask.causal:
        scores = scores.masked_fill((back < 0) | (back > reach), torch.finfo(query.dtype).min)
    if recipe.sinks is not None:
        sinks = torch.tensor(recipe.sinks.values).to(query.dtype)[None, :, None, None]
        scores = torch.cat([scores, sinks.expand(1, 2, TOKENS, 1)], -1)
        scores = scores - scores.max(-1, keepdim=True).values
        return torch.softmax(scores, -1)[..., :-1]
    return torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", RECIPES)
def test_the_bound_holds_and_is_not_idle(name: str, dtype: str) -> None:
    recipe, used = RECIPES[name], 0.0
    for seed, size in enumerate([0.3, 1.0, 2.0, 4.0] * 5):
        pair = vectors(size, HALF[dtype], seed)
        found = run_in_half(*pair, recipe)[0].float().numpy()
        query, key = pair[:, 0].float().numpy()
        exact = derive_attention(query, key, 0.35355, recipe)
        allowed = bound_derived(query, key, 0.35355, recipe, exact, dtype)
        share = np.abs(found - exact) / allowed
        assert share.max() <= 1.0, (size, share.max())
        used = max(used, float(share.max()))
    assert used > 0.2, "a bound that is never come near to tells nothing"


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", RECIPES)
def test_tiles_have_the_same_bound(name: str, dtype: str) -> None:
    query, key = vectors(1.0, HALF[dtype])
    recipe, rows = RECIPES[name], slice(5, 12)
    weights = tiles.weigh(query[:, :, rows], key, None, 0.35355, recipe, rows)
    found = tiles.bound(query[:, :, rows], key, 0.35355, recipe, rows, weights, dtype)
    arrays = query[0].float().numpy(), key[0].float().numpy()
    exact = derive_attention(*arrays, 0.35355, recipe)
    expected = bound_derived(*arrays, 0.35355, recipe, exact, dtype)
    np.testing.assert_allclose(found[0].numpy(), expected[:, rows], rtol=1e-3)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    ("true", "stated"),
    [
        ("window", Recipe(Mask(causal=True, window=5))),
        ("window", Recipe(Mask(causal=True, window=7))),
        ("softcap", Recipe(Mask(causal=True), softcap=2.0)),
        ("softcap", Recipe(Mask(causal=True))),
        ("slopes", Recipe(Mask(causal=True), slopes=(0.25, 0.25))),
        ("sinks", Recipe(Mask(causal=True))),
        ("sinks", Recipe(Mask(causal=True), sinks=Sinks((1.0, -2.0), "gate"))),
        ("plain", Recipe(Mask(causal=True))),
    ],
)
def test_another_rule_is_more_than_rounding(true: str, stated: Recipe, dtype: str) -> None:
    query, key = vectors(1.0, HALF[dtype])
    attention = run_in_half(query, key, RECIPES[true])
    call = replace(test_watched.call_of(attention, query, key), scaling=0.35355)
    sides = (TOKENS, TOKENS)
    assert confirm(call, sides, RECIPES[true]) == RECIPES[true]
    assert f"by more than rounding to {dtype} explains" in str(confirm(call, sides, stated).unknown)
    for recipe, refused in ((RECIPES[true], False), (stated, True)):
        watched = WatchedAttention([recipe], [("source", "source")], lambda _: None)
        watched.start((TOKENS,), torch.device("cpu"))
        watched(call)
        assert watched.finish() == ({0: FOLLOWS_NOT} if refused else {})


@pytest.mark.parametrize("dtype", HALF)
def test_verify_tells_a_window_one_token_too_wide(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def widened(call: Any, sides: Sequence[int], recipe: Recipe) -> Recipe:
        return replace(recipe, mask=replace(recipe.mask, window=5))

    model = test_derive.tiny_mistral(tmp_path / "mistral")
    sound = extract_to(tmp_path / "sound", model, dtype=dtype)
    assert sound.spec.stacks[0].recipe[0].mask.window == 4
    assert qkvault.verify(sound.path, derive=True).ok
    monkeypatch.setattr(stacks, "confirm", widened)
    wrong = extract_to(tmp_path / "wrong", model, dtype=dtype)
    assert not qkvault.verify(wrong.path, derive=True).ok


def test_without_a_float32_function_recipes_stay_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.models.bert import modeling_bert

    own = modeling_bert.eager_attention_forward

    def narrow(module: Any, query: Tensor, *rest: Any, **terms: Any) -> Any:
        assert query.dtype == torch.bfloat16, "a kernel for half precision alone"
        return own(module, query, *rest, **terms)

    monkeypatch.setattr(modeling_bert, "eager_attention_forward", narrow)
    vault = extract_to(tmp_path / "v", tiny_bert(tmp_path / "bert"), dtype="bfloat16")
    reasons = {str(recipe.unknown) for recipe in vault.spec.stacks[0].recipe}
    assert "rounding to bfloat16 hides its rule" in " ".join(reasons)
    assert len(reasons) == 1
    assert vault[0].attention[0].shape


def test_operations_that_are_not_known_are_not_made_anew() -> None:
    """A score that is more than a scaled product and sums has no float32 to be held against."""

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(q @ k.transpose(-1, -2) / 2 + 1, -1) @ v

    def bent(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(torch.sin(q @ k.transpose(-1, -2)), -1) @ v

    for attend, exact in ((plain, True), (bent, False)):
        calls: list[AttentionCall] = []
        query, key = vectors(1.0, torch.bfloat16)
        model: Any = Model(attend)
        with torch.inference_mode(), Tap(model, calls.append, describe=True, wide=True):
            model(query, key, key)
        assert (calls[0].weights.dtype == torch.float32) is exact
        if exact:
            scores = query.float() @ key.float().transpose(-1, -2) / 2
            torch.testing.assert_close(calls[0].weights, torch.softmax(scores, -1))
