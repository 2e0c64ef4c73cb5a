"""``commits/NNNNNNNN.json``, one per finished unit, and ``manifest.json``, once all units are."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from .documents import seal, unseal
from .errors import VaultError
from .plan import Plan, parse_receipt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .shards import ShardReceipt
    from .spec import Json

MAX_COMMIT_BYTES: Final = 256 << 10
MAX_MANIFEST_BYTES: Final = 1 << 20
COMMITS: Final = "commits"
MANIFEST: Final = "manifest.json"
_KEYS: Final = ("plan", "unit", "files", "hash")


@dataclass(frozen=True)
class Commit:
    """The word that a unit is finished.

    Attributes:
        unit: its number.
        files: path of each of its shards -> receipt.
        hash: of the whole record.
        notes: what it says besides, such as ``batches_below``.
    """

    unit: int
    files: Mapping[str, ShardReceipt]
    hash: str
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The word that the vault is finished.

    Attributes:
        commits: SHA-256 over the hashes of all commits, in order of units.
        bytes: stored bytes per array, such as ``encoder/attention``.
        hash: of the whole document: the vault's digest.
    """

    commits: str
    bytes: Mapping[str, int]
    hash: str


def commit_path(unit: int) -> str:
    """Path of a unit's commit within the vault."""
    return f"{COMMITS}/{unit:08d}.json"


def commit_bytes(
    plan: Plan,
    unit: int,
    files: Mapping[str, ShardReceipt],
    notes: Mapping[str, Json] | None = None,
) -> bytes:
    """The sealed bytes of a commit; ``notes`` is what it says besides."""
    receipts: dict[str, Json] = {path: asdict(receipt) for path, receipt in files.items()}
    return seal({**(notes or {}), "plan": plan.hash, "unit": unit, "files": receipts})


def parse_commit(data: bytes, plan: Plan, unit: int, name: str) -> Commit:
    """Read a commit.

    Raises:
        VaultError: damaged, of another unit or plan, or without one of the unit's shards.
    """
    document = unseal(data, name)
    if document.get("plan") != plan.hash or document.get("unit") != unit:
        raise VaultError(f"{name} belongs to another unit or another vault")
    try:
        files = {path: parse_receipt(value) for path, value in document["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VaultError(f"{name} is not a commit this release reads: {error!s:.300}") from None
    if sorted(files) != sorted(plan.unit_shards(unit)):
        raise VaultError(f"{name} does not list the files of unit {unit}")
    notes = {key: value for key, value in document.items() if key not in _KEYS}
    return Commit(unit, files, document["hash"], notes)


def commits_digest(hashes: Iterable[str]) -> str:
    """SHA-256 over the commits' hashes, one per line, in order of units."""
    digest = hashlib.sha256()
    for value in hashes:
        digest.update(value.encode("ascii", "replace") + b"\n")
    return digest.hexdigest()


def manifest_bytes(plan: Plan, commits: str, stored: Mapping[str, int]) -> bytes:
    """The sealed bytes of ``manifest.json``."""
    return seal(
        {
            "format": plan.spec.format,
            "complete": True,
            "plan": plan.hash,
            "units": plan.units,
            "commits": commits,
            "bytes": dict(stored),
        }
    )


def parse_manifest(data: bytes, plan: Plan, name: str) -> Manifest:
    """Read ``manifest.json``.

    Raises:
        VaultError: damaged or of another plan.
    """
    document = unseal(data, name)
    if document.get("plan") != plan.hash or document.get("units") != plan.units:
        raise VaultError(f"{name} belongs to another vault")
    commits, stored = document.get("commits"), document.get("bytes")
    if not (isinstance(stored, dict) and all(type(size) is int for size in stored.values())):
        raise VaultError(f"{name} is not a manifest this release reads: sizes are not numbers")
    if not isinstance(commits, str):
        raise VaultError(f"{name} is not a manifest this release reads")
    return Manifest(commits, stored, document["hash"])
