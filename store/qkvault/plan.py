"""``plan.json``: all that is fixed before the first unit runs, and what follows from it."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from .axes import Lengths
from .chunks import array_paths, group_name, row_shape
from .documents import canonical_bytes, seal, sha256_hex, unseal
from .errors import InputError, VaultError
from .recipe import parse_recipe, recipe_document
from .shards import ShardReceipt
from .spec import (
    READ_VERSIONS,
    Json,
    Stack,
    VaultSpec,
)
from .spec_checks import refuse_unsound

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PLAN_BYTES: Final = 8 << 20
MAX_BUCKETS: Final = 4096

EXAMPLE_ARRAYS: Final = ("place", "offset", "records", "id_hash", "id_row")


@dataclass(frozen=True)
class Bucket:
    """Examples that are padded to one length.

    Attributes:
        length: padded length in tokens; of the source, where there is a target.
        rows: examples.
        rows_per_unit: rows of one shard of each array.
        first_unit: number of the unit that holds row 0.
        target_length: padded length of the longest target; None where the vault knows none.
    """

    length: int
    rows: int
    rows_per_unit: int
    first_unit: int
    target_length: int | None = None

    @property
    def lengths(self) -> Lengths:
        """Both padded lengths."""
        return Lengths(self.length, self.target_length or 0)

    @property
    def units(self) -> int:
        """Units of this bucket."""
        return -(-self.rows // self.rows_per_unit)


@dataclass(frozen=True, eq=False)
class Plan:
    """A vault's plan, read back or about to be written.

    Attributes:
        spec: what the caller asked for.
        examples: how many.
        buckets: by padded length, ascending.
        metadata: path of every ``zarr.json`` -> SHA-256 of its bytes.
        shards: path of every shard of ``examples/`` -> receipt.
        rejects: how many rows of the input were left out, and the digest of ``rejects.jsonl``.
        hash: of the whole document; the binding of unit shards.
    """

    spec: VaultSpec
    examples: int
    buckets: tuple[Bucket, ...]
    metadata: Mapping[str, str]
    shards: Mapping[str, ShardReceipt]
    rejects: tuple[int, str]
    hash: str = ""
    _by_length: dict[int, Bucket] = field(default_factory=dict)
    _first_units: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_length.update((bucket.length, bucket) for bucket in self.buckets)
        self._first_units.extend(bucket.first_unit for bucket in self.buckets)

    @property
    def units(self) -> int:
        """Units of all buckets."""
        last = self.buckets[-1]
        return last.first_unit + last.units

    @property
    def array_paths(self) -> list[str]:
        """Paths within their groups of the arrays of all buckets, each once."""
        paths = (path for bucket in self.buckets for path in array_paths(self.spec, bucket.lengths))
        return list(dict.fromkeys(paths))

    def bucket(self, length: int) -> Bucket:
        """The bucket of that padded length; ``KeyError`` if the vault has none."""
        return self._by_length[length]

    def unit_rows(self, unit: int) -> tuple[Bucket, int, int]:
        """Bucket and half-open range of rows of a unit."""
        bucket = self.buckets[bisect_right(self._first_units, unit) - 1]
        start = (unit - bucket.first_unit) * bucket.rows_per_unit
        return bucket, start, min(start + bucket.rows_per_unit, bucket.rows)

    def unit_shards(self, unit: int) -> list[str]:
        """Paths of the shard files of a unit, in the order they are written."""
        bucket = self.unit_rows(unit)[0]
        number = unit - bucket.first_unit
        paths = []
        for array in array_paths(self.spec, bucket.lengths):
            axes = len(row_shape(self.spec, array, bucket.lengths))
            key = ".".join(["c", str(number), *["0"] * axes])
            paths.append(f"{group_name(bucket.length)}/{array}/{key}")
        return paths


BucketSize = tuple[int, int | None, int, int]
"""Padded length, that of targets or None, rows, rows per unit."""


def number_buckets(sizes: list[BucketSize]) -> tuple[Bucket, ...]:
    """Buckets of their sizes, their units numbered one after the other."""
    buckets = []
    first = 0
    for length, target_length, rows, per_unit in sizes:
        bucket = Bucket(length, rows, per_unit, first, target_length)
        buckets.append(bucket)
        first += bucket.units
    return tuple(buckets)


def plan_bytes(plan: Plan) -> bytes:
    """The sealed bytes of ``plan.json``."""
    return seal(
        {
            "format": plan.spec.format,
            "spec": spec_document(plan.spec),
            "examples": plan.examples,
            "buckets": [_bucket_document(bucket) for bucket in plan.buckets],
            "metadata": dict(plan.metadata),
            "shards": {path: asdict(receipt) for path, receipt in plan.shards.items()},
            "rejects": {"count": plan.rejects[0], "sha256": plan.rejects[1]},
        }
    )


def _bucket_document(bucket: Bucket) -> dict[str, Json]:
    document: dict[str, Json] = {
        "length": bucket.length,
        "rows": bucket.rows,
        "rows_per_unit": bucket.rows_per_unit,
    }
    if bucket.target_length is not None:
        document["target_length"] = bucket.target_length
    return document


def parse_plan(data: bytes, name: str) -> Plan:
    """Read ``plan.json``.

    Raises:
        VaultError: damaged, of another format version, or not a plan.
    """
    document = unseal(data, name)
    version = document.get("format")
    major = version.split(".")[0] if isinstance(version, str) else ""
    if major not in {known.split(".")[0] for known in READ_VERSIONS}:
        raise VaultError(
            f"{name} is of format {version!r:.40}; this release reads {', '.join(READ_VERSIONS)}:"
            " update qkvault"
        )
    try:
        plan = _parse(document)
        if plan.spec.format.split(".")[0] != major:
            raise ValueError(f"thumbnails {plan.spec.thumbnails} in format {version:.40}")
        return plan
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VaultError(f"{name} is not a plan this release reads: {error!s:.300}") from None


def spec_document(spec: VaultSpec) -> dict[str, Json]:
    """A spec as JSON."""
    vectors: dict[str, Json] = {name: kept for name, kept in spec.vectors.items()}
    named: dict[str, Json] = {"vectors": vectors} if vectors else {}
    if spec.thumbnails != "every":
        named["thumbnails"] = spec.thumbnails
    document: dict[str, Json] = {
        **named,
        "stacks": [_stack_document(stack) for stack in spec.stacks],
        "arrays": list(spec.arrays),
        "attention": spec.attention,
        "derived_error": spec.derived_error,
        "metrics": list(spec.metrics),
        "precision": spec.precision,
        "logits": spec.logits,
        "label_names": list(spec.label_names),
        "identity": dict(spec.identity),
        "provenance": dict(spec.provenance),
    }
    return {**document, "target": True} if spec.target else document


def _stack_document(stack: Stack) -> dict[str, Json]:
    document: dict[str, Json] = {
        **asdict(stack),
        "layers": list(stack.layers),
        "scaling": list(stack.scaling),
        "recipe": recipe_document(stack.recipe),
    }
    if stack.beside is None:
        del document["beside"]
    document["widths"] = [list(pair) for pair in stack.widths]
    if not stack.widths:
        del document["widths"]
    return document


def spec_hash(spec: VaultSpec) -> str:
    """SHA-256 of a spec's canonical JSON; the binding of the shards of ``examples/``."""
    return sha256_hex(canonical_bytes(spec_document(spec)))


