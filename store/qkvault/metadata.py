"""``zarr.json``: writing it for any Zarr v3 reader, and reading it as if it came from an enemy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from .codecs import ChunkCodec, make_codec, parse_codec
from .documents import canonical_bytes, parse_json
from .errors import VaultError
from .vectors import VECTOR_FILL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .chunks import ArrayPlan
    from .spec import Json

MAX_METADATA_BYTES: Final = 1 << 20
MAX_DIMENSIONS: Final = 8
MAX_ELEMENTS: Final = 1 << 62
MAX_CHUNK_BYTES: Final = 64 << 20
MAX_CHUNKS_PER_SHARD: Final = 1 << 20

_DTYPES: Final = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("uint8", "uint16", "int16", "float16", "float32", "int32", "uint64")
}
_SEPARATOR: Final = "."
FILLS: Final = {"float16": math.nan, "float32": math.nan, "int16": float(VECTOR_FILL)}
"""What stands in cells that hold nothing, by type; 0 for others."""


@dataclass(frozen=True, eq=False)
class ArrayMeta:
    """One array's metadata, checked.

    Attributes:
        path: the array's folder within the vault.
        shape, shard, chunk: of the array, of one file, of one inner chunk; equally many axes.
        dtype: stored type, little-endian.
        codec: of one inner chunk.
        dims: name of each axis.
        grid: inner chunks of a shard along each axis.
        fill: what stands in cells that no example reaches.
        may_be_empty: whether a row of its maps may be nothing but zeros, all of its weight going to
            what is no token.
    """

    path: str
    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: np.dtype[Any]
    codec: ChunkCodec
    dims: tuple[str, ...]
    grid: tuple[int, ...]
    fill: float
    may_be_empty: bool = False

    @property
    def chunks_per_shard(self) -> int:
        """Inner chunks of one shard, present or not."""
        return math.prod(self.grid)

    @property
    def shards(self) -> int:
        """Shard files, which follow each other along the first axis."""
        return -(-self.shape[0] // self.shard[0])

    def shard_path(self, number: int) -> str:
        """Path of a shard within the vault: the array's folder and its chunk key."""
        zeros = (_SEPARATOR + "0") * (len(self.shape) - 1)
        return f"{self.path}/c{_SEPARATOR}{number}{zeros}"


def array_document(plan: ArrayPlan) -> bytes:
    """The ``zarr.json`` of an array."""
    dtype = _DTYPES[plan.dtype]
    codec = make_codec(plan.codec, dtype.itemsize)
    return _array_bytes(plan, codec)


def group_document() -> bytes:
    """The ``zarr.json`` of a group."""
    return canonical_bytes({"zarr_format": 3, "node_type": "group", "attributes": {}})


def root_document(attributes: Mapping[str, Json], members: Mapping[str, Json]) -> bytes:
    """The ``zarr.json`` of the root group, with all others in it.

    A plain Zarr reader then need not list the folder, which also holds files that are not Zarr's.
    """
    consolidated: dict[str, Json] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": dict(members),
    }
    return canonical_bytes(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": dict(attributes),
            "consolidated_metadata": consolidated,
        }
    )


def root_members(data: bytes, name: str) -> dict[str, Any]:
    """The copies of all other ``zarr.json`` that the root's holds, by the folder they are of.

    Raises:
        VaultError: it is no JSON object.
    """
    consolidated = parse_json(data, name).get("consolidated_metadata")
    members = consolidated.get("metadata") if isinstance(consolidated, dict) else None
    return members if isinstance(members, dict) else {}


def parse_array(data: bytes, path: str, name: str) -> ArrayMeta:
    """Read an array's ``zarr.json``, with every bound checked before anything is allocated.

    Args:
        path: the array's folder within the vault.
        name: how to call the file in messages.

    Raises:
        VaultError: anything that this release does not write.
    """
    document = parse_json(data, name)
    try:
        return _parse(document, path)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise VaultError(f"{name} is not an array this release reads: {error!s:.300}") from None


def meta_of(plan: ArrayPlan) -> ArrayMeta:
    """The metadata of an array that is about to be written."""
    return parse_array(array_document(plan), plan.path, plan.path)


def _fill(dtype: str) -> Json:
    fill = FILLS.get(dtype, 0.0)
    return "NaN" if math.isnan(fill) else int(fill)


