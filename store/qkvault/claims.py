"""Who may write a unit: one process at a time, and never one that was given up for dead.

::

    .partial/00000003.claim          the lease: a link to the holder's claim.json, made exclusively
    .partial/00000003.5f0c2a91/      the attempt of one holder, named by its token
        claim.json                   {"boot": ..., "locked": ..., "token": ...}; its age is the
                                     time since the holder last showed that it lives
        ...                          files on their way to their final names

A lease is stale when its holder is dead: on one machine the lock on ``claim.json`` tells at once,
and a lease taken on another machine is stale once nobody has touched it for :data:`LEASE_S`.

Whoever takes the lease first renames every other attempt of the unit away. All that a holder
publishes, its commit too, is moved or linked from its own attempt's folder; so a process that was
wrongly given up for dead (stopped, or cut off from a shared disk) finds its files gone and can
publish nothing, whenever it wakes. Taking a lease in error costs a unit's work, never its truth.
No token stands in the commit itself: who wrote a unit leaves no trace in its bytes.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import disk
from .errors import UnitTaken
from .remote import RemotePath
from .remote_claims import RemoteClaim

if TYPE_CHECKING:
    from .remote import Place

PARTIAL: Final = ".partial"
LEASE_S: Final = 120.0
"""Seconds without a sign of life after which a claim made on another machine is stale."""
BEAT_S: Final = LEASE_S / 6

_MAX_CLAIM_BYTES: Final = 4096


class UnitClaim(Protocol):
    """The right to write a unit, wherever the vault stands.

    Attributes:
        folder: on this machine, for the unit's files until they get their final names.
    """

    folder: Path

    @property
    def lost(self) -> bool:
        """Whether it was given back, or another process has taken the unit over."""
        ...

    def beat(self) -> None:
        """Show that the holder lives."""
        ...

    def release(self) -> None:
        """Give it back, with all that is in its folder; safe to call twice."""
        ...

    def forget(self) -> None:
        """Let go without giving back."""
        ...

    def publish(self, file: Path, target: Any) -> None:
        """Bring a file to its final name; ``UnitTaken`` or ``ResourceError`` where it cannot."""
        ...

    def publish_commit(self, target: Any, data: bytes) -> None:
        """Put the unit's commit, over none but a damaged one; errors as :meth:`publish`."""
        ...


def take_claim(vault: Place, unit: int) -> UnitClaim:
    """Take the claim to a unit, and show from then on that its holder lives.

    Raises:
        UnitTaken: another process holds it.
        ResourceError: disk or object store refuses.
    """
    if isinstance(vault, RemotePath):
        claim: UnitClaim = RemoteClaim(vault, PARTIAL, unit, LEASE_S)
    else:
        claim = Claim(vault, unit)
    _heart.add(claim)
    return claim


