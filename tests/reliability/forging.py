"""A forger's workshop: changes anything in a vault and makes every hash and receipt match again.

Hashes find accidents. Against a vault that was made to do harm only the checks behind them stand,
and those are reached by vaults from here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import xxhash

from qkvault.commits import commits_digest
from qkvault.documents import seal
from qkvault.metadata import ArrayMeta, parse_array
from qkvault.shards import TAG_BYTES, ShardReceipt, ShardWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Document = dict[str, Any]


class Forger:
    """One vault, changed in memory and on disk; :meth:`sign` makes it consistent.

    Attributes:
        path: the vault's folder.
        plan: ``plan.json`` without its hash.
        commits: the commits by number, without their hashes.
        manifest: ``manifest.json`` without its hash.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = self._open("plan.json")
        self.manifest = self._open("manifest.json")
        self.commits = {
            int(file.stem): self._open(f"commits/{file.name}")
            for file in sorted((path / "commits").iterdir())
        }

    def sign(self) -> None:
        """Write plan, commits and manifest so that each seal holds and each names the others."""
        plan = self._seal("plan.json", self.plan)
        hashes = []
        for number, commit in self.commits.items():
            commit["plan"] = plan
            hashes.append(self._seal(f"commits/{number:08d}.json", commit))
        self.manifest["plan"] = plan
        self.manifest["commits"] = commits_digest(hashes)
        self.manifest["units"] = self._units()
        self._seal("manifest.json", self.manifest)

    def metadata(self, array: str) -> Document:
        """An array's ``zarr.json``."""
        document: Document = json.loads((self.path / array / "zarr.json").read_bytes())
        return document

    def put_metadata(self, array: str, document: Document | bytes) -> None:
        """Write an array's ``zarr.json`` and let the plan name it."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        (self.path / array / "zarr.json").write_bytes(data)
        self.plan["metadata"][f"{array}/zarr.json"] = hashlib.sha256(data).hexdigest()

    def column(self, name: str) -> NDArray[Any]:
        """All values of an array below ``examples/``."""
        import qkvault

        with qkvault.open(self.path) as vault:
            column = vault.store.examples(name)
            return np.array(column.rows(0, column.meta.shape[0]))

    def put_column(self, name: str, values: NDArray[Any]) -> None:
        """Write an array below ``examples/`` anew, in one shard of one chunk."""
        array = f"examples/{name}"
        document = self.metadata(array)
        document["shape"] = list(values.shape)
        document["chunk_grid"]["configuration"]["chunk_shape"] = list(values.shape)
        document["codecs"][0]["configuration"]["chunk_shape"] = list(values.shape)
        self.put_metadata(array, document)
        meta = parse_array(json.dumps(document).encode(), array, array)
        path = meta.shard_path(0)
        writer = ShardWriter(self.path / path, 1, "", path)
        writer.add([(0, meta.codec.encode(values.astype(meta.dtype)))])
        self.plan["shards"][path] = vars(writer.close())

    def records(self) -> list[bytes]:
        """The lines of ``examples/records``."""
        data = self.column("records").tobytes()
        bounds = self.column("offset").tolist()
        return [data[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]

    def put_records(self, lines: list[bytes]) -> None:
        """Write the lines of ``examples/records``, and the offsets that go with them."""
        bounds = np.cumsum([0, *map(len, lines)]).astype(np.uint64)
        self.put_column("records", np.frombuffer(b"".join(lines), np.uint8))
        self.put_column("offset", bounds)

    def meta(self, array: str) -> ArrayMeta:
        """An array's metadata as the store reads it."""
        return parse_array((self.path / array / "zarr.json").read_bytes(), array, array)

    def put_chunk(self, unit: int, shard: str, number: int, packed: bytes) -> None:
        """Put other bytes in the place of one chunk of a unit's shard, at the end of the chunks."""
        data, index = self._parted(shard)
        index[number] = (len(data), len(packed))
        self.put_shard(unit, shard, data + packed, index)

    def put_index(
        self, unit: int, shard: str, change: Callable[[NDArray[np.uint64]], None]
    ) -> None:
        """Change the index of a unit's shard."""
        data, index = self._parted(shard)
        change(index)
        self.put_shard(unit, shard, data, index)

    def _parted(self, shard: str) -> tuple[bytes, NDArray[np.uint64]]:
        data = (self.path / shard).read_bytes()
        size = 16 * self.meta(str(Path(shard).parent)).chunks_per_shard
        index = np.frombuffer(data[-4 - size : -4], "<u8").reshape(-1, 2).copy()
        return data[: -4 - size - TAG_BYTES], index

    def put_shard(self, unit: int, shard: str, data: bytes, index: NDArray[np.uint64]) -> None:
        """Write a unit's shard of some bytes of chunks and an index."""
        tail = bytes(TAG_BYTES) + index.astype("<u8").tobytes()
        crc = int(google_crc32c.value(tail[TAG_BYTES:])).to_bytes(4, "little")
        whole = data + tail + crc
        (self.path / shard).write_bytes(whole)
        receipt = ShardReceipt(
            len(whole), xxhash.xxh3_128_hexdigest(whole), hashlib.sha256(tail).hexdigest()
        )
        self.commits[unit]["files"][shard] = vars(receipt)

    def _units(self) -> Any:
        try:
            return sum(-(-b["rows"] // b["rows_per_unit"]) for b in self.plan["buckets"])
        except (TypeError, KeyError, ZeroDivisionError):
            return self.manifest["units"]

    def _open(self, name: str) -> Document:
        document: Document = json.loads((self.path / name).read_bytes())
        del document["hash"]
        return document

    def _seal(self, name: str, document: Document) -> str:
        data = seal(document)
        (self.path / name).write_bytes(data)
        sealed: str = json.loads(data)["hash"]
        return sealed
