"""Arithmetic of the layout: length buckets, rows per unit, shapes of shards and chunks.

Nothing here touches the disk. The constants are choices, not format: a reader takes the shapes
from each array's ``zarr.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from .axes import MAPS
from .encodings import VECTORS, encoding_of, stored_dtype
from .spec import THUMBNAIL_SIDE, Json, Stack, VaultSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .axes import Lengths

KIB: Final = 1 << 10
MIB: Final = 1 << 20

ATTENTION_CHUNK: Final = MIB
ATTENTION_CHUNK_MIN: Final = 32 * KIB
VECTOR_CHUNK: Final = 128 * KIB
THUMBNAIL_CHUNK: Final = 4 * MIB
UNIT_BYTES: Final = 128 * MIB
CHUNKS_PER_SHARD: Final = 4096
_METRIC_ROWS: Final = 16
EXAMPLE_ROWS_PER_CHUNK: Final = 16384
RECORD_BYTES_PER_CHUNK: Final = 64 * KIB
EXAMPLE_CHUNKS_PER_SHARD: Final = 1024


CodecName = Literal["zstd", "lz4-shuffle", "zstd-shuffle", "zstd-bitshuffle", "plain"]


def group_name(length: int) -> str:
    """Name of a bucket's group, by its padded length."""
    return f"b{length:04d}"


