"""A small cache that threads may share and a forked child may go on with."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_caches: weakref.WeakSet[Cache[object, object]] = weakref.WeakSet()


class Cache(Generic[K, V]):
    """Keeps what was used last, within a number of entries and a total weight.

    An evicted value lives on for whoever still holds it.
    """

    def __init__(self, entries: int, weight: int = 0) -> None:
        self._entries = entries
        self._limit = weight
        self._weight = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()
        _caches.add(self)  # type: ignore[arg-type]

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None if it is not kept."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        try:  # noqa: SIM105 (this is on every read's path, where a context manager costs)
            self._kept.move_to_end(key)
        except KeyError:  # another thread has just evicted it
            pass
        return kept[0]

    def put(self, key: K, value: V, weight: int = 0) -> V:
        """Keep a value; returns the one kept first if two threads bring one."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                return kept[0]
            self._kept[key] = (value, weight)
            self._weight += weight
            while len(self._kept) > self._entries or (
                self._weight > self._limit > 0 and len(self._kept) > 1
            ):
                self._weight -= self._kept.popitem(last=False)[1][1]
        return value

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value, made outside the lock if it is not kept."""
        value = self.get(key)
        return self.put(key, make()) if value is None else value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self._weight = 0

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


def _after_fork() -> None:
    # A lock that another thread held at the fork would stay shut in the child for ever.
    for cache in list(_caches):
        cache._renew_lock()


os.register_at_fork(after_in_child=_after_fork)
