"""Runs something in a child that may take only so much memory and time."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY = 384 << 20
"""Bytes that a guarded child may take beyond what it has at its start."""


class Overrun(AssertionError):
    """A guarded child hung, crashed, or raised what it should not."""


def guarded(work: Callable[[], Any], seconds: float, memory: int = MEMORY) -> Any:
    """Run ``work`` in a forked child and return its answer, which must be JSON.

    Raises:
        Overrun: the child took too long or died; an exception that left ``work``.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while threads run
        child = os.fork()
    if child == 0:
        os.close(reader)
        _work_in_child(work, writer, memory)
    os.close(writer)
    try:
        return _wait(child, reader, seconds)
    finally:
        os.close(reader)


def _work_in_child(work: Callable[[], Any], writer: int, memory: int) -> None:
    code = 1
    try:
        limit = _virtual_size() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        answer = json.dumps(work()).encode()
        os.write(writer, answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, reader: int, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise Overrun(f"it took more than {seconds} s")
        time.sleep(0.002)
    if status:
        raise Overrun(f"the child ended with wait status {status}")
    return json.loads(os.read(reader, 1 << 16))


def _virtual_size() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