@dataclass(frozen=True)
class ArrayPlan:
    """One array before it is written: what its ``zarr.json`` will say.

    Attributes:
        path: within the vault, such as ``b0064/encoder/attention``.
        shape, shard, chunk: of the array, of one file, of what is compressed at a time.
        dtype: numpy name of the stored type.
        codec: how a chunk becomes bytes.
        dims: name of each axis.
        attributes: what a reader without QKVault needs to make sense of the numbers.
    """

    path: str
    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: str
    codec: CodecName
    dims: tuple[str, ...]
    attributes: dict[str, Json]

    @property
    def row_bytes(self) -> int:
        """Raw bytes of one row (one example)."""
        return _product(self.shape[1:]) * _itemsize(self.dtype)

    @property
    def chunks_per_row_group(self) -> int:
        """Inner chunks of a shard for each step of the chunk along the first axis."""
        return _product(-(-s // c) for s, c in zip(self.shard[1:], self.chunk[1:], strict=True))


def plan_bucket(spec: VaultSpec, lengths: Lengths, rows: int, compress: bool) -> list[ArrayPlan]:
    """All arrays of one bucket, with one number of rows per shard common to all of them."""
    shapes = {path: row_shape(spec, path, lengths) for path in array_paths(spec, lengths)}
    wanted = {path: _row_chunk(spec, path, shape) for path, shape in shapes.items()}
    per_unit = _rows_per_unit(shapes, wanted, spec, rows)
    plans = []
    for path, shape in shapes.items():
        group, *chunk = wanted[path]
        while per_unit % group:
            group //= 2
        name = path.rpartition("/")[2]
        if path == "logits":
            group = per_unit
        plans.append(
            ArrayPlan(
                path=f"{group_name(lengths.source)}/{path}",
                shape=(rows, *shape),
                shard=(per_unit, *shape),
                chunk=(group, *chunk),
                dtype=stored_dtype(spec, name),
                codec=_codec(name, spec, compress),
                dims=_dims(spec, path),
                attributes=_attributes(spec, path),
            )
        )
    return plans


def array_paths(spec: VaultSpec, lengths: Lengths) -> list[str]:
    """Paths of a bucket's arrays within its group, in the order they are written.

    Args:
        lengths: padded lengths of the bucket.
    """
    names = stored_names(spec)
    paths = [f"{stack.name}/{name}" for stack in spec.stacks for name in names]
    stored = [path for path in paths if not is_implied(spec, path, lengths)]
    return [*stored, "logits"] if spec.logits else stored


def is_implied(spec: VaultSpec, path: str, lengths: Lengths) -> bool:
    """Whether a bucket's array is not stored because another holds it: thumbnails of attention that
    is no larger than they would be."""
    stack, _, name = path.rpartition("/")
    if name != "thumbnail" or spec.thumbnails == "every" or spec.attention == "derived":
        return False
    return max(lengths.sides(spec, stack_of(spec, stack).name)) <= THUMBNAIL_SIDE


def stored_names(spec: VaultSpec) -> list[str]:
    """Names of a stack's arrays, in the order they are written; thumbnails may be implied."""
    first: list[str] = [name for name in spec.arrays if name == "attention"]
    if first or spec.attention == "derived":
        first.append("thumbnail")
    rest = [name for name in spec.arrays if name != "attention"]
    return [*first, *rest, "metrics"] if spec.metrics else [*first, *rest]


def place_width(spec: VaultSpec) -> int:
    """Columns of ``examples/place``: bucket length, row, tokens, and tokens of the target."""
    return 4 if spec.target else 3


def is_column(array: str) -> bool:
    """Whether an array (by its path in a bucket) has no token axes: logits and metrics."""
    return array.rpartition("/")[2] in ("logits", "metrics")


def row_shape(spec: VaultSpec, path: str, lengths: Lengths) -> tuple[int, ...]:
    """Shape of one row of the array at ``path`` within a bucket of those padded lengths."""
    stack_name, _, name = path.rpartition("/")
    if name == "logits":
        return (spec.logits,)
    stack = stack_of(spec, stack_name)
    layers = len(stack.layers)
    queries, keys = lengths.sides(spec, stack.name)
    bins = min(THUMBNAIL_SIDE, queries), min(THUMBNAIL_SIDE, keys)
    scale = _scale_cells(spec, name)
    return {
        "attention": (layers, stack.heads, queries, keys),
        "thumbnail": (layers, stack.heads, *bins),
        "query": (layers, stack.heads, queries, stack.head_dim + scale),
        "key": (layers, stack.key_heads, keys, stack.head_dim + scale),
        "value": (layers, stack.key_heads, keys, stack.value_dim + scale),
        "metrics": (layers, stack.heads, len(spec.metrics)),
    }[name]


def _scale_cells(spec: VaultSpec, name: str) -> int:
    """Cells that each vector ends in beyond its own values."""
    return int(name in VECTORS and stored_dtype(spec, name) == "int16")


def _row_chunk(spec: VaultSpec, path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk that a row would like: (rows, ...)."""
    name = path.rpartition("/")[2]
    item = _itemsize(stored_dtype(spec, name))
    if is_column(path):
        return (_METRIC_ROWS, *shape)
    layers, heads, tokens, width = shape
    if name == "thumbnail":
        kept = _largest_divisor(layers, THUMBNAIL_CHUNK // (heads * tokens * width * item))
        return (1, kept, heads, tokens, width)
    if name == "attention":
        return (1, *_attention_chunk(layers, heads, tokens, width, item))
    # Counted without scales: they must not halve the rows, which are a power of two.
    group = VECTOR_CHUNK // (tokens * (width - _scale_cells(spec, name)) * item)
    split = _largest_divisor(tokens, ATTENTION_CHUNK // (width * item))
    return (1 << max(group, 1).bit_length() - 1, 1, 1, split, width)


def _attention_chunk(
    layers: int, heads: int, queries: int, keys: int, item: int
) -> tuple[int, int, int, int]:
    """Whole layers if small, then one layer, then some heads, then some query rows of one head."""
    layer_bytes = heads * queries * keys * item
    if layer_bytes < ATTENTION_CHUNK_MIN:
        merged = _smallest_divisor(layers, -(-ATTENTION_CHUNK_MIN // layer_bytes))
        return (merged, heads, queries, keys)
    split_heads = _largest_divisor(heads, ATTENTION_CHUNK // (queries * keys * item))
    split_rows = _largest_divisor(queries, ATTENTION_CHUNK // (keys * item))
    return (1, split_heads, queries if split_heads > 1 else split_rows, keys)


def _rows_per_unit(
    shapes: dict[str, tuple[int, ...]],
    chunks: dict[str, tuple[int, ...]],
    spec: VaultSpec,
    rows: int,
) -> int:
    """Rows of one shard of every array: bounded by bytes and by chunks, a multiple of groups."""
    row_bytes = sum(
        _product(shape) * _itemsize(stored_dtype(spec, path.rpartition("/")[2]))
        for path, shape in shapes.items()
    )
    limit = max(1, UNIT_BYTES // row_bytes)
    group = 1
    for path, shape in shapes.items():
        if is_column(path):
            continue
        step, *chunk = chunks[path]
        group = max(group, step)
        per_group = _product(-(-s // c) for s, c in zip(shape, chunk, strict=True))
        limit = min(limit, max(1, CHUNKS_PER_SHARD // per_group) * step)
    limit = min(limit, 1 << max(rows - 1, 0).bit_length())
    return limit // group * group if limit >= group else 1 << limit.bit_length() - 1


def _codec(name: str, spec: VaultSpec, compress: bool) -> CodecName:
    if not compress:
        return "plain"
    if name in VECTORS:
        # No byte of int16 vectors repeats enough for more than a fast look at it.
        return "lz4-shuffle" if stored_dtype(spec, name) == "int16" else "zstd-shuffle"
    if name == "attention" and spec.precision != "uint8":
        return "zstd-shuffle" if spec.precision == "uint16" else "zstd-bitshuffle"
    return "zstd"


def _dims(spec: VaultSpec, path: str) -> tuple[str, ...]:
    name = path.rpartition("/")[2]
    *axes, last = row_dims(name)
    if _scale_cells(spec, name):
        last = f"{last}_and_scale"
    return ("example", *axes, last)


def row_dims(name: str) -> tuple[str, ...]:
    """Names of the axes of one example's part of an array."""
    return {
        "attention": ("layer", "head", "query_token", "key_token"),
        "scores": ("layer", "head", "query_token", "key_token"),
        "thumbnail": ("layer", "head", "query_bin", "key_bin"),
        "query": ("layer", "head", "query_token", "head_dim"),
        "key": ("layer", "key_head", "key_token", "head_dim"),
        "value": ("layer", "key_head", "key_token", "value_dim"),
        "metrics": ("layer", "head", "metric"),
        "logits": ("class",),
    }[name]


def _attributes(spec: VaultSpec, path: str) -> dict[str, Json]:
    stack_name, _, name = path.rpartition("/")
    if name == "logits":
        return {"label_names": list(spec.label_names)}
    stack = next(stack for stack in spec.stacks if stack.name == stack_name)
    attributes: dict[str, Json] = {"layers": list(stack.layers)}
    if name == "metrics":
        return {**attributes, "metrics": list(spec.metrics)}
    attributes["encoding"] = encoding_of(spec, name)
    if name in MAPS and stack.beside is not None:
        attributes["beside"] = stack.beside
    if widths := stack.widths_of(name):
        attributes["widths"] = list(widths)
    if name in ("query", "key"):
        attributes["scaling"] = list(stack.scaling)
    if name in ("key", "value"):
        attributes["query_heads_per_key_head"] = stack.heads // stack.key_heads
    return attributes


def stack_of(spec: VaultSpec, name: str) -> Stack:
    """The stack of that name; ``KeyError`` where there is none."""
    for stack in spec.stacks:
        if stack.name == name:
            return stack
    raise KeyError(name)


def is_kept(spec: VaultSpec, name: str) -> bool:
    """Whether the vault stores the array; thumbnails go with attention, stored or derived."""
    return name in stored_names(spec)


def _itemsize(dtype: str) -> int:
    return {"uint8": 1, "uint16": 2, "int16": 2, "float16": 2, "float32": 4}[dtype]


def _product(values: Iterable[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(number, max(limit, 1)), 0, -1) if number % d == 0)


def _smallest_divisor(number: int, limit: int) -> int:
    return next((d for d in range(limit, number) if number % d == 0), number)
