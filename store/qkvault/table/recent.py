"""What was used last, within a number of bytes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, Protocol, TypeVar

_MOST_ITEMS: Final = 64


class _Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


_Item = TypeVar("_Item", bound=_Sized)


class Recent(Generic[_Item]):
    """What was used last, up to a number of bytes and of items.

    Without a lock, which a fork could leave locked in the child: every step is one operation on a
    dict, and the worst of a race is an item worked out twice.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: dict[Hashable, _Item] = {}

    def get(self, key: Hashable) -> _Item | None:
        """The item, which is now the most recent; or None."""
        item = self._items.pop(key, None)
        if item is not None:
            self._items[key] = item
        return item

    def put(self, key: Hashable, item: _Item) -> _Item:
        """Keep ``item`` and return it; the oldest items go to make room."""
        self._items[key] = item
        held = list(self._items.items())
        total = sum(kept.nbytes for _, kept in held)
        for count, (oldest, kept) in enumerate(held[:-1]):
            if total <= self._limit and len(held) - count <= _MOST_ITEMS:
                break
            self._items.pop(oldest, None)
            total -= kept.nbytes
        return item
