"""The arithmetic of buckets, chunks and units, over many shapes of model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qkvault import PRECISIONS, Precision, Stack, VaultSpec
from qkvault.axes import Lengths, bucket_length
from qkvault.chunks import MIB, group_name, plan_bucket
from qkvault.metadata import array_document, parse_array

MODELS = {
    "minilm": (6, 12, 12, 32),
    "bert-base": (12, 12, 12, 64),
    "bert-large": (24, 16, 16, 64),
    "gpt2-xl": (48, 25, 25, 64),
    "llama-8b": (32, 32, 8, 128),
    "tiny": (1, 1, 1, 1),
}


def spec_of(layers: int, heads: int, key_heads: int, width: int, precision: Precision) -> VaultSpec:
    stack = Stack(
        name="encoder",
        layers=tuple(range(layers)),
        heads=heads,
        key_heads=key_heads,
        head_dim=width,
        value_dim=width,
        causal=False,
        scaling=(1.0,) * layers,
    )
    return VaultSpec(
        stacks=(stack,),
        arrays=("attention", "query", "key", "value"),
        precision=precision,
        logits=3,
        label_names=(),
        identity={},
    )


def test_buckets_hold_their_lengths_with_little_padding() -> None:
    before = 0
    for tokens in range(1, 9000):
        length = bucket_length(tokens)
        assert length >= max(tokens, before)
        assert length - tokens < (8 if tokens <= 128 else max(16, tokens / 8))
        assert bucket_length(length) == length
        before = length
    assert group_name(64) == "b0064"
    assert group_name(16384) == "b16384"
    with pytest.raises(ValueError, match="at least one token"):
        bucket_length(0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("length", [8, 56, 128, 512, 2048])
@pytest.mark.parametrize("rows", [1, 20, 5000])
def test_layouts_keep_their_bounds(
    model: str, precision: Precision, length: int, rows: int
) -> None:
    spec = spec_of(*MODELS[model], precision)
    plans = plan_bucket(spec, Lengths(length), rows, True)
    assert len({plan.shard[0] for plan in plans}) == 1
    per_unit = plans[0].shard[0]
    unit_bytes = sum(plan.row_bytes for plan in plans) * per_unit
    assert per_unit == 1 or unit_bytes <= 128 * MIB
    assert per_unit < 2 * rows
    for plan in plans:
        meta = parse_array(array_document(plan), plan.path, plan.path)
        assert meta.shape == (rows, *plan.shard[1:])
        item = meta.dtype.itemsize
        chunk_bytes = item
        for size in meta.chunk:
            chunk_bytes *= size
        name = plan.path.rpartition("/")[2]
        if name == "attention":
            assert chunk_bytes <= MIB
            assert meta.chunk[0] == 1
            assert meta.chunk[1] == 1 or chunk_bytes < 2 * 32 * 1024 * meta.chunk[1]
        elif name == "thumbnail":
            assert chunk_bytes <= 4 * MIB
            assert meta.chunk[2:] == meta.shape[2:]
        elif name != "logits":
            assert meta.chunk[1:3] == (1, 1)
            assert chunk_bytes <= 128 * 1024 or meta.chunk[0] == 1
        if per_unit > 1 and name != "logits":
            assert meta.chunks_per_shard <= 4096


def test_one_head_s_vectors_of_several_examples_share_a_chunk() -> None:
    spec = spec_of(12, 12, 12, 64, "uint16")
    plans = {plan.path: plan for plan in plan_bucket(spec, Lengths(64), 4000, True)}
    assert plans["b0064/encoder/query"].chunk == (16, 1, 1, 64, 64)
    assert plans["b0064/encoder/attention"].chunk == (1, 1, 12, 64, 64)
    assert plans["b0064/encoder/attention"].shard[0] % 16 == 0
    small = {plan.path: plan for plan in plan_bucket(spec, Lengths(8), 4000, True)}
    assert small["b0008/encoder/attention"].chunk[1] > 1


def test_what_is_not_kept_is_not_planned() -> None:
    spec = replace(spec_of(2, 2, 2, 4, "uint16"), arrays=("query",), logits=0)
    assert [plan.path for plan in plan_bucket(spec, Lengths(8), 3, True)] == ["b0008/encoder/query"]