class Claim:
    """The right to write a unit, and a folder for its files until they get their final names.

    Attributes:
        folder: of this attempt; nobody else writes in it.
    """

    def __init__(self, vault: Path, unit: int) -> None:
        """Take the claim.

        Raises:
            UnitTaken: another process holds it.
            ResourceError: the disk refuses.
        """
        self._unit = unit
        self._lease = vault / PARTIAL / f"{unit:08d}.claim"
        self._fd = -1
        token = secrets.token_hex(4)
        self.folder = vault / PARTIAL / f"{unit:08d}.{token}"
        try:
            with disk.writing(self.folder):
                self.folder.parent.mkdir(exist_ok=True)
                self._begin(token)
        except BaseException:
            self.release()
            disk.sweep(self.folder)
            raise

    @property
    def lost(self) -> bool:
        """Whether the claim was given back, or another process has taken the unit over."""
        try:
            self.folder.stat()
        except FileNotFoundError:
            return True
        except OSError:
            pass
        return self._fd < 0

    def beat(self) -> None:
        """Show that the holder lives."""
        with suppress(OSError):
            os.utime(self._fd)

    def release(self) -> None:
        """Give the claim back, with all that is in its folder; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        with suppress(OSError):
            if os.path.samestat(os.fstat(fd), self._lease.stat()):
                self._lease.unlink()
        disk.sweep(self.folder)
        os.close(fd)

    def forget(self) -> None:
        """Let go without giving back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def publish(self, file: Path, target: Path) -> None:
        """Move a file of this attempt to its final name, durably.

        Raises:
            ResourceError: the disk refuses, or another process has the unit now.
        """
        with disk.writing(target):
            file.replace(target)
            disk.sync_folder(target.parent)

    def publish_commit(self, target: Path, data: bytes) -> None:
        """Put the unit's commit, over none but a damaged one."""
        with disk.writing(target), suppress(FileNotFoundError):
            # None that is valid can stand there. Moved, not removed, so that only the holder of
            # the claim can do it.
            target.rename(self.folder / "damaged-commit")
        disk.put_if_absent(target, data, self.folder / target.name)

    def _begin(self, token: str) -> None:
        try:
            self._fd = self._open_attempt(token)
            self._take_lease()
        except FileNotFoundError:  # fenced off, or swept away with all claims of a finished vault
            raise UnitTaken(f"unit {self._unit} has just been taken by another process") from None
        self._fence_others()

    def _open_attempt(self, token: str) -> int:
        self.folder.mkdir()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self.folder / "claim.json", flags, 0o666)
        try:
            locked = disk.try_lock(fd) is True
            text = json.dumps({"boot": _boot(), "locked": locked, "token": token})
            disk.write_buffers(fd, [text.encode()])
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _take_lease(self) -> None:
        while True:
            try:
                os.link(self.folder / "claim.json", self._lease)
                return
            except FileExistsError:
                self._remove_stale_lease()

    def _remove_stale_lease(self) -> None:
        """Remove the lease of a dead holder.

        Raises:
            UnitTaken: the holder lives, as far as can be known.
        """
        try:
            fd = os.open(self._lease, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:  # it has just been given back
            return
        try:
            if not self._is_stale(fd):
                raise UnitTaken(f"unit {self._unit} is being written by another process")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), self._lease.stat()):
                    self._lease.unlink()
        finally:
            os.close(fd)

    def _is_stale(self, fd: int) -> bool:
        locked = disk.try_lock(fd)
        if locked is False:
            return False
        if locked and _died_here(fd):
            return True
        # Both times are of the disk's own clock, which other machines share.
        os.utime(self._fd)
        return os.fstat(self._fd).st_mtime - os.fstat(fd).st_mtime > LEASE_S

    def _fence_others(self) -> None:
        partial = self.folder.parent
        for other in list(partial.iterdir()):
            if other.stem == self._lease.stem and other not in (self.folder, self._lease):
                lost = other.with_name(f"{other.name}.lost")
                with suppress(FileNotFoundError):  # its holder has just removed it
                    other.rename(lost)
                disk.sweep(lost)


def _died_here(fd: int) -> bool:
    """Whether the holder had its lock on this machine, so that a free lock means a dead holder."""
    try:
        claim = json.loads(os.pread(fd, _MAX_CLAIM_BYTES, 0))
        return bool(claim["locked"] is True and claim["boot"] == _boot() != "")
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


@cache
def _boot() -> str:
    """Names this machine since it was started; empty where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


class _Heart:
    """A thread that shows, as long as there are claims, that their process lives."""

    def __init__(self) -> None:
        self._claims: weakref.WeakSet[UnitClaim] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, claim: UnitClaim) -> None:
        """Beat for a claim until it is released or forgotten."""
        with self._lock:
            self._claims.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="qkvault-claim")
                self._thread.start()

    def stop(self) -> None:
        """In a forked child, where the thread does not run: the claims are its parent's."""
        claims, self._claims = list(self._claims), weakref.WeakSet()
        self._lock, self._thread = threading.Lock(), None
        for claim in claims:
            claim.forget()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT_S):
            with self._lock:
                held = [claim for claim in self._claims if not claim.lost]
                if not held:
                    self._thread = None
                    return
            for claim in held:
                claim.beat()


_heart = _Heart()
os.register_at_fork(after_in_child=_heart.stop)