def _array_bytes(plan: ArrayPlan, codec: ChunkCodec) -> bytes:
    sharding: dict[str, Json] = {
        "chunk_shape": list(plan.chunk),
        "codecs": codec.document,
        "index_codecs": _INDEX_CODECS,
        "index_location": "end",
    }
    return canonical_bytes(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(plan.shape),
            "data_type": plan.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(plan.shard)}},
            "chunk_key_encoding": {
                "name": "default",
                "configuration": {"separator": _SEPARATOR},
            },
            "fill_value": _fill(plan.dtype),
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": list(plan.dims),
            "attributes": plan.attributes,
        }
    )


_INDEX_CODECS: Final[list[Json]] = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


def _parse(document: dict[str, Any], path: str) -> ArrayMeta:
    if document.get("zarr_format") != 3 or document.get("node_type") != "array":
        raise ValueError("it is not a Zarr v3 array")
    dtype = _DTYPES.get(document["data_type"])
    if dtype is None:
        raise ValueError(f"data type {document['data_type']!r}")
    shape = _sizes(document["shape"], "shape")
    shard = _sizes(_configuration(document["chunk_grid"], "regular")["chunk_shape"], "shard")
    keys = _configuration(document["chunk_key_encoding"], "default")
    if keys.get("separator") != _SEPARATOR:
        raise ValueError(f"chunk keys separated by {keys.get('separator')!r}")
    (outer,) = document["codecs"]
    sharding = _configuration(outer, "sharding_indexed")
    if sharding.get("index_location") != "end" or sharding.get("index_codecs") != _INDEX_CODECS:
        raise ValueError("a shard index that is not plain, checksummed and at the end")
    chunk = _sizes(sharding["chunk_shape"], "chunk")
    grid = _check_grid(shape, shard, chunk, dtype.itemsize)
    fill = _fill(document["data_type"])
    if document.get("fill_value") != fill:
        raise ValueError(f"fill value {document.get('fill_value')!r}")
    return ArrayMeta(
        path=path,
        shape=shape,
        shard=shard,
        chunk=chunk,
        dtype=dtype,
        codec=parse_codec(sharding["codecs"], dtype.itemsize),
        dims=_names(document.get("dimension_names"), len(shape)),
        grid=grid,
        fill=float(cast("str | int", fill)),
        may_be_empty="beside" in document.get("attributes", {}),
    )


def _configuration(document: Any, name: str) -> dict[str, Any]:
    if document["name"] != name:
        raise ValueError(f"{document['name']!r} where {name!r} was expected")
    configuration = document["configuration"]
    if not isinstance(configuration, dict):
        raise ValueError(f"configuration of {name!r} is not an object")
    return configuration


def _sizes(value: Any, what: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_DIMENSIONS:
        raise ValueError(f"{what} with other than 1 to {MAX_DIMENSIONS} axes")
    if not all(type(size) is int and 0 < size <= MAX_ELEMENTS for size in value):
        raise ValueError(f"{what} {value!r:.100}")
    if math.prod(value) > MAX_ELEMENTS:
        raise ValueError(f"{what} with more elements than can be")
    return tuple(value)


def _check_grid(
    shape: tuple[int, ...], shard: tuple[int, ...], chunk: tuple[int, ...], itemsize: int
) -> tuple[int, ...]:
    if not len(shape) == len(shard) == len(chunk):
        raise ValueError("shape, shard and chunk differ in axes")
    if shard[1:] != shape[1:]:
        raise ValueError("shards that do not hold whole rows")
    if any(s % c for s, c in zip(shard, chunk, strict=True)):
        raise ValueError("chunks that do not divide the shard")
    if math.prod(chunk) * itemsize > MAX_CHUNK_BYTES:
        raise ValueError(f"chunks larger than {MAX_CHUNK_BYTES} bytes")
    if len(chunk) > 1 and chunk[-1] != shard[-1]:
        raise ValueError("chunks that split the last axis")
    grid = tuple(s // c for s, c in zip(shard, chunk, strict=True))
    if math.prod(grid) > MAX_CHUNKS_PER_SHARD:
        raise ValueError(f"more than {MAX_CHUNKS_PER_SHARD} chunks in a shard")
    return grid


def _names(value: Any, axes: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) != axes:
        raise ValueError("axes without names")
    if not all(isinstance(name, str) for name in value):
        raise ValueError("an axis whose name is not text")
    return tuple(value)
