"""Attention in blocks is laid out as the map of tokens that its rule states, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from extractor.architecture import ENCODER
from extractor.encoder_decoder_rows import BART, LED, T5
from extractor.models import save
from qkvault_extractor.layouts import LAYOUTS
from qkvault_extractor.layouts.reports import read_band, read_neighbours, read_parted
from qkvault_extractor.layouts.steps import Steps, spread
from qkvault_extractor.machine import quiet
from qkvault_extractor.native import Mismatch
from qkvault_extractor.tap import Tap

if TYPE_CHECKING:
    from torch import Tensor

    from qkvault_extractor.capture import AttentionCall

LENGTHS = (29, 17, 23)
"""None is a multiple of a window, all are longer than one, two are padded."""

GLOBAL = ((0, 5, 11), (0,), ())
"""Global tokens of each example, of unequal number."""

WINDOWS = [8, 4, 8]
LED_WINDOWS = {**LED, "attention_window": WINDOWS}


def load(folder: Path, prefix: str, settings: dict[str, Any]) -> Any:
    import transformers

    save(folder, prefix, "Model", settings)
    with quiet():
        model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval()


def batch(with_global: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 40, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = torch.tensor([[1] * n + [0] * (max(LENGTHS) - n) for n in LENGTHS])
    inputs = {"input_ids": ids * mask, "attention_mask": mask}
    if with_global:
        inputs["global_attention_mask"] = torch.zeros_like(mask)
        for example, tokens in enumerate(GLOBAL):
            inputs["global_attention_mask"][example, list(tokens)] = 1
    return inputs


def follow(model: Any, inputs: dict[str, Tensor]) -> tuple[list[AttentionCall], Any]:
    calls: list[AttentionCall] = []
    with torch.inference_mode(), quiet(), Tap(model, calls.append, describe=True):
        output = model(**inputs, output_attentions=True, output_hidden_states=True)
    return [call for call in calls if call.blocks is not None], output


def project(layer: torch.nn.Linear, states: Tensor) -> Tensor:
    """A projection in float64: ``(head, token, dim)``."""
    assert layer.bias is not None
    found = states.double() @ layer.weight.double().T + layer.bias.double()
    return found.view(len(states), 4, -1).transpose(0, 1)


@pytest.mark.parametrize("with_global", [False, True])
@pytest.mark.parametrize("prefix", ["Longformer", "LED"])
def test_windows_are_what_the_paper_says_in_float64(
    prefix: str, with_global: bool, tmp_path: Path
) -> None:
    """Beltagy et al. 2020, section 3.1, from the weights and the states before each layer."""
    led = prefix == "LED"
    settings = LED_WINDOWS if led else {**ENCODER, "attention_window": WINDOWS}
    model, inputs = load(tmp_path, prefix, settings), batch(with_global)
    if led:
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :5]
    calls, output = follow(model, inputs)
    states = output.encoder_hidden_states if led else output.hidden_states
    assert len(calls) == len(WINDOWS)
    for depth, call in enumerate(calls):
        with torch.inference_mode():
            for example, length in enumerate(LENGTHS):
                tokens = GLOBAL[example] if with_global else ()
                seen = states[depth][example, :length]
                check_window(call, example, seen, list(tokens), WINDOWS[depth] // 2)


def check_window(
    call: AttentionCall, example: int, states: Tensor, tokens: list[int], window: int
) -> None:
    """Hold one example of a call to its rule.

    Args:
        call: the call.
        example: which.
        states: what the layer is given, ``(token, width)``.
        tokens: the global ones.
        window: most tokens away that a key may stand.
    """
    module: Any = call.module
    query, key, value = (project(getattr(module, n), states) for n in ("query", "key", "value"))
    place = torch.arange(len(states))
    shown = (place[:, None] - place).abs() <= window
    shown[:, tokens] = True
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
    expected = scores.masked_fill(~shown, -torch.inf).softmax(-1)
    query = query / query.shape[-1] ** 0.5
    if tokens:
        own, keys = (project(getattr(module, f"{n}_global"), states) for n in ("query", "key"))
        query[:, tokens] = own[:, tokens] / query.shape[-1] ** 0.5
        expected[:, tokens] = (query[:, tokens] @ keys.transpose(1, 2)).softmax(-1)
    whole = slice(len(states))
    found = call.weights[example, :, whole, whole]
    assert (found - expected).abs().max() < 1e-5
    assert (found == 0).sum() >= (~shown).sum() - 2 * len(tokens) * len(states)
    for name, vectors in (("query", query), ("key", key), ("value", value)):
        assert (getattr(call, name)[example, :, whole] - vectors).abs().max() < 1e-4
    assert call.mask is not None
    hidden = ~shown
    hidden[tokens] = False
    assert torch.equal(call.mask[example, 0, whole, whole] < 0, hidden)
    assert (call.mask[example, 0, whole, len(states) :] < 0).all(), "padding is hidden"


@pytest.mark.parametrize("with_global", [False, True])
def test_windows_are_what_the_model_reports(with_global: bool, tmp_path: Path) -> None:
    model = load(tmp_path, "Longformer", {**ENCODER, "attention_window": WINDOWS})
    calls, output = follow(model, batch(with_global))
    apart = output.global_attentions if with_global else [None] * 3
    for call, report, of_global in zip(calls, output.attentions, apart, strict=True):
        theirs = read_band(report, of_global, max(LENGTHS))
        for example, length in enumerate(LENGTHS):
            cut = (example, slice(None), slice(length), slice(length))
            assert torch.equal(call.weights[cut], theirs[cut])
            assert torch.allclose(theirs[cut].sum(-1), torch.ones(1), atol=1e-6, rtol=0)
        assert call.blocks is not None
        assert (call.blocks.unknown is not None) is with_global


def test_neighbouring_blocks_are_a_window_in_float64(tmp_path: Path) -> None:
    """Guo et al. 2022, section 3.1, with the module's own table of biases by distance."""
    settings = {**T5, "encoder_attention_type": "local", "local_radius": 7, "num_layers": 3}
    model = load(tmp_path, "LongT5", settings)
    inputs = batch(with_global=False)
    calls, output = follow(model, {**inputs, "decoder_input_ids": inputs["input_ids"][:, :4]})
    assert len(calls) == 3
    first: Any = calls[0].module
    reach = 2 * 8 - 1  # the module's table is of a block and its neighbours
    with torch.inference_mode():
        table = first.compute_bias(8)[0, 0]  # (head, token of the block, key of three blocks)
    by_distance = {j - i - 8: table[:, i, j].double() for i in range(8) for j in range(24)}
    assert set(range(-reach, reach + 1)) <= set(by_distance)
    for call, report in zip(calls, output.encoder_attentions, strict=True):
        theirs = read_neighbours(report, None, max(LENGTHS))
        for example, length in enumerate(LENGTHS):
            cut = (example, slice(None), slice(length), slice(length))
            scores = call.query[cut[:3]].double() @ call.key[cut[:3]].double().transpose(1, 2)
            for i in range(length):
                for j in range(length):
                    near = abs(i - j) <= 7
                    scores[:, i, j] += by_distance[j - i] if near else -torch.inf
            assert (scores.softmax(-1) - call.weights[cut]).abs().max() < 1e-5
            assert torch.equal(call.weights[cut], theirs[cut])


