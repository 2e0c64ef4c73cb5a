"""One vault, many threads, forked children; few open files and little memory."""

from __future__ import annotations

import gc
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault.cache import Cache
from vaults import make_vault

LENGTHS = [5, 40, 90, 17, 33, 64, 128, 300] * 4


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vaults") / "v"
    return make_vault(folder, lengths=LENGTHS, layers=4, heads=6, key_heads=6)


def sums(vault: qkvault.Vault, indices: list[int]) -> list[float]:
    return [
        float(vault[i].attention[:, :].sum()) + float(vault[i].query[1, 2].sum()) for i in indices
    ]


def test_threads_read_the_same_as_one(path: Path) -> None:
    truth = sums(qkvault.open(path), list(range(len(LENGTHS))))
    vault = qkvault.open(path)
    orders = [list(np.random.default_rng(seed).permutation(len(LENGTHS))) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        for order, found in zip(orders, threads.map(lambda o: sums(vault, o), orders), strict=True):
            assert found == [truth[i] for i in order]


def test_closing_while_others_read_does_no_harm(path: Path) -> None:
    vault = qkvault.open(path)
    truth = sums(vault, [7] * 3)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(sums, vault, [7] * 3) for _ in range(12)]
        for _ in range(50):
            vault.close()
        assert all(future.result() == truth for future in running)


def test_a_forked_child_goes_on_reading(path: Path) -> None:
    vault = qkvault.open(path)
    every = list(range(len(LENGTHS)))
    truth = sums(vault, every)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if sums(vault, every) == truth else 2
            finally:
                os._exit(code)
        children.append(child)
    assert sums(vault, every) == truth
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")
def test_files_are_few_and_closed(path: Path) -> None:
    gc.collect()
    before = open_files()
    vault = qkvault.open(path)
    sums(vault, list(range(len(LENGTHS))))
    assert open_files() - before < 130
    vault.close()
    assert open_files() == before


def test_reading_goes_on_when_files_run_out(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    vault = qkvault.open(path)
    sums(vault, [0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(qkvault.ResourceError, match="ulimit -n"):
            vault[2].attention[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert vault[2].attention[0].shape == (6, 90, 90)


def test_a_cache_keeps_what_was_used_last_within_its_bounds() -> None:
    cache: Cache[str, str] = Cache(3, weight=10)
    for name in "abc":
        cache.put(name, name.upper(), 2)
    assert cache.get("a") == "A"
    cache.put("d", "D", 2)
    assert cache.get("b") is None
    assert cache.get("a") == "A"
    cache.put("e", "E", 9)
    assert cache.get("e") == "E"
    assert cache.get("a") is None
    assert cache.put("e", "another", 1) == "E"
    assert cache.get_or_make("f", lambda: "F") == "F"
    cache.clear()
    assert cache.get("f") is None