def check_spec(spec: VaultSpec) -> None:
    """Check a spec that is about to become a vault.

    Raises:
        InputError: it contradicts itself or the format.
    """
    try:
        refuse_unsound(spec)
        spec_hash(spec)  # what is no JSON has none
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"the vault's spec cannot be used: {error}") from None


def _parse(document: dict[str, Any]) -> Plan:
    spec = _parse_spec(document["spec"])
    refuse_unsound(spec)
    sizes = [_parse_bucket(bucket, spec.target) for bucket in document["buckets"]]
    lengths = [size[0] for size in sizes]
    if len(lengths) > MAX_BUCKETS:
        raise ValueError(f"{len(lengths)} buckets; at most {MAX_BUCKETS} are read")
    if not lengths or lengths != sorted(set(lengths)):
        raise ValueError("buckets that do not ascend")
    examples = document["examples"]
    rows_planned = sum(size[2] for size in sizes)
    if type(examples) is not int or examples != rows_planned:
        raise ValueError(f"{examples!r:.40} examples in buckets of {rows_planned}")
    rejects, digest = document["rejects"]["count"], document["rejects"]["sha256"]
    if type(rejects) is not int or not 0 <= rejects < 2**63 or not isinstance(digest, str):
        raise ValueError("rejects without count and digest")
    return Plan(
        spec=spec,
        examples=examples,
        buckets=number_buckets(sizes),
        metadata=_texts(document["metadata"]),
        shards={path: parse_receipt(value) for path, value in document["shards"].items()},
        rejects=(rejects, digest),
        hash=document["hash"],
    )


def _parse_bucket(value: Mapping[str, Any], has_target: bool) -> BucketSize:
    target = value.get("target_length")
    size = (value["length"], target, value["rows"], value["rows_per_unit"])
    known = [number for number in size if number is not None]
    if (target is not None) != has_target or len(known) != 3 + has_target:
        raise ValueError(f"a bucket of {size}, with a target length or without one")
    if not all(type(n) is int and 1 <= n < 2**31 for n in known):
        raise ValueError(f"a bucket of {size}")
    return size


def parse_receipt(value: Mapping[str, Any]) -> ShardReceipt:
    """A shard's receipt from JSON; ``ValueError`` or ``KeyError`` if it is none."""
    size, whole, tail = value["size"], value["xxh3_128"], value["tail_sha256"]
    if type(size) is not int or size < 0 or not isinstance(whole, str) or not isinstance(tail, str):
        raise ValueError("a shard's receipt without size and digests")
    return ShardReceipt(size, whole, tail)


def _parse_spec(value: Mapping[str, Any]) -> VaultSpec:
    return VaultSpec(
        stacks=tuple(_parse_stack(stack) for stack in value["stacks"]),
        arrays=tuple(value["arrays"]),
        precision=value["precision"],
        logits=value["logits"],
        label_names=tuple(value["label_names"]),
        identity=dict(value["identity"]),
        provenance=dict(value["provenance"]),
        attention=value.get("attention", "stored"),
        derived_error=value.get("derived_error"),
        metrics=tuple(value.get("metrics", ())),
        target=value.get("target", False),
        vectors=dict(value.get("vectors", {})),
        thumbnails=value.get("thumbnails", "every"),
    )


def _parse_stack(value: Mapping[str, Any]) -> Stack:
    return Stack(
        name=value["name"],
        layers=tuple(value["layers"]),
        heads=value["heads"],
        key_heads=value["key_heads"],
        head_dim=value["head_dim"],
        value_dim=value["value_dim"],
        causal=value["causal"],
        scaling=tuple(value["scaling"]),
        recipe=parse_recipe(value["recipe"]) if "recipe" in value else (),
        beside=value.get("beside"),
        widths=tuple(tuple(pair) for pair in value.get("widths", ())),
    )


def _texts(value: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(item, str) for item in value.values()):
        raise ValueError("a digest that is not text")
    return dict(value)


VaultState = Literal["absent", "empty", "unfinished", "complete", "other"]
