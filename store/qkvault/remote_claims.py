"""Who may write a unit of a vault on an object store: the lease, and conditions that fence.

::

    .partial/00000003.claim          the lease: {"beats": ..., "token": ...}

It is put only if there is none. The holder puts it anew every :data:`qkvault.claims.BEAT_S`
seconds, only over the one it put last. A lease that nobody has put for
:data:`qkvault.claims.LEASE_S` seconds, by the store's own clock, is stale, and whoever puts another
over it first has the unit.

A holder wrongly given up for dead can still send files. Each is put only if none stands there, or
over one that is older than the holder's claim: what the next holder has put is not overwritten. The
loser learns that it lost.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import disk
from .errors import ResourceError, UnitTaken, VaultError
from .remote import Changed

if TYPE_CHECKING:
    from .remote import ObjectInfo, RemotePath

_SAME_SECOND = 1.0
"""Stores tell times in whole seconds."""


class RemoteClaim:
    """The right to write a unit; as :class:`qkvault.claims.Claim`.

    Attributes:
        folder: on this machine, for files until they are put.
        lost: whether the claim was given back, or another process has taken the unit over.
    """

    def __init__(self, vault: RemotePath, partial: str, unit: int, lease_s: float) -> None:
        """Take the claim.

        Raises:
            UnitTaken: another process holds it.
            ResourceError: the store refuses.
        """
        self.lost = False
        self._unit = unit
        self._lease = vault / partial / f"{unit:08d}.claim"
        self._lease_s = lease_s
        self._token = secrets.token_hex(8)
        self._beats = 0
        self._tag: str | None = None
        self._since = self._take()
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="qkvault-unit-"))
        except OSError as error:
            self.release()
            raise ResourceError(f"cannot make a folder for a unit's files: {error}") from error

    def beat(self) -> None:
        """Show that the holder lives; learn whether another has the unit."""
        with suppress(ResourceError):  # the next beat may come through
            try:
                self._put_lease(self._tag)
            except Changed:
                self.lost = not self._is_ours()

    def release(self) -> None:
        """Give the claim back, with all that is in its folder; safe to call twice."""
        if not self.lost:
            self.lost = True
            with suppress(VaultError):
                found = self._lease.bucket.look(self._lease.key)
                if found is not None and found.e_tag == self._tag:
                    self._lease.bucket.remove([self._lease.key])
        if hasattr(self, "folder"):
            disk.sweep(self.folder)

    def forget(self) -> None:
        """Let go without giving back."""
        self.lost = True

    def publish(self, file: Path, target: RemotePath) -> None:
        """Put a file of this attempt under its final name.

        Raises:
            UnitTaken: another process has put one since this claim was taken.
            ResourceError: the store refuses.
        """
        self._put(target, file)

    def publish_commit(self, target: RemotePath, data: bytes) -> None:
        """Put the unit's commit, over none but one that was damaged before the claim was taken."""
        self._put(target, data)

    def _put(self, target: RemotePath, data: bytes | Path) -> None:
        over: str | None = None
        while True:
            try:
                target.bucket.put(target.key, data, over)
                return
            except Changed:
                found = target.bucket.look(target.key)
            if found is not None and self._is_same(target, data, found):
                return  # put by this process, whose answer was lost, or by its like
            if found is not None and found.st_mtime > self._since:
                self.lost = True
                raise UnitTaken(f"unit {self._unit} was taken over by another process")
            over = None if found is None else found.e_tag

    def _is_same(self, target: RemotePath, data: bytes | Path, found: ObjectInfo) -> bool:
        whole = data if isinstance(data, bytes) else data.read_bytes()
        if found.st_size != len(whole):
            return False
        return target.bucket.read(target.key, len(whole)) == whole

    def _take(self) -> float:
        """Put the lease; returns when, by the store's clock."""
        over: str | None = None
        while True:
            try:
                self._put_lease(over)
            except Changed:
                if not self._is_ours():
                    over = self._stale_tag()
                    continue
            found = self._lease.bucket.look(self._lease.key)
            if found is None or found.e_tag != self._tag:
                raise self._taken()
            return found.st_mtime

    def _stale_tag(self) -> str | None:
        """Tag of the lease of a dead holder; None if it was just given back.

        Raises:
            UnitTaken: the holder lives, as far as can be known.
        """
        found = self._lease.bucket.look(self._lease.key)
        if found is None:
            return None
        # Both times are of the store's own clock.
        probe = self._lease.parent / f"{self._unit:08d}.{self._token}"
        try:
            probe.bucket.put(probe.key, b"", None)
            now = probe.bucket.look(probe.key)
        except Changed:
            now = None
        finally:
            probe.bucket.remove([probe.key])
        if now is None or now.st_mtime - found.st_mtime <= self._lease_s + _SAME_SECOND:
            raise self._taken()
        return found.e_tag

    def _taken(self) -> UnitTaken:
        return UnitTaken(f"unit {self._unit} is being written by another process")

    def _put_lease(self, over: str | None) -> None:
        self._beats += 1
        # No two have the same bytes: tags may be made of the bytes alone.
        text = json.dumps({"beats": self._beats, "token": self._token}, sort_keys=True)
        self._tag = self._lease.bucket.put(self._lease.key, text.encode(), over)

    def _is_ours(self) -> bool:
        """Whether the lease that stands there is the last one put, whose answer was lost."""
        try:
            data = self._lease.bucket.read(self._lease.key, 4096)
            found = self._lease.bucket.look(self._lease.key)
            told = json.loads(data or b"{}")
            ours = bool(told == {"beats": self._beats, "token": self._token})
        except (VaultError, ValueError, RecursionError):
            return False
        if ours and found is not None:
            self._tag = found.e_tag
        return ours
