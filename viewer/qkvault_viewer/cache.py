"""Answers kept in memory by their size, each made once however many ask for it at the same time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Held = TypeVar("Held")


class SizedCache(Generic[Held]):
    """The values used last, up to a number of bytes; safe to use from many threads.

    Args:
        capacity: bytes that may be held. A value of more than a quarter of it is not kept, since it
            would drive out all others.
        size: bytes of a value.
    """

    def __init__(self, capacity: int, size: Callable[[Held], int]) -> None:
        self._capacity = capacity
        self._size = size
        self._held: OrderedDict[Hashable, Held] = OrderedDict()
        self._flights: dict[Hashable, Future[Held]] = {}
        self._lock = Lock()
        self.bytes = 0

    def get(self, key: Hashable, make: Callable[[], Held]) -> Held:
        """The value of ``key``; ``make`` runs if it is not held and nobody is making it already.

        Raises whatever ``make`` raises, also to those who waited for it; a failure is not kept.
        """
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            flight = self._flights.get(key)
            waiting = flight is not None
            if flight is None:
                flight = self._flights[key] = Future()
        return flight.result() if waiting else self._make(key, make, flight)

    def _make(self, key: Hashable, make: Callable[[], Held], flight: Future[Held]) -> Held:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
            self._keep(key, value)
        flight.set_result(value)
        return value

    def _keep(self, key: Hashable, value: Held) -> None:
        size = self._size(value)
        if size > self._capacity // 4:
            return
        self._held[key] = value
        self.bytes += size
        while self.bytes > self._capacity:
            _, dropped = self._held.popitem(last=False)
            self.bytes -= self._size(dropped)
