"""What is packed equals the store's own encoders bit for bit, and what is unsound is refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch

from qkvault import (
    ARRAYS,
    THUMBNAIL_SIDE,
    InputError,
    Precision,
    Stack,
    VectorPrecision,
    decode_vectors,
    encode_attention,
    encode_vectors,
)
from qkvault.precision import pool_attention
from qkvault_extractor.batch import CACHED_WEIGHTS, Batch
from qkvault_extractor.batches import plan_batches
from qkvault_extractor.capture import AttentionCall
from qkvault_extractor.pack import Packer
from qkvault_extractor.probe import Probe
from qkvault_extractor.stacks import Site
from qkvault_extractor.thumbnails import LONGEST_EXACT, is_poolable, pool
from qkvault_extractor.vectors import stored_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

LAYERS, HEADS, KEY_HEADS, DIM = (2, 5), 4, 2, 8
STACK = Stack("decoder", LAYERS, HEADS, KEY_HEADS, DIM, DIM + 1, True, (1.0, 1.0))
PROBE = Probe((STACK,), tuple(Site("decoder", n, f"layers.{n}.attn") for n in LAYERS), 0.0)


def make_buffers(rows: int, side: int, precision: Precision) -> dict[str, NDArray[Any]]:
    codes = {"uint16": np.uint16, "uint8": np.uint8, "float16": np.float16, "float32": np.float32}
    vectors = np.float32 if precision == "float32" else np.float16
    small = min(side, 64)
    depth = len(LAYERS)
    return {
        "decoder/attention": np.zeros((rows, depth, HEADS, side, side), codes[precision]),
        "decoder/thumbnail": np.zeros((rows, depth, HEADS, small, small), np.uint8),
        "decoder/query": np.full((rows, depth, HEADS, side, DIM), np.nan, vectors),
        "decoder/key": np.full((rows, depth, KEY_HEADS, side, DIM), np.nan, vectors),
        "decoder/value": np.full((rows, depth, KEY_HEADS, side, DIM + 1), np.nan, vectors),
    }


def make_call(index: int, lengths: list[int], seed: int = 0) -> AttentionCall:
    """Random attention of one call; columns of padding get none, as masks see to."""
    generator = torch.Generator().manual_seed(seed + index)
    side = max(lengths)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    scores = 4 * draw(len(lengths), HEADS, side, side)
    for example, tokens in enumerate(lengths):
        scores[example, :, :, tokens:] = -torch.inf
    return AttentionCall(
        index=index,
        name=f"layers.{LAYERS[index]}.attn",
        module=torch.nn.Identity(),
        query=draw(len(lengths), side, HEADS, DIM).transpose(1, 2),
        key=draw(len(lengths), side, KEY_HEADS, DIM).transpose(1, 2),
        value=draw(len(lengths), KEY_HEADS, side, DIM + 1),
        attention=scores.softmax(-1),
        scaling=1.0,
        mask=None,
        terms={},
    )


def make_batch(lengths: list[int]) -> Batch:
    rows = np.arange(len(lengths))[::-1].copy()  # rows need not ascend
    return Batch(rows, np.array(lengths))


def pack(
    lengths: list[int],
    calls: list[AttentionCall],
    precision: Precision = "uint16",
    probe: Probe = PROBE,
) -> Any:
    buffers = make_buffers(len(lengths), max(lengths) + 3, precision)
    packer = Packer(probe, ARRAYS, precision, buffers)
    packer.start(make_batch(lengths))
    for call in calls:
        packer.take(call)
    packer.finish(None)
    arrays = {name.partition("/")[2]: array for name, array in buffers.items()}
    return SimpleNamespace(flaws=packer.flaws, **arrays)


def assert_nearest_root_codes(codes: Any, weights: Any) -> None:
    """Codes are the nearest, but that float32 roots and sums (of up to 25 weights) round too.

    Roots of some processors' vector libraries differ in their last bit from numpy's.
    """
    exact = 255.0 * np.sqrt(np.minimum(weights.astype(np.float64), 1.0))
    assert np.abs(codes - exact).max() <= 0.5 + 255 * 2.0**-21


@pytest.mark.parametrize("precision", ["uint16", "uint8", "float16", "float32"])
@pytest.mark.parametrize("lengths", [[1, 1, 3, 7, 7, 7], [64, 64, 65], [70, 100, 128, 129], [300]])
def test_codes_equal_the_stores_own(precision: Precision, lengths: list[int]) -> None:
    calls = [make_call(0, lengths), make_call(1, lengths)]
    kept = pack(lengths, calls, precision)
    batch = make_batch(lengths)
    for depth, call in enumerate(calls):
        for example, (row, n) in enumerate(zip(batch.rows, lengths, strict=True)):
            attention = call.attention[example, :, :n, :n].numpy()
            codes = kept.attention[row, depth, :, :n, :n]
            if precision == "uint8":
                assert_nearest_root_codes(codes, attention)
            else:
                assert np.array_equal(codes, encode_attention(attention, precision))
            t = min(n, THUMBNAIL_SIDE)
            thumbnail = kept.thumbnail[row, depth, :, :t, :t]
            assert_nearest_root_codes(thumbnail, pool_attention(attention))
            for name in ("query", "key", "value"):
                array = getattr(kept, name)
                kept_as = cast("VectorPrecision", array.dtype.name)
                vectors = encode_vectors(getattr(call, name)[example, :, :n].numpy(), kept_as)
                assert np.array_equal(array[row, depth, :, :n], vectors)


@pytest.mark.parametrize("size", [1e-30, 1.0, 3e4, 1e30])
def test_scaled_vectors_equal_the_stores_own(size: float) -> None:
    vectors = torch.randn((3, 4, 5, DIM), generator=torch.Generator().manual_seed(1)) * size
    vectors[0, 1, 2], vectors[1, 0, 0, 3], vectors[2, 3, 4, 1] = 0.0, torch.nan, -torch.inf
    found = stored_vectors(vectors, np.dtype(np.int16)).numpy()
    expected = encode_vectors(vectors.numpy(), "int16")
    assert np.array_equal(found[..., -1], expected[..., -1])
    assert np.array_equal(decode_vectors(found), decode_vectors(expected), equal_nan=True)
    assert np.isnan(decode_vectors(found)[1, 0, 0]).all()
    assert np.isnan(decode_vectors(found)[2, 3, 4]).all()


def test_nothing_is_written_beyond_an_examples_length() -> None:
    lengths = [2, 9, 9]
    kept = pack(lengths, [make_call(0, lengths), make_call(1, lengths)])
    for row, n in zip(make_batch(lengths).rows, lengths, strict=True):
        assert not kept.attention[row, :, :, n:].any()
        assert not kept.attention[row, :, :, :, n:].any()
        assert not kept.thumbnail[row, :, :, n:].any()
        assert np.isnan(kept.query[row, :, :, n:]).all()


@pytest.mark.parametrize("tokens", [65, 66, 90, 127, 128, 129, 191, 192, 250, 320, 447, 512])
def test_pooling_adds_in_numpys_order(tokens: int) -> None:
    assert tokens <= LONGEST_EXACT
    generator = torch.Generator().manual_seed(tokens)
    maps = torch.rand(2, 3, tokens, tokens, generator=generator).mul(6).softmax(-1)
    edges = np.arange(65) * tokens // 64
    sums = np.add.reduceat(maps.numpy(), edges[:-1], axis=-1)
    sums = np.add.reduceat(sums, edges[:-1], axis=-2)
    expected = sums / np.diff(edges).astype(np.float32)[:, None]
    assert np.array_equal(pool(maps).numpy(), expected)


def test_only_lengths_that_numpy_sums_alike_are_pooled() -> None:
    cpu, other = torch.device("cpu"), torch.device("meta")
    assert not is_poolable(64, cpu)
    assert is_poolable(65, cpu)
    assert not is_poolable(LONGEST_EXACT + 1, other)


def test_half_precision_models_may_round_above_one() -> None:
    lengths = [5, 5]
    above = torch.zeros(2, HEADS, 5, 5, dtype=torch.bfloat16)
    above[..., 0] = 1.0078125
    kept = pack(lengths, [replace(make_call(i, lengths), attention=above) for i in (0, 1)])
    assert (kept.attention[:, 0, :, :5, 0] == 65535).all()


def reasons(kept: Any) -> dict[int, str]:
    return {row: flaw.reason for row, flaw in kept.flaws.items()}


def test_attention_that_is_not_finite_is_noted_with_row_and_layer() -> None:
    lengths = [4, 6, 6]
    calls = [make_call(0, lengths), make_call(1, lengths)]
    calls[1].attention[2, 1, 3] = torch.nan
    assert reasons(pack(lengths, calls)) == {0: "the attention of layer 5 is not finite"}


def test_all_examples_with_a_flaw_are_noted() -> None:
    lengths = [4, 6, 6]
    calls = [make_call(0, lengths), make_call(1, lengths)]
    calls[0].attention[1, 0, 2] *= 0.9
    calls[1].attention[1, 1, 3] = torch.nan  # the first flaw is told
    calls[1].attention[0] = torch.nan
    assert reasons(pack(lengths, calls)) == {
        1: "the attention of layer 2 sums to 1 only within 1.0e-01",
        2: "the attention of layer 5 is not finite",
    }


def test_rows_may_leave_all_their_weight_to_what_is_no_token() -> None:
    beside = replace(PROBE, stacks=(replace(STACK, beside="summaries of blocks"),))
    lengths = [4, 6]
    calls = [make_call(0, lengths), make_call(1, lengths)]
    calls[1].weights[1, 2, 0] = 0.0
    assert not pack(lengths, calls, probe=beside).attention[0, 1, 2, 0].any()  # rows descend
    calls[0].weights[1, 0, 2] *= 1.1
    found = reasons(pack(lengths, calls, probe=beside))
    assert found == {0: "the attention of layer 2 sums to 1 only within 1.0e-01"}


@pytest.mark.parametrize(("value", "fits"), [(65504.0, True), (70000.0, False), (torch.inf, False)])
def test_values_that_float16_cannot_hold(value: float, fits: bool) -> None:
    lengths = [4, 6]
    calls = [make_call(0, lengths), make_call(1, lengths)]
    calls[1].key[1, 1, 5, 0] = value
    if fits:
        assert not pack(lengths, calls).flaws
        assert pack(lengths, calls).key[0, 1, 1, 5, 0] == 65504.0
    else:
        kept_as = pack(lengths, calls).key.dtype
        assert reasons(pack(lengths, calls)) == {0: f"a key of layer 5 is not finite as {kept_as}"}


def test_float32_holds_large_values() -> None:
    calls = [make_call(0, [4]), make_call(1, [4])]
    calls[0].query[0, 0, 0, 0] = 1e30
    assert pack([4], calls, "float32").query[0, 0, 0, 0, 0] == np.float32(1e30)


def test_what_padding_holds_does_not_matter() -> None:
    lengths = [4, 6]
    calls = [make_call(0, lengths), make_call(1, lengths)]
    calls[0].value[0, :, 4:] = torch.nan
    calls[0].attention[0, :, 4:] = 0.0
    pack(lengths, calls)


def test_a_missing_layer_is_noticed() -> None:
    with pytest.raises(InputError, match="1 of 2 attention layers were captured"):
        pack([4], [make_call(0, [4])])


def test_another_layer_than_probed_is_noticed() -> None:
    call = replace(make_call(0, [4]), name="layers.9.attn")
    with pytest.raises(InputError, match=r"called attention in layers\.9\.attn where"):
        pack([4], [call])


@pytest.mark.parametrize("budget", [1, 64, 100, 1000, 10**6])
def test_batches_hold_all_examples_once_within_the_budget(budget: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 200).astype(np.int32)
    batches = plan_batches(lengths, budget)
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    for batch in batches:
        own = lengths[batch]
        assert (np.diff(own) >= 0).all()
        assert len(batch) == 1 or len(batch) * own.max() <= budget


def test_examples_of_unequal_kinds_share_no_batch() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(5, 9, 60).astype(np.int32)
    kinds = random.integers(0, 3, 60)
    batches = plan_batches(lengths, 64, kinds)
    assert sorted(np.concatenate(batches).tolist()) == list(range(60))
    assert all(len(set(kinds[batch].tolist())) == 1 for batch in batches)
    assert any(len(batch) > 2 for batch in batches)


def test_batches_of_one_bucket_need_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(57, 65, 400).astype(np.int32)
    batches = plan_batches(lengths, 1024)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded <= 1.005 * lengths.sum()
    assert len(batches) <= 1.5 * lengths.sum() / 1024


def test_runs_share_a_length_and_fit_a_cache() -> None:
    lengths = np.array([3] * 5 + [60] * 50)
    batch = Batch(np.arange(55), lengths)
    runs = batch.runs(heads=12)
    assert [run for run in runs if run[2] == 3] == [(0, 5, 3, 3)]
    assert sum(stop - start for start, stop, *_ in runs) == 55
    assert all((stop - start) * 12 * n * m <= CACHED_WEIGHTS for start, stop, n, m in runs)


def test_targets_are_padded_little_whatever_their_length() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(57, 65, 300).astype(np.int32)
    targets = random.integers(1, 120, 300).astype(np.int32)
    batches = plan_batches(lengths, 1024, None, targets)
    assert sorted(np.concatenate(batches).tolist()) == list(range(300))
    sides = [(len(b), int(lengths[b].max()), int(targets[b].max())) for b in batches]
    assert all(n == 1 or n * (source + target) <= 1024 for n, source, target in sides)
    assert sum(n * target for n, _, target in sides) <= 1.05 * targets.sum()
    assert sum(n * source for n, source, _ in sides) <= 1.12 * lengths.sum()
