"""Threads for packing, unpacking and hashing chunks, shared by all vaults of a process.

The codecs let go of the interpreter's lock, so that threads really use several cores.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

_pool: ThreadPoolExecutor | None = None
_beside: ThreadPoolExecutor | None = None
_lock = threading.Lock()


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pool() -> ThreadPoolExecutor:
    """The pool, made when first asked for."""
    global _pool
    if _pool is None:
        with _lock:
            if _pool is None:
                _pool = ThreadPoolExecutor(cores(), thread_name_prefix="qkvault")
    return _pool


def beside() -> ThreadPoolExecutor:
    """One thread for short work that goes on beside a caller's own, and is waited for at once.

    It never waits for the pool, whose threads may have much to do.
    """
    global _beside
    if _beside is None:
        with _lock:
            if _beside is None:
                _beside = ThreadPoolExecutor(1, thread_name_prefix="qkvault-beside")
    return _beside


def _after_fork() -> None:
    # A forked child has a pool's books but not its threads: work given to it would never be done.
    global _pool, _beside, _lock
    _pool = _beside = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
