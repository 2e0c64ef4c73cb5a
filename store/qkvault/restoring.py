"""Damaged ``zarr.json`` files, made again from the others: the root holds a copy of each.

The plan names the digest of every one, so that what is made again is known to be what was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import disk
from .documents import MAX_DOCUMENT_BYTES, canonical_bytes, parse_json, sha256_hex
from .errors import VaultError
from .metadata import root_document, root_members
from .store import PLAN, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from .plan import Plan


def restorable_metadata(folder: Path, plan: Plan, damaged: Iterable[str]) -> dict[str, bytes]:
    """The bytes of those damaged files that can be made again, by path."""
    lost = [path for path in damaged if path in plan.metadata]
    if not lost:
        return {}
    root = _read_sound(folder, plan, ROOT)
    made = _make_root(folder, plan) if root is None else _take_members(root, lost)
    return {path: data for path, data in made.items() if sha256_hex(data) == plan.metadata[path]}


def write_metadata(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files in the place of damaged ones.

    Raises:
        ResourceError: the disk refuses.
    """
    for path, data in files.items():
        file = folder / path
        # One name for all attempts: what a killed one left, the next writes over.
        temporary = file.with_name(f".{file.name}.partial")
        with disk.writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                disk.write_file(temporary, data)
                temporary.replace(file)
                disk.sync_folder(file.parent)
            finally:
                temporary.unlink(missing_ok=True)


def _read_sound(folder: Path, plan: Plan, path: str) -> bytes | None:
    try:
        data = disk.read_whole(folder / path, MAX_DOCUMENT_BYTES)
    except VaultError:
        return None
    return data if sha256_hex(data) == plan.metadata[path] else None


def _make_root(folder: Path, plan: Plan) -> dict[str, bytes]:
    """The root's file of all the others; nothing if one of them is damaged too."""
    members: dict[str, Any] = {}
    for path in plan.metadata:
        if path == ROOT:
            continue
        data = _read_sound(folder, plan, path)
        if data is None:
            return {}
        members[path.removesuffix(f"/{ROOT}")] = parse_json(data, path)
    return {ROOT: root_document({"qkvault": {"format": plan.spec.format, "plan": PLAN}}, members)}


def _take_members(root: bytes, paths: Iterable[str]) -> dict[str, bytes]:
    """Files of the root's copies of them."""
    members = root_members(root, ROOT)
    kept = {path: members.get(path.removesuffix(f"/{ROOT}")) for path in paths}
    return {path: canonical_bytes(copy) for path, copy in kept.items() if isinstance(copy, dict)}
