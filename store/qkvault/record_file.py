"""The bytes of records, which lie behind one another in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .errors import VaultError
from .records import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store import Store

_LINES_AT_ONCE: Final = 4096


def record_line(store: Store, index: int) -> bytes:
    """The record of an example, as it is stored.

    Raises:
        VaultError: it is damaged.
    """
    start, stop = store.examples("offset").rows(index, index + 2).tolist()
    return _cut(store, start, stop, index)


def iter_record_lines(store: Store, start: int) -> Iterator[bytes]:
    """Records in the dataset's order, from an example on; raises as :func:`record_line`."""
    offsets = store.examples("offset")
    for first in range(start, store.plan.examples, _LINES_AT_ONCE):
        last = min(first + _LINES_AT_ONCE, store.plan.examples)
        bounds = offsets.rows(first, last + 1).tolist()
        for index, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False), first):
            yield _cut(store, low, high, index)


def _cut(store: Store, start: int, stop: int, index: int) -> bytes:
    records = store.examples("records")
    if not start < stop <= records.meta.shape[0] or stop - start > MAX_RECORD_BYTES:
        raise VaultError(f"{store.path} is damaged: example {index} has no record")
    data: Any = records.rows(start, stop)
    return bytes(data.tobytes())
