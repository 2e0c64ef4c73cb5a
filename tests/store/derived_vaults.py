"""Small vaults whose attention follows from queries and keys, with recipes and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import qkvault
from qkvault import METRICS, Recipe, Stack, VaultSpec, head_metrics, token_roles
from vaults import make_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from qkvault import AttentionSource, Precision, UnitBuffer

HEADS, KEY_HEADS, DIM = 4, 2, 8


def make_derived_vault(
    path: Path,
    recipes: Sequence[Recipe] = (Recipe(), Recipe()),
    *,
    lengths: Sequence[int] = (5, 9, 12, 70, 20, 9),
    attention: AttentionSource = "derived",
    arrays: Sequence[Any] = ("query", "key"),
    precision: Precision = "uint16",
    metrics: Sequence[str] = METRICS,
    finish: bool = True,
    beside: str | None = None,
    share: Sequence[float] = (1.0,) * HEADS,
) -> Path:
    """Write a vault with one layer per recipe; layers are numbered 0, 2, 4...

    Of each row's weight only its head's ``share`` goes to tokens, the rest to what ``beside`` says.
    """
    spec = VaultSpec(
        stacks=(
            Stack(
                name="encoder",
                layers=tuple(2 * i for i in range(len(recipes))),
                heads=HEADS,
                key_heads=KEY_HEADS,
                head_dim=DIM,
                value_dim=DIM,
                causal=False,
                scaling=tuple(0.25 + 0.125 * i for i in range(len(recipes))),
                recipe=tuple(recipes),
                beside=beside,
            ),
        ),
        arrays=tuple(arrays),
        precision=precision,
        logits=0,
        label_names=(),
        identity={"made": "derived"},
        attention=attention,
        derived_error=2.5e-4 if attention == "derived" else None,
        metrics=tuple(metrics),
    )
    random = np.random.default_rng(5)
    records = [make_record(i, n, random=random) for i, n in enumerate(lengths)]
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            for row, record in enumerate(writer.records(unit)):
                fill_row(buffer, row, spec, record, int(unit.examples[row]), share)
            writer.commit(buffer)
            if not finish:
                return path
        writer.finish()
    return path


def fill_row(
    buffer: UnitBuffer,
    row: int,
    spec: VaultSpec,
    record: qkvault.Record,
    example: int,
    share: Sequence[float] = (1.0,) * HEADS,
) -> None:
    """Write one example's arrays, as far as the vault keeps them."""
    stack, n = spec.stacks[0], len(record.tokens)
    query, key = vectors(example, n, stack, spec.precision)
    weights = np.array(share, np.float32)[:, None, None] * attention_of(query, key, stack)
    thumbnail = qkvault.make_thumbnail(weights)
    side = thumbnail.shape[-1]
    made: dict[str, NDArray[Any]] = {"query": query, "key": key, "value": key}
    for name, values in made.items():
        if f"encoder/{name}" in buffer.arrays:
            buffer.arrays[f"encoder/{name}"][row, :, :, :n] = values
    if "encoder/attention" in buffer.arrays:
        codes = qkvault.encode_attention(weights, spec.precision)
        buffer.arrays["encoder/attention"][row, :, :, :n, :n] = codes
    if "encoder/thumbnail" in buffer.arrays:
        buffer.arrays["encoder/thumbnail"][row, :, :, :side, :side] = thumbnail
    if spec.metrics:
        for place, recipe in enumerate(stack.recipe):
            found = head_metrics(weights[place], token_roles(record), recipe.mask)
            buffer.arrays["encoder/metrics"][row, place] = found


def vectors(
    example: int, tokens: int, stack: Stack, precision: Precision
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Queries and keys as stored, ``(layer, head, token, dim)``."""
    random = np.random.default_rng((example, 11))
    kind = np.float32 if precision == "float32" else np.float16
    layers = len(stack.layers)
    query = random.normal(0, 1.5, (layers, stack.heads, tokens, DIM)).astype(kind)
    return query, random.normal(0, 1.5, (layers, stack.key_heads, tokens, DIM)).astype(kind)


def scores_of(query: NDArray[Any], key: NDArray[Any], stack: Stack) -> NDArray[np.float64]:
    """Scores in float64, by the recipes' words: ``(layer, head, query_token, key_token)``."""
    shared = stack.heads // stack.key_heads
    repeated = np.repeat(key.astype(np.float64), shared, axis=1)
    scores = query.astype(np.float64) @ repeated.swapaxes(-1, -2)
    scores *= np.array(stack.scaling)[:, None, None, None]
    tokens = np.arange(scores.shape[-1])
    away = tokens[None, :] - tokens[:, None]  # key - query
    for layer, recipe in enumerate(stack.recipe):
        mask = recipe.mask
        if recipe.softcap is not None:
            scores[layer] = recipe.softcap * np.tanh(scores[layer] / recipe.softcap)
        if recipe.slopes is not None:
            scores[layer] += np.array(recipe.slopes)[:, None, None] * away
        if recipe.bias is not None:
            steps = np.searchsorted(recipe.bias.starts, away, side="right") - 1
            scores[layer] += np.array(recipe.bias.values)[:, np.maximum(steps, 0)]
        seen = np.ones(away.shape, bool)
        if mask.causal:
            seen &= away <= 0
        if mask.window is not None:
            seen &= np.abs(away) <= mask.window
        if mask.chunk is not None:
            seen &= tokens[:, None] // mask.chunk == tokens // mask.chunk
        scores[layer, :, ~seen] = -np.inf
    return scores


def attention_of(query: NDArray[Any], key: NDArray[Any], stack: Stack) -> NDArray[np.float32]:
    """Attention of those scores, rounded to float32."""
    weights = np.exp(scores_of(query, key, stack))
    total = weights.sum(-1, keepdims=True)
    for layer, recipe in enumerate(stack.recipe):
        if recipe.sinks is not None and recipe.sinks.mode == "softmax":
            total[layer] += np.exp(np.array(recipe.sinks.values))[:, None, None]
    return (weights / total).astype(np.float32)