SUMMARIES = {
    **T5,
    "encoder_attention_type": "transient-global",
    "local_radius": 7,
    "global_block_size": 6,
}


def test_summaries_of_blocks_take_the_rest_in_float64(tmp_path: Path) -> None:
    """Guo et al. 2022, section 3.2: a summary is the normalised sum of a block's tokens."""
    model, inputs = load(tmp_path, "LongT5", SUMMARIES), batch(with_global=False)
    calls, output = follow(model, {**inputs, "decoder_input_ids": inputs["input_ids"][:, :4]})
    layers = model.encoder.block
    assert len(calls) == len(layers) == 2
    first = layers[0].layer[0].TransientGlobalSelfAttention  # its biases are all layers'
    for depth, call in enumerate(calls):
        outer = layers[depth].layer[0]
        for example, length in enumerate(LENGTHS):
            states = outer.layer_norm(output.encoder_hidden_states[depth][example, :length])
            with torch.inference_mode():
                expected = attend_with_summaries(outer.TransientGlobalSelfAttention, first, states)
            found = call.weights[example, :, :length, :length]
            assert (found - expected).abs().max() < 1e-5
            assert found.sum(-1).mean() < 0.95, "the summaries take a part"
        assert call.blocks is not None
        assert call.blocks.beside == "summaries of the text's blocks"
        theirs = read_neighbours(output.encoder_attentions[depth], None, max(LENGTHS))
        assert torch.equal(call.weights[0], theirs[0])


