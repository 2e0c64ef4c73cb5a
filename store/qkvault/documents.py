"""Canonical JSON documents that carry their own hash.

A document is a JSON object written in exactly one way (keys sorted, no spaces, UTF-8, a newline at
the end) whose ``"hash"`` is the SHA-256 of the same object without it. A changed byte is noticed
on reading, and equal contents are equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from .errors import VaultError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .spec import Json

MAX_DOCUMENT_BYTES = 64 << 20
"""No JSON file of a vault is larger; a larger one is refused before it is read."""

_SHOWN = 80


def canonical_bytes(value: Mapping[str, Any]) -> bytes:
    """Spell a JSON object in its one canonical way.

    Raises:
        ValueError: a NaN, an infinity or text that is not valid Unicode.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8") + b"\n"


def sha256_hex(data: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def seal(body: Mapping[str, Json]) -> bytes:
    """Canonical bytes of a document with its hash put in."""
    digest = sha256_hex(canonical_bytes(body))
    return canonical_bytes({**body, "hash": digest})


def parse_json(data: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object that may come from anybody.

    Raises:
        VaultError: not JSON, not an object, or nested deeper than Python reads.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise VaultError(f"{name} has {len(data)} bytes; a vault's JSON files are smaller")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VaultError(f"{name} is damaged: it is not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise VaultError(f"{name} is damaged: a JSON object was expected")
    return value


def unseal(data: bytes, name: str) -> dict[str, Any]:
    """Parse a document and check its hash; the hash stays in the result.

    Raises:
        VaultError: the bytes are not those that were sealed.
    """
    value = parse_json(data, name)
    body = {key: item for key, item in value.items() if key != "hash"}
    try:
        sealed = seal(body)
    except (ValueError, RecursionError):
        sealed = b""
    if sealed != data:
        raise VaultError(f"{name} is damaged: its contents do not match its hash")
    return value


def differing(
    ours: Mapping[str, Json], theirs: Mapping[str, Json]
) -> Iterator[tuple[str, str, str]]:
    """Each key whose values differ, with both as JSON, cut to what a message can hold."""
    for key in sorted({*ours, *theirs}):
        pair = [_spelled(values, key) for values in (ours, theirs)]
        if pair[0] != pair[1]:
            yield key, pair[0][:_SHOWN], pair[1][:_SHOWN]


def _spelled(values: Mapping[str, Json], key: str) -> str:
    return canonical_bytes({"": values[key]})[4:-2].decode() if key in values else "absent"
