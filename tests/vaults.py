"""Small vaults for tests: random queries and keys, and the attention that follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import qkvault
from qkvault import (
    ArrayName,
    Lengths,
    Precision,
    Record,
    Stack,
    Target,
    UnitBuffer,
    VaultSpec,
    token_axes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS = (
    *("the", "cat", "sat", "lay", "on", "a", "rug", "mat", "while", "rain", "fell", "and"),
    *("nobody", "in", "old", "town", "minded", "it", "much", "because", "music", "was"),
    *("playing", "again", "near", "river"),
)


def make_vault(
    path: Path,
    *,
    examples: int = 12,
    layers: int | Sequence[int] = 2,
    heads: int = 4,
    key_heads: int = 2,
    head_dim: int = 8,
    precision: Precision = "uint16",
    logits: int = 2,
    arrays: Sequence[ArrayName] = ("attention", "query", "key", "value"),
    lengths: Sequence[int] | None = None,
    pairs: bool = True,
    texts: Sequence[tuple[str, ...]] | None = None,
    causal: bool = False,
    compress: bool = True,
    finish: bool = True,
    seed: int = 0,
    metrics: bool = False,
    model_seed: int | None = None,
) -> Path:
    """Write a small vault and return its path.

    Attention is softmax(scaling * q.k) of the stored (already rounded) queries and keys, so that a
    reader can check one against the other.

    Args:
        path: where; must not exist.
        layers: how many, or their numbers.
        lengths: tokens of each example; random between 5 and 30 if not given.
        pairs: two texts per example, with segments 0 and 1.
        texts: the texts themselves, cycled over; random words if not given.
        finish: False leaves the vault without its manifest.
        metrics: keep head metrics, of the attention as computed.
        model_seed: makes the arrays and outputs; ``seed`` if not given, which makes the texts.
    """
    random = np.random.default_rng(seed)
    made_by = seed if model_seed is None else model_seed
    numbers = tuple(range(layers)) if isinstance(layers, int) else tuple(layers)
    spec = VaultSpec(
        stacks=(
            Stack(
                name="decoder" if causal else "encoder",
                layers=numbers,
                heads=heads,
                key_heads=key_heads,
                head_dim=head_dim,
                value_dim=head_dim,
                causal=causal,
                scaling=(head_dim**-0.5,) * len(numbers),
            ),
        ),
        arrays=tuple(arrays),
        precision=precision,
        logits=logits,
        label_names=("different", "same") if logits == 2 else (),
        identity={"model": "random", "seed": made_by},
        provenance={"model": "random", "library": "numpy"},
        metrics=qkvault.METRICS if metrics else (),
    )
    if lengths is None:
        lengths = [int(n) for n in random.integers(5, 31, examples)]
    records = [
        make_record(index, length, pairs=pairs, texts=texts, random=random)
        for index, length in enumerate(lengths)
    ]
    with qkvault.create(path, spec, records, compress=compress) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, spec, made_by)
            if metrics:
                measure(buffer, spec, writer.records(unit), made_by)
            writer.commit(buffer)
        if finish:
            writer.finish()
    return path


TWO_SEQUENCES = (
    Stack("encoder", (0, 1, 2), 4, 4, 8, 8, False, (8**-0.5,) * 3),
    Stack("decoder", (0, 1), 2, 2, 8, 8, True, (8**-0.5,) * 2),
    Stack("cross", (0, 1), 2, 1, 8, 4, False, (8**-0.5,) * 2),
)
"""Stacks of an encoder-decoder, of unequal depth, heads and widths."""


def make_encoder_decoder_vault(
    path: Path,
    *,
    lengths: Sequence[tuple[int, int]] = ((7, 5), (12, 3), (9, 20), (5, 8), (16, 70), (70, 9)),
    stacks: Sequence[Stack] = TWO_SEQUENCES,
    precision: Precision = "uint16",
    arrays: Sequence[ArrayName] = ("attention", "query", "key", "value"),
    metrics: bool = True,
    logits: int = 0,
    finish: bool = True,
    seed: int = 0,
) -> Path:
    """Write a small vault of an encoder-decoder and return its path; as :func:`make_vault`.

    Args:
        lengths: tokens of each example's source and target.
    """
    spec = VaultSpec(
        stacks=tuple(stacks),
        arrays=tuple(arrays),
        precision=precision,
        logits=logits,
        label_names=(),
        identity={"model": "random", "seed": seed},
        provenance={"model": "random", "library": "numpy"},
        metrics=qkvault.METRICS if metrics else (),
        target=True,
    )
    random = np.random.default_rng(seed)
    records = [
        replace(make_record(i, source, pairs=False, random=random), target=make_target(target, i))
        for i, (source, target) in enumerate(lengths)
    ]
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            fill(buffer, spec, seed)
            if metrics:
                measure(buffer, spec, writer.records(unit), seed)
            writer.commit(buffer)
        if finish:
            writer.finish()
    return path


def make_target(length: int, index: int = 0) -> Target:
    """What a decoder reads: </s>, which starts it, then words."""
    words = [f"Wort{(index + place) % 23}" for place in range(length - 1)]
    ends = [sum(len(word) + 1 for word in words[: place + 1]) - 1 for place in range(len(words))]
    return Target(
        text=" ".join(words),
        tokens=("</s>", *words),
        token_ids=(2, *(100 + (index + place) % 23 for place in range(length - 1))),
        special=(1, *(0 for _ in words)),
        offsets=((0, 0), *((end - len(w), end) for w, end in zip(words, ends, strict=True))),
        words=(-1, *range(len(words))),
    )


def make_record(
    index: int,
    length: int,
    *,
    pairs: bool = True,
    texts: Sequence[tuple[str, ...]] | None = None,
    random: np.random.Generator,
) -> Record:
    """A record of ``length`` tokens: [CLS] words [SEP] words [SEP], as far as the length allows."""
    words = [WORDS[i] for i in random.integers(0, len(WORDS), length)]
    special = [0] * length
    segments = [0] * length
    tokens = list(words)
    tokens[0], special[0] = "[CLS]", 1
    if length > 1:
        tokens[-1], special[-1] = "[SEP]", 1
    if pairs and length > 4:
        middle = length // 2
        tokens[middle], special[middle] = "[SEP]", 1
        segments[middle + 1 :] = [1] * (length - middle - 1)
    parts = [
        [t for t, s, g in zip(tokens, special, segments, strict=True) if not s and g == side]
        for side in ((0, 1) if pairs else (0,))
    ]
    text = tuple(" ".join(part) for part in parts)
    if texts is not None:
        text = tuple(texts[index % len(texts)])
    return Record(
        id=f"r{index:05d}",
        text=text,
        tokens=tuple(tokens),
        token_ids=tuple(WORDS.index(t) + 5 if t in WORDS else 1 for t in tokens),
        segments=tuple(segments),
        special=tuple(special),
        offsets=_offsets(tokens, special, segments),
        words=_word_numbers(special, segments),
        label=index % 2,
        columns={"quality": index / 10, "source": "made" if index % 3 else "found"},
    )


def _offsets(
    tokens: list[str], special: list[int], segments: list[int]
) -> tuple[tuple[int, int], ...]:
    at = {0: 0, 1: 0}
    offsets = []
    for token, is_special, segment in zip(tokens, special, segments, strict=True):
        if is_special:
            offsets.append((0, 0))
            continue
        offsets.append((at[segment], at[segment] + len(token)))
        at[segment] += len(token) + 1
    return tuple(offsets)


def _word_numbers(special: list[int], segments: list[int]) -> tuple[int, ...]:
    next_word = {0: 0, 1: 0}
    words = []
    for is_special, segment in zip(special, segments, strict=True):
        words.append(-1 if is_special else next_word[segment])
        next_word[segment] += not is_special
    return tuple(words)


def fill(buffer: UnitBuffer, spec: VaultSpec, seed: int = 0) -> None:
    """Fill a unit with what :func:`forward` gives for each of its examples."""
    for row, example, lengths in own_lengths(buffer):
        for stack in spec.stacks:
            made = forward(example, lengths.sides(spec, stack.name), stack, spec.precision, seed)
            thumbnail = qkvault.make_thumbnail(made["attention"])
            made["attention"] = qkvault.encode_attention(made["attention"], spec.precision)
            for name, values in {**made, "thumbnail": thumbnail}.items():
                path = f"{stack.name}/{name}"
                if path in buffer.arrays:
                    tokens, width = values.shape[2:]
                    buffer.arrays[path][row, :, :, :tokens, :width] = values
        if spec.logits:
            buffer.arrays["logits"][row] = outputs(example, spec.logits, seed)


def own_lengths(buffer: UnitBuffer) -> Iterator[tuple[int, int, Lengths]]:
    """Row, example and lengths of each example of a unit."""
    unit = buffer.unit
    columns = (unit.examples, unit.lengths, unit.target_lengths)
    for row, (example, *lengths) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        yield row, example, Lengths(*lengths)


def measure(buffer: UnitBuffer, spec: VaultSpec, records: Sequence[Record], seed: int = 0) -> None:
    """Fill in the head metrics of what :func:`fill` filled in."""
    for row, example, lengths in own_lengths(buffer):
        for stack in spec.stacks:
            made = forward(example, lengths.sides(spec, stack.name), stack, spec.precision, seed)
            record = records[row]
            roles = [
                qkvault.token_roles(record if axis == "source" else known(record.target))
                for axis in token_axes(spec, stack.name)
            ]
            measured = qkvault.head_metrics(
                made["attention"],
                roles[0],
                qkvault.Mask(causal=stack.causal),
                roles[1] if stack.name == "cross" else None,
            )
            buffer.arrays[f"{stack.name}/metrics"][row] = measured


def known(target: Target | None) -> Target:
    """A target that is there."""
    assert target is not None
    return target


def forward(
    example: int,
    length: int | tuple[int, int],
    stack: Stack,
    precision: Precision,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Random query, key and value as stored, and the float32 attention of those.

    Args:
        length: tokens, or query tokens and key tokens.
    """
    queries, keys = (length, length) if isinstance(length, int) else length
    random = np.random.default_rng((seed, example))
    kind = np.float32 if precision == "float32" else np.float16
    layers = len(stack.layers)

    def vectors(heads: int, tokens: int, width: int) -> NDArray[Any]:
        return random.normal(0, 1.5, (layers, heads, tokens, width)).astype(kind)

    query = vectors(stack.heads, queries, stack.head_dim)
    key = vectors(stack.key_heads, keys, stack.head_dim)
    value = vectors(stack.key_heads, keys, stack.value_dim)
    for name, values in (("query", query), ("key", key), ("value", value)):
        for layer, width in zip(values, stack.widths_of(name), strict=False):
            layer[..., width:] = 0
    repeated = np.repeat(key, stack.heads // stack.key_heads, axis=1).astype(np.float64)
    scores = query.astype(np.float64) @ repeated.swapaxes(-1, -2)  # (layer, head, query, key)
    scores *= np.array(stack.scaling)[:, None, None, None]
    if stack.causal:
        scores = np.where(np.tri(queries, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    attention = (weights / weights.sum(-1, keepdims=True)).astype(np.float32)
    return {"attention": attention, "query": query, "key": key, "value": value}


def outputs(example: int, logits: int, seed: int = 0) -> NDArray[np.float32]:
    """Random outputs of a classification head, float32 ``(class,)``."""
    return np.random.default_rng((seed, example, 7)).normal(size=logits).astype(np.float32)