def attend_with_summaries(module: Any, first: Any, states: Tensor) -> Tensor:
    """Weights of an example's own tokens in float64, ``(head, query_token, key_token)``."""
    tokens, size = len(states), 6
    blocks = tokens // size
    of_block = (torch.arange(tokens) // size).clamp(max=blocks - 1)  # a rest joins the last one
    sums = torch.zeros(blocks, states.shape[1]).index_add(0, of_block, states)
    summaries = module.global_input_layer_norm(sums)

    def heads(layer: torch.nn.Linear, x: Tensor) -> Tensor:
        return (x.double() @ layer.weight.double().T).view(len(x), 4, -1).transpose(0, 1)

    def bias(table: torch.nn.Embedding, away: Tensor) -> Tensor:
        places = module._relative_position_bucket(
            away, True, T5["relative_attention_num_buckets"], T5["relative_attention_max_distance"]
        )
        return table(places).permute(2, 0, 1).double()

    query, place = heads(module.q, states), torch.arange(tokens)
    away = place - place[:, None]
    own = query @ heads(module.k, states).transpose(1, 2) + bias(
        first.relative_attention_bias, away
    )
    own = own.masked_fill(away.abs() > 7, -torch.inf)
    away = torch.arange(blocks) - of_block[:, None]
    other = query @ heads(module.k, summaries).transpose(1, 2)
    other = other + bias(first.global_relative_attention_bias, away)
    return torch.cat([own, other], -1).softmax(-1)[..., :tokens]


def test_blocks_beside_global_tokens_in_float64(tmp_path: Path) -> None:
    """Phang et al. 2022, section 3.2: what a row gives to tokens is a softmax over its block, which
    is shifted by half in every other layer."""
    model = load(tmp_path, "PegasusX", {**BART, "block_size": 8, "num_global_tokens": 4})
    inputs = batch(with_global=False)
    calls, output = follow(model, {**inputs, "decoder_input_ids": inputs["input_ids"][:, :4]})
    assert len(calls) == 3
    for depth, call in enumerate(calls):
        theirs = read_parted(output.encoder_attentions[depth], None, max(LENGTHS))
        whole = output.encoder_attentions[depth]["local"].sum(-1)
        assert (whole - 1).abs().max() < 1e-6
        for example, length in enumerate(LENGTHS):
            cut = (example, slice(None), slice(length), slice(length))
            block = (torch.arange(length) + 4 * (depth % 2)) // 8
            scores = call.query[cut[:3]].double() @ call.key[cut[:3]].double().transpose(1, 2)
            scores.masked_fill_(block[:, None] != block, -torch.inf)
            found = call.weights[cut].double()
            shares = found.sum(-1, keepdim=True)
            assert (scores.softmax(-1) - found / shares).abs().max() < 1e-5
            assert shares.mean() < 0.95, "the global tokens take a part"
            assert torch.equal(call.weights[cut], theirs[cut])
            assert call.mask is not None
            assert torch.equal(call.mask[example, 0, :length, :length] < 0, scores[0] == -torch.inf)


@pytest.mark.parametrize(("examples", "count", "rows", "columns"), [(2, 3, 4, 9), (1, 5, 1, 3)])
def test_blocks_are_spread_to_the_right(examples: int, count: int, rows: int, columns: int) -> None:
    blocks = torch.rand(examples, 2, count, rows, columns) + 1
    wide = spread(blocks, -1.0)
    assert wide.shape == (examples, 2, count * rows, columns + (count - 1) * rows)
    expected = torch.full_like(wide, -1.0)
    for block in range(count):
        for row in range(rows):
            left = block * rows
            line = expected[:, :, block * rows + row]
            line[:, :, left : left + columns] = blocks[:, :, block, row]
    assert torch.equal(wide, expected)


@pytest.mark.parametrize("equation", LAYOUTS)
def test_blocks_that_go_on_in_another_way_are_a_mismatch(equation: str) -> None:
    steps = Steps()
    operands = (torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2))
    steps.take("einsum", (equation, *operands), torch.zeros(1, 1, 4, 4))
    with pytest.raises(Mismatch, match="other steps than are known"):
        LAYOUTS[equation](steps, 4, False, True)
