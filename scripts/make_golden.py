"""Write the small vaults that stand for a version of the format, with what must be read from them.

    python scripts/make_golden.py tests/golden/v2.0
    python scripts/make_golden.py tests/golden/v2.0 widths

Each vault is written once per version and never again: tests read it back for ever. Beside each
stands ``NAME.npz``, every value that a reader must get. Nothing is random.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import qkvault
from qkvault import Lengths, Mask, Recipe, Record, Stack, Target, VaultSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENCODER = Stack(
    name="encoder",
    layers=(0, 1),
    heads=2,
    key_heads=2,
    head_dim=4,
    value_dim=4,
    causal=False,
    scaling=(0.5, 0.5),
)
DECODER = replace(
    ENCODER,
    name="decoder",
    layers=(1, 3, 4),
    heads=4,
    key_heads=2,
    causal=True,
    scaling=(0.5, 0.25, 0.5),
    recipe=(),
)
RECIPED = replace(
    DECODER,
    recipe=(
        Recipe(Mask(causal=True)),
        Recipe(Mask(causal=True, window=3), softcap=5.0),
        Recipe(Mask(causal=True), slopes=(0.5, 0.25, 0.125, 0.0625)),
    ),
)
GROUPED = replace(DECODER, layers=(1, 3), heads=2, key_heads=1, scaling=(0.5, 0.25), recipe=())
BASE = VaultSpec(
    stacks=(ENCODER,),
    arrays=("attention", "query", "key", "value"),
    precision="uint16",
    logits=2,
    label_names=("different", "same"),
    identity={"model": "made", "options": {"max_length": 128}},
    provenance={"made_by": "scripts/make_golden.py"},
)
SHARING = replace(
    ENCODER,
    recipe=(Recipe(unknown="part of the attention goes to summaries of blocks"),) * 2,
    beside="summaries of blocks",
)
CROSS = replace(GROUPED, name="cross", causal=False, value_dim=2, recipe=())
VAULTS: dict[str, tuple[VaultSpec, tuple[int | tuple[int, int], ...], bool]] = {
    "pair-uint16": (replace(BASE, metrics=("entropy", "first")), (5, 7, 12), True),
    "gqa-uint8": (
        replace(BASE, stacks=(GROUPED,), precision="uint8", logits=0, label_names=()),
        (6, 70),
        True,
    ),
    "float16": (replace(BASE, precision="float16", logits=1, label_names=()), (5, 3), True),
    "float32-plain": (replace(BASE, precision="float32"), (5, 3), False),
    "derived": (
        replace(
            BASE,
            stacks=(RECIPED,),
            arrays=("query", "key"),
            attention="derived",
            derived_error=1e-3,
            logits=0,
            label_names=(),
        ),
        (9, 4),
        True,
    ),
    "derived-int16": (
        replace(
            BASE,
            stacks=(DECODER,),
            arrays=("query", "key", "value"),
            attention="derived",
            derived_error=1e-5,
            vectors={"query": "int16", "key": "int16"},
            logits=0,
            label_names=(),
            metrics=("entropy",),
        ),
        (9, 4, 70),
        True,
    ),
    "encoder-decoder": (
        replace(
            BASE,
            stacks=(ENCODER, GROUPED, CROSS),
            logits=0,
            label_names=(),
            metrics=("entropy", "self"),
            target=True,
        ),
        ((9, 5), (4, 12), (70, 3), (8, 66)),
        True,
    ),
    "widths": (
        replace(
            BASE,
            stacks=(replace(DECODER, value_dim=3, widths=((4, 3), (2, 3), (4, 1))),),
            vectors={"value": "int16"},
            logits=0,
            label_names=(),
        ),
        (9, 4),
        True,
    ),
    "beside": (replace(BASE, stacks=(SHARING,), logits=0, label_names=()), (5, 70), True),
}
SINCE = {"beside": "2.0", "widths": "2.0"}
"""Versions that have a vault of a name; the first one, where it is not named."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="which vaults; all if none is named")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args().names or VAULTS:
        path = write(name, folder / f"{name}.vault")
        np.savez_compressed(folder / f"{name}.npz", **read(path))
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        print(f"{path}: {size / 1000:.0f} kB")


