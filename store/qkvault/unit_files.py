"""The files of one unit: a shard per array, under temporary names until all of them are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .packing import chunk_groups, encode_ahead
from .shards import ShardReceipt, ShardWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .metadata import ArrayMeta
    from .packing import Watch
    from .remote import Place
    from .units import UnitBuffer


def write_unit(
    buffer: UnitBuffer,
    metas: Mapping[str, ArrayMeta],
    number: int,
    vault: Place,
    binding: str,
    watch: Watch,
) -> dict[str, ShardReceipt]:
    """Compress a unit's arrays and write its shards.

    Args:
        buffer: the unit, filled.
        metas: of its arrays, in the order that they are written.
        number: in the names of its shards.
        vault: where they go.
        binding: what their tags bind them to: the plan's hash.
        watch: told of "compress" and "write".

    Returns:
        Path of each shard within the vault, and its receipt.

    Raises:
        ResourceError: the disk refuses, or another process has the unit now.
    """
    receipts = {}
    written = []
    encoded = encode_ahead(buffer.arrays, metas, watch)
    for path, meta in metas.items():
        final = meta.shard_path(number)
        temporary = buffer.claim.folder / path.replace("/", "-")
        writer = ShardWriter(temporary, meta.chunks_per_shard, binding, final)
        try:
            for _ in chunk_groups(meta, len(buffer.unit.examples)):
                group = next(encoded)
                with watch("write"):
                    writer.add(group)
            with watch("write"):
                receipts[final] = writer.close()
        finally:
            writer.abandon()
        written.append((temporary, vault / final))
    for temporary, target in written:
        with watch("write"):
            buffer.claim.publish(temporary, target)
    return receipts
