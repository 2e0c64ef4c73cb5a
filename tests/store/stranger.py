"""A reader of vaults that knows nothing of this project but ``store/FORMAT.md``.

It reads everything, checks all that the format says can be checked, and is in no hurry.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

import google_crc32c
import numcodecs.blosc
import numpy as np
import xxhash
import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

VERSIONS = ("1", "2")
ABSENT = 2**64 - 1
TAG = 16
SIDE = 64
AXES = {"encoder": (0, 0), "decoder": (1, 1), "cross": (1, 0)}


class Stranger:
    """One vault, read by the letter of the format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = self._sealed("plan.json")
        self.spec = self.plan["spec"]
        assert self.plan["format"].split(".")[0] in VERSIONS
        self.commits = self._commits()
        manifest = self._sealed("manifest.json")
        assert manifest["complete"] is True
        assert (manifest["format"], manifest["plan"]) == (self.plan["format"], self.plan["hash"])
        assert manifest["units"] == len(self.commits)
        hashes = "".join(commit["hash"] + "\n" for commit in self.commits)
        assert manifest["commits"] == sha256(hashes.encode())
        spec = json.dumps(self.spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self._spec_hash = sha256(spec.encode() + b"\n")
        self.places = self._column("place")
        self.records = [json.loads(line) for line in self._lines()]
        self._check_ids()

    def _sealed(self, name: str) -> dict[str, Any]:
        data = (self.path / name).read_bytes()
        found: dict[str, Any] = json.loads(data)
        rest = data.replace(f'"hash":"{found["hash"]}",'.encode(), b"")
        assert found["hash"] == sha256(rest), name
        return found

    def _commits(self) -> list[dict[str, Any]]:
        units = sum(-(-b["rows"] // b["rows_per_unit"]) for b in self.plan["buckets"])
        found = [self._sealed(f"commits/{unit:08d}.json") for unit in range(units)]
        for unit, commit in enumerate(found):
            assert (commit["plan"], commit["unit"]) == (self.plan["hash"], unit)
        return found

    def _metadata(self, array: str) -> dict[str, Any]:
        data = (self.path / array / "zarr.json").read_bytes()
        assert sha256(data) == self.plan["metadata"][f"{array}/zarr.json"]
        found: dict[str, Any] = json.loads(data)
        assert (found["zarr_format"], found["node_type"]) == (3, "array")
        return found

    def _column(self, name: str) -> NDArray[Any]:
        array = f"examples/{name}"
        meta = self._metadata(array)
        shards = -(-meta["shape"][0] // meta["chunk_grid"]["configuration"]["chunk_shape"][0])
        parts = []
        for number in range(shards):
            path = f"{array}/c.{number}" + ".0" * (len(meta["shape"]) - 1)
            receipt = self.plan["shards"][path]
            parts.append(self._shard(path, number, meta, receipt, self._spec_hash))
        return np.concatenate(parts)

    def _lines(self) -> list[bytes]:
        data, offset = self._column("records").tobytes(), self._column("offset").tolist()
        lines = [data[a:b] for a, b in zip(offset, offset[1:], strict=False)]
        assert b"".join(lines) == data
        assert all(line.endswith(b"\n") for line in lines)
        return lines

    def _check_ids(self) -> None:
        hashes, rows = self._column("id_hash"), self._column("id_row")
        assert (np.sort(hashes) == hashes).all()
        for value, row in zip(hashes.tolist(), rows.tolist(), strict=True):
            digest = hashlib.sha256(self.records[row]["id"].encode()).digest()
            assert value == int.from_bytes(digest[:8], "little")

    def _shard(
        self, path: str, number: int, meta: dict[str, Any], receipt: dict[str, Any], binding: str
    ) -> NDArray[Any]:
        """All rows of one shard that are there."""
        data = (self.path / path).read_bytes()
        shard = meta["chunk_grid"]["configuration"]["chunk_shape"]
        sharding = meta["codecs"][0]["configuration"]
        assert meta["codecs"][0]["name"] == "sharding_indexed"
        chunk = sharding["chunk_shape"]
        grid = [whole // part for whole, part in zip(shard, chunk, strict=True)]
        index_bytes = 16 * math.prod(grid)
        end = len(data) - TAG - index_bytes - 4
        assert len(data) == receipt["size"]
        assert xxhash.xxh3_128_hexdigest(data) == receipt["xxh3_128"]
        assert sha256(data[end:-4]) == receipt["tail_sha256"]
        assert google_crc32c.value(data[end + TAG : -4]) == int.from_bytes(data[-4:], "little")
        bound = f"{binding}\n{path}\n{xxhash.xxh3_128_hexdigest(data[:end])}"
        assert data[end : end + TAG] == hashlib.sha256(bound.encode()).digest()[:TAG]
        index = np.frombuffer(data[end + TAG : -4], "<u8").reshape(*grid, 2)
        rows = min(shard[0], meta["shape"][0] - number * shard[0])
        dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        out = np.empty(shard, dtype)
        for at in np.ndindex(*grid):
            offset, size = index[at].tolist()
            assert (offset == ABSENT) == (at[0] * chunk[0] >= rows)
            if offset != ABSENT:
                assert offset + size <= end
                raw = unpack(data[offset : offset + size], sharding["codecs"])
                place = tuple(slice(i * n, (i + 1) * n) for i, n in zip(at, chunk, strict=True))
                out[place] = np.frombuffer(raw, dtype).reshape(chunk)
        return out[:rows]

    def bucket_array(self, length: int, name: str) -> tuple[NDArray[Any], dict[str, Any]]:
        """All rows of a bucket's array, as stored, and its attributes."""
        first = 0
        for bucket in self.plan["buckets"]:
            units = -(-bucket["rows"] // bucket["rows_per_unit"])
            if bucket["length"] == length:
                break
            first += units
        array = f"b{length:04d}/{name}"
        meta = self._metadata(array)
        parts = []
        for number in range(units):
            path = f"{array}/c.{number}" + ".0" * (len(meta["shape"]) - 1)
            receipt = self.commits[first + number]["files"][path]
            parts.append(self._shard(path, number, meta, receipt, self.plan["hash"]))
        return np.concatenate(parts), meta["attributes"]

    def examples(self) -> Iterator[dict[str, Any]]:
        """Per example and stack: every array by its name, float32."""
        for place in self.places.tolist():
            length, row, *tokens = place
            found: dict[str, Any] = {}
            for stack in self.spec["stacks"]:
                axes = AXES[stack["name"]] if self.spec.get("target") else (0, 0)
                prefix = f"{stack['name']} " if self.spec.get("target") else ""
                queries, keys = (tokens[axis] for axis in axes)
                for name, values in self._stack(length, row, stack, queries, keys).items():
                    found[prefix + name] = values
            if self.spec["logits"]:
                found["logits"] = self.bucket_array(length, "logits")[0][row]
            yield found

    def _stack(
        self, length: int, row: int, stack: dict[str, Any], queries: int, keys: int
    ) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {}
        for name in self.spec["arrays"]:
            stored, attributes = self.bucket_array(length, f"{stack['name']}/{name}")
            assert attributes["layers"] == stack["layers"]
            if name == "attention":
                found[name] = weights_of(stored[row, :, :, :queries, :keys])
                assert attributes.get("beside") == stack.get("beside")
            else:
                tokens = queries if name == "query" else keys
                found[name] = vectors_of(stored[row, :, :, :tokens])
                blank_beyond(found[name], stack, name, attributes)
        if self.spec["attention"] == "derived":
            found["attention"] = derive(stack, found["query"], found["key"])
        self._check_rows(stack, found["attention"])
        found["thumbnail"] = self._thumbnail(length, row, stack, found["attention"])
        for at, name in enumerate(self.spec["metrics"]):
            values, attributes = self.bucket_array(length, f"{stack['name']}/metrics")
            assert attributes["metrics"][at] == name
            found[f"metric {name}"] = values[row, :, :, at]
        return found

    def _thumbnail(
        self, length: int, row: int, stack: dict[str, Any], attention: NDArray[Any]
    ) -> NDArray[Any]:
        array = f"{stack['name']}/thumbnail"
        (bucket,) = (b for b in self.plan["buckets"] if b["length"] == length)
        sides = [(length, bucket.get("target_length"))[axis] for axis in AXES[stack["name"]]]
        longest = max(sides) if self.spec.get("target") else length
        every = self.plan["format"] == "1.0" or self.spec["attention"] == "derived"
        stored = f"b{length:04d}/{array}/zarr.json" in self.plan["metadata"]
        assert stored == (every or longest > SIDE)
        if not stored:  # a map is its own thumbnail
            return ((np.rint(np.sqrt(attention) * 255) / 255) ** 2).astype(np.float32)
        values = self.bucket_array(length, array)[0]
        queries, keys = attention.shape[-2:]
        return weights_of(values[row, :, :, : min(queries, SIDE), : min(keys, SIDE)])

    def _check_rows(self, stack: dict[str, Any], attention: NDArray[Any]) -> None:
        """Rows sum to 1, or to less where the stack says what takes the rest."""
        sinks = [form.get("sinks") for form in stack["recipe"]["forms"]]
        whole = "beside" not in stack and not any(s and s["mode"] == "softmax" for s in sinks)
        keys = attention.shape[-1]
        error = math.sqrt(keys) / 255 + keys / 255**2 / 4
        sums = attention.sum(-1)
        assert sums.max() <= 1 + error
        if whole:
            assert sums.min() >= 1 - error
        if "beside" not in stack:
            assert attention[..., 0, :].any(axis=-1).all()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def unpack(data: bytes, codecs: list[dict[str, Any]]) -> bytes:
    """One inner chunk, by one of the chains."""
    names = [codec["name"] for codec in codecs]
    assert names[0] == "bytes"
    if names == ["bytes", "zstd"]:
        assert codecs[1]["configuration"]["checksum"] is True
        return zstandard.ZstdDecompressor().decompress(data)
    assert names in (["bytes", "crc32c"], ["bytes", "blosc", "crc32c"])
    packed, checksum = data[:-4], int.from_bytes(data[-4:], "little")
    assert google_crc32c.value(packed) == checksum
    raw: bytes = packed if len(names) == 2 else numcodecs.blosc.decompress(packed)
    return raw


def weights_of(codes: NDArray[Any]) -> NDArray[Any]:
    if codes.dtype == np.uint16:
        return (codes / 65535).astype(np.float32)
    if codes.dtype == np.uint8:
        return ((codes / 255) ** 2).astype(np.float32)
    return codes.astype(np.float32)


def vectors_of(codes: NDArray[Any]) -> NDArray[Any]:
    if codes.dtype != np.int16:
        return codes.astype(np.float32)
    scales = (codes[..., -1:].astype("<i4") << 16).view("<f4")
    return (codes[..., :-1] * scales).astype(np.float32)


def blank_beyond(
    vectors: NDArray[Any], stack: dict[str, Any], name: str, attributes: dict[str, Any]
) -> None:
    """Put NaN where a layer has no such dimension; 0 must stand there."""
    if "widths" not in stack:
        assert "widths" not in attributes
        return
    widths = [pair[name == "value"] for pair in stack["widths"]]
    assert widths == attributes["widths"]
    assert max(widths) == vectors.shape[-1]
    for layer, width in zip(vectors, widths, strict=True):
        assert not layer[..., width:].any()
        layer[..., width:] = np.nan


def derive(stack: dict[str, Any], query: NDArray[Any], key: NDArray[Any]) -> NDArray[Any]:
    """Attention from queries and keys, layer by layer."""
    shared = stack["heads"] // stack["key_heads"]
    key = np.repeat(np.nan_to_num(key), shared, axis=1).astype(np.float64)
    products = np.nan_to_num(query).astype(np.float64) @ key.swapaxes(-1, -2)
    forms, layers = stack["recipe"]["forms"], stack["recipe"]["layers"]
    made = [
        softmax_of(products[at] * stack["scaling"][at], forms[number])
        for at, number in enumerate(layers)
    ]
    return np.stack(made).astype(np.float32)


def softmax_of(score: NDArray[Any], form: dict[str, Any]) -> NDArray[Any]:
    """Weights ``(head, query_token, key_token)`` from scaled products, by the terms of a form."""
    assert set(form) <= {"mask", "softcap", "slopes", "bias", "sinks"}
    i, j = np.indices(score.shape[1:])
    if "softcap" in form:
        score = form["softcap"] * np.tanh(score / form["softcap"])
    if "slopes" in form:
        score = score + np.array(form["slopes"])[:, None, None] * (j - i)
    if "bias" in form:
        steps = np.searchsorted(form["bias"]["starts"], j - i, side="right") - 1
        score = score + np.array(form["bias"]["values"])[:, np.maximum(steps, 0)]
    mask = form["mask"]
    seen = np.ones(score.shape[1:], bool)
    if mask["causal"]:
        seen &= j <= i
    if mask["window"] is not None:
        seen &= abs(i - j) <= mask["window"]
    if mask["chunk"] is not None:
        seen &= i // mask["chunk"] == j // mask["chunk"]
    score = np.where(seen, score, -np.inf)
    sinks = form.get("sinks")
    if sinks is None or sinks["mode"] == "gate":
        powers = np.exp(score - score.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))
    last = np.broadcast_to(np.array(sinks["values"])[:, None, None], (*score.shape[:2], 1))
    powers = np.exp(np.concatenate([score, last], -1))
    return np.asarray(powers[..., :-1] / powers.sum(-1, keepdims=True))
