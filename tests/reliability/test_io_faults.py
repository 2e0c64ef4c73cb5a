"""Disks that fail: every call that reaches one, in turn, with every errno that matters.

A failed write must end in one line and leave a vault that another run completes to the very bytes
of a run without faults. A failed or lying read must end in one line, and never in values.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import subprocess
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from io_layer import Call, io_layer
from stand_in import World, read_all, read_damaged, tree

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORLD = World(lengths=(5, 9, 8, 12, 3))
COUNT = len(WORLD.lengths)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)


def _failing(number: int, code: int) -> Callable[..., Any]:
    """Fail one call; a write first takes half of what it was given, as a full disk does."""
    state = {"left": number}

    def interfere(
        call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        state["left"] -= 1
        if state["left"]:
            return function(*args, **kwargs)
        if call.name == "writev" and len(args[1][0]) > 1:
            state["left"] = 1  # the next call fails
            return os.write(args[0], bytes(args[1][0])[: len(args[1][0]) // 2])
        raise OSError(code, os.strerror(code), args[0] if args else None)

    return interfere


def _checked(error: qkvault.QKVaultError, what: str) -> str:
    assert "\n" not in str(error), what
    assert type(error).exit_code in (2, 3, 4), what
    return type(error).__name__


def _write_with_fault(path: Path, number: int, code: int) -> str:
    """Write a vault with one failing call; returns the name of the error, or ``"none"``."""
    with io_layer(path.parent, _failing(number, code)):
        try:
            WORLD.write(path)
        except qkvault.QKVaultError as error:
            return _checked(error, f"call {number}, {errno.errorcode[code]}: {error}")
    return "none"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return WORLD.write(tmp_path / "whole" / "v")


def _write_faults(folder: Path, whole: Path, faults: list[tuple[int, int]]) -> Counter[str]:
    expected, truth = tree(whole), read_all(whole, COUNT)
    met: Counter[str] = Counter()
    for number, code in faults:
        path = folder / f"{number}-{code}" / "v"
        path.parent.mkdir()
        met[_write_with_fault(path, number, code)] += 1
        if qkvault.vault_state(path) in ("unfinished", "complete"):
            assert not read_damaged(path, truth, COUNT, partial=True).wrong
        WORLD.write(path)
        assert tree(path) == expected, (number, code)
        assert [entry.name for entry in path.parent.iterdir()] == ["v"], (number, code)
    return met


def _calls_of_writing(folder: Path) -> int:
    folder.mkdir()
    with io_layer(folder) as layer:
        WORLD.write(folder / "v")
    return len(layer.calls)


def test_some_failing_writes(tmp_path: Path, whole: Path) -> None:
    count = _calls_of_writing(tmp_path / "counted")
    numbers = range(1, count + 1, max(1, count // 40))
    faults = list(zip(numbers, itertools.cycle(ERRORS), strict=False))
    met = _write_faults(tmp_path, whole, faults)
    assert met["ResourceError"] > 20


@pytest.mark.slow
def test_every_call_of_writing_fails(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = _calls_of_writing(tmp_path / "counted")
    met = _write_faults(
        tmp_path, whole, [(n, code) for n in range(1, count + 1) for code in ERRORS]
    )
    with capsys.disabled():
        print(f"\n{sum(met.values())} write faults over {count} calls: {dict(met)}")
    assert met["ResourceError"] > count


def _read_everything(path: Path, truth: dict[str, Any]) -> tuple[int, int]:
    served = read_damaged(path, truth, COUNT)
    assert not served.wrong
    return served.right, served.refused


def _read_faults(whole: Path, faults: list[tuple[int, int]]) -> tuple[int, int]:
    truth = read_all(whole, COUNT)
    right = refused = 0
    for number, code in faults:
        with io_layer(whole, _failing(number, code)):
            found = _read_everything(whole, truth)
        right, refused = right + found[0], refused + found[1]
        with io_layer(whole, _failing(number, code)):
            try:
                report = qkvault.verify(whole, full=True)
            except qkvault.QKVaultError as error:
                _checked(error, f"verify, call {number}")
            else:
                assert all("\n" not in damage.reason for damage in report.damages)
    return right, refused


def _calls_of_reading(whole: Path, truth: dict[str, Any]) -> int:
    with io_layer(whole) as layer:
        _read_everything(whole, truth)
    return len(layer.calls)


def test_some_failing_reads(whole: Path) -> None:
    count = _calls_of_reading(whole, read_all(whole, COUNT))
    numbers = range(1, count + 1, max(1, count // 30))
    right, refused = _read_faults(whole, list(zip(numbers, itertools.cycle(ERRORS), strict=False)))
    assert right > refused > 0


@pytest.mark.slow
def test_every_call_of_reading_fails(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = _calls_of_reading(whole, read_all(whole, COUNT))
    faults = [(n, code) for n in range(1, count + 1) for code in (errno.EIO, errno.EACCES)]
    right, refused = _read_faults(whole, faults)
    with capsys.disabled():
        print(f"\n{len(faults)} read faults over {count} calls: {right} right, {refused} refused")
    assert right > refused > 0


def _lying(random: np.random.Generator, chance: float) -> Callable[..., Any]:
    """Reads that come short, empty, late or not at all, as from a tired network disk."""

    def interfere(
        call: Call, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if call.name != "pread" or random.random() >= chance:
            return function(*args, **kwargs)
        fd, size, offset = args
        match random.integers(4):
            case 0:
                return b""
            case 1:
                return function(fd, max(size // 2, 1), offset)
            case 2:
                return function(fd, 1, offset)
            case _:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    return interfere


def _flaky_reads(whole: Path, rounds: int) -> tuple[int, int]:
    truth = read_all(whole, COUNT)
    random = np.random.default_rng(4)
    right = refused = 0
    for _ in range(rounds):
        with io_layer(whole, _lying(random, 0.3)):
            found = _read_everything(whole, truth)
        right, refused = right + found[0], refused + found[1]
    return right, refused


def test_flaky_reads_are_never_served(whole: Path) -> None:
    right, refused = _flaky_reads(whole, 12)
    assert right > 0 < refused


@pytest.mark.slow
def test_many_flaky_reads(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, refused = _flaky_reads(whole, 300)
    with capsys.disabled():
        print(f"\nflaky reads: {right} right, {refused} refused, 0 wrong")
    assert right > 0 < refused


def test_short_reads_alone_do_no_harm(whole: Path) -> None:
    """A read may always give less than was asked for; that is no error."""

    def one_byte(call: Call, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if call.name == "pread" and args[1] > 700:
            args = (args[0], 700, args[2])
        return function(*args, **kwargs)

    truth = read_all(whole, COUNT)
    with io_layer(whole, one_byte):
        assert _read_everything(whole, truth) == (len(truth), 0)


@contextmanager
def _tiny_disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _grow_disk(folder: Path, size: int) -> None:
    options = ["mount", "-o", f"remount,size={size}", str(folder)]
    subprocess.run(options, check=True, capture_output=True)


@pytest.mark.skipif(not Path("/bin/mount").exists(), reason="no mount command")
def test_a_disk_that_is_really_full(tmp_path: Path, whole: Path) -> None:
    """A disk that fills up again and again, and gets a little more room each time."""
    expected = tree(whole)
    disk = tmp_path / "disk"
    page = os.sysconf("SC_PAGE_SIZE")
    failures = 0
    with _tiny_disk(disk, 8 * page):
        for pages in itertools.count(8, 7):
            _grow_disk(disk, pages * page)
            try:
                WORLD.write(disk / "v")
                break
            except qkvault.ResourceError as error:
                told = str(error)
            assert "No space left" in told
            assert "\n" not in told
            failures += 1
        assert tree(disk / "v") == expected
        assert qkvault.verify(disk / "v", full=True).ok
    assert failures > 5


def test_files_that_may_not_grow(tmp_path: Path, whole: Path) -> None:
    """A limit on file size, as a quota or an old file system would set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in whole.rglob("*") if file.is_file())
    failures = 0
    try:
        for limit in (100, 1000, largest // 2, largest - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            with pytest.raises(qkvault.ResourceError, match="File too large"):
                WORLD.write(tmp_path / "v")
            failures += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    WORLD.write(tmp_path / "v")
    assert tree(tmp_path / "v") == tree(whole)
    assert failures == 4


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    """Read-only by mount where that is permitted, since root passes over mode bits."""
    WORLD.open_writer(tmp_path / "v").close()
    bind = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if bind.returncode:
        if os.geteuid() == 0:
            pytest.skip(f"root without the right to mount: {bind.stderr.strip()}")
        (tmp_path / "v").chmod(0o500)
        tmp_path.chmod(0o500)
    try:
        for name in ("v", "new"):
            with pytest.raises(qkvault.ResourceError) as caught:
                WORLD.write(tmp_path / name)
            assert "\n" not in str(caught.value)
    finally:
        if not bind.returncode:
            subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)
        tmp_path.chmod(0o700)
        (tmp_path / "v").chmod(0o700)
    WORLD.write(tmp_path / "v")
    assert qkvault.verify(tmp_path / "v", full=True).ok


def test_a_sound_vault_is_readable_where_nothing_can_be_written(
    tmp_path: Path, whole: Path
) -> None:
    def read_only(call: Call, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if call.changes or call.name == "flock":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return function(*args, **kwargs)

    truth = read_all(whole, COUNT)
    with io_layer(whole, read_only):
        assert _read_everything(whole, truth) == (len(truth), 0)
        assert qkvault.verify(whole, full=True).ok
