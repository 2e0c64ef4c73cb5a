"""One pool of threads for packing and unpacking chunks, shared by all vaults of a process.

The codecs let go of the interpreter's lock, so that threads really use several cores.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

_pool: ThreadPoolExecutor | None = None
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


def _after_fork() -> None:
    # A forked child has the pool's books but not its threads: work given to it would never be done.
    global _pool, _lock
    _pool = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