def write(name: str, path: Path) -> Path:
    """Write one of :data:`VAULTS`."""
    spec, lengths, compress = VAULTS[name]
    records = [make_record(index, length) for index, length in enumerate(lengths)]
    columns = ("examples", "lengths", "target_lengths")
    rejects = [{"number": 9, "reason": "empty text"}] if name == "pair-uint16" else []
    with qkvault.create(path, spec, records, rejects=rejects, compress=compress) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            lines = zip(*(getattr(unit, name).tolist() for name in columns), strict=True)
            for row, (example, *tokens) in enumerate(lines):
                fill_row(buffer.arrays, row, example, Lengths(*tokens), spec)
            writer.commit(buffer)
        writer.finish()
    return path


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Every value of a vault: per array those of all examples in one row, and the texts as JSON."""
    values: dict[str, list[NDArray[Any]]] = {}
    documents = []
    with qkvault.open(path) as vault:
        spec = vault.spec
        kept: set[str] = {*spec.arrays, "attention", "thumbnail"}
        for e in vault:
            for stack in e.stacks:
                prefix, view = f"{stack} " * spec.target, e.stack(stack)
                for name in sorted(kept):
                    values.setdefault(prefix + name, []).append(getattr(view, name)[:, :])
                for name in spec.metrics:
                    found = view.metrics[name]
                    values.setdefault(f"{prefix}metric {name}", []).append(found)
            for name in ("token_ids", "segments", "special", "offsets", "words"):
                values.setdefault(name, []).append(getattr(e, name))
            if e.logits is not None:
                values.setdefault("logits", []).append(e.logits)
            texts = {"id": e.id, "text": e.text, "tokens": e.tokens, "columns": e.columns}
            more = {} if e.target is None else {"target": asdict(e.target)}
            documents.append({**texts, "label": e.label, "prediction": e.prediction, **more})
    text = json.dumps(documents, sort_keys=True)
    flat = {name: np.concatenate([v.ravel() for v in parts]) for name, parts in values.items()}
    return {**flat, "documents": np.array(text)}


def make_record(index: int, lengths: int | tuple[int, int]) -> Record:
    """A pair of texts with marks that a careless reader would spoil, and a target if asked for."""
    if isinstance(lengths, tuple):
        return replace(make_record(index, lengths[0]), target=make_target(lengths[1]))
    words = ("café", "naïve", "日本", "<b>", "\u202eabc", "it's")
    length = lengths
    inner = [words[(index + i) % len(words)] for i in range(length - 2)]
    ends = [sum(len(word) + 1 for word in inner[: i + 1]) - 1 for i in range(len(inner))]
    return Record(
        id=f"example {index} é",
        text=(" ".join(inner), "second"),
        tokens=("[CLS]", *inner, "[SEP]"),
        token_ids=(101, *(1000 + i for i in range(len(inner))), 102),
        segments=(*(0 for _ in range(length - 1)), 1),
        special=(1, *(0 for _ in inner), 1),
        offsets=((0, 0), *((e - len(w), e) for w, e in zip(inner, ends, strict=True)), (0, 0)),
        words=(-1, *range(len(inner)), -1),
        label=(None, 1, "text")[index % 3],
        columns={"score": 0.1 * index, "note": None if index else "first", "list": [1, [2]]},
    )


def make_target(length: int) -> Target:
    """What a decoder reads: a token that starts it, and words."""
    words = ["ß", "日本", "</s>", "x"] * length
    spelled = words[: length - 1]
    ends = [sum(len(word) + 1 for word in spelled[: i + 1]) - 1 for i in range(len(spelled))]
    return Target(
        text=" ".join(spelled),
        tokens=("<s>", *spelled),
        token_ids=(0, *range(5, length + 4)),
        special=(1, *(0 for _ in spelled)),
        offsets=((0, 0), *((e - len(w), e) for w, e in zip(spelled, ends, strict=True))),
        words=(-1, *range(len(spelled))),
    )


def fill_row(
    arrays: Mapping[str, NDArray[Any]], row: int, example: int, lengths: Lengths, spec: VaultSpec
) -> None:
    """Fill one row of a unit with waves, and the attention that follows from them."""
    for number, stack in enumerate(spec.stacks):
        made = make_arrays(stack, example + 10 * number, lengths.sides(spec, stack.name), spec)
        for name, values in made.items():
            if f"{stack.name}/{name}" in arrays:
                target = arrays[f"{stack.name}/{name}"]
                target[(row, *(slice(size) for size in values.shape))] = values
    if spec.logits:
        arrays["logits"][row] = wave((spec.logits,), example + 0.4)


def make_arrays(
    stack: Stack, phase: int, sides: tuple[int, int], spec: VaultSpec
) -> dict[str, NDArray[Any]]:
    """What one example's arrays of a stack hold, as stored."""
    layers, (queries, keys) = len(stack.layers), sides
    made = {
        "query": wave((layers, stack.heads, queries, stack.head_dim), phase + 0.1),
        "key": wave((layers, stack.key_heads, keys, stack.head_dim), phase + 0.2),
        "value": wave((layers, stack.key_heads, keys, stack.value_dim), phase + 0.3),
    }
    for name, values in made.items():
        for layer, width in zip(values, stack.widths_of(name), strict=False):
            layer[..., width:] = 0
    attention = softmax(made["query"], made["key"], stack)
    if stack.beside is not None:  # its first head gives it everything, its second a quarter
        attention *= np.array([0.0, 0.75], np.float32)[:, None, None]
    metrics = wave((layers, stack.heads, len(spec.metrics)), phase + 0.5)
    if stack.name == "cross":
        metrics[..., [name == "self" for name in spec.metrics]] = np.nan
    kept = {name: qkvault.vector_precision(name, spec.precision, spec.vectors) for name in made}
    return {
        "attention": qkvault.encode_attention(attention, spec.precision),
        "thumbnail": qkvault.make_thumbnail(attention),
        "metrics": metrics,
        **{name: qkvault.encode_vectors(made[name], kept[name]) for name in made},
    }


def wave(shape: tuple[int, ...], phase: float) -> NDArray[np.float32]:
    """Numbers between -2 and 2 that look like nothing in particular."""
    steps = np.arange(int(np.prod(shape)), dtype=np.float64)
    return (2.0 * np.sin(steps * 1.7 + phase * 13.0)).reshape(shape).astype(np.float32)


def softmax(
    query: NDArray[np.float32], key: NDArray[np.float32], stack: Stack
) -> NDArray[np.float32]:
    """Plain attention of queries and keys, float32 ``(layer, head, query_token, key_token)``."""
    key = np.repeat(key, stack.heads // stack.key_heads, axis=1)
    scores = query.astype(np.float64) @ key.astype(np.float64).swapaxes(-1, -2)
    scores *= np.array(stack.scaling)[:, None, None, None]
    if stack.causal:
        scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    main()
