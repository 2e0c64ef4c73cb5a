"""Everything that can go wrong with a request, in the one shape that an error has on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from qkvault import (
    InputError,
    Json,
    MissingArray,
    OutOfRange,
    QKVaultError,
    ResourceError,
    UnknownExample,
    VaultError,
)

# The first class that fits an error decides, so the narrow ones come first.
_KINDS: Final[tuple[tuple[type[QKVaultError], int, str], ...]] = (
    (UnknownExample, 404, "unknown_example"),
    (OutOfRange, 404, "out_of_range"),
    (MissingArray, 404, "missing_array"),
    (VaultError, 500, "vault"),
    (ResourceError, 503, "resource"),
    (InputError, 400, "bad_request"),
)
_ABSOLUTE_PATH: Final = re.compile(
    r"""(?<![\w.)\]])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:'"<>|]+[\\/])*([^\s\\/:'"<>|]+)"""
)
MESSAGE_LIMIT: Final = 500


@dataclass(frozen=True)
class Failure:
    """An answer that is an error.

    Attributes:
        status: HTTP status.
        kind: short name that a front-end may branch on; ``docs/viewer-api.md`` lists them.
        message: one line for people.
        extra: further entries of the error object.
        headers: further headers of the answer.
    """

    status: int
    kind: str
    message: str
    extra: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """The JSON body, UTF-8."""
        error = {"status": self.status, "kind": self.kind, "message": self.message, **self.extra}
        return json.dumps({"error": error}).encode()


class Refusal(Exception):
    """Carries a :class:`Failure` from where a request is read to where it is answered.

    It never leaves this package: a request is no call from a user's code, so that its errors are
    not among those of ``qkvault``.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def bad_request(message: str) -> Refusal:
    """A parameter is malformed, unknown or out of its limits."""
    return Refusal(Failure(400, "bad_request", message))


def from_error(error: QKVaultError, folders: Mapping[str, str]) -> Failure:
    """What a request that ran into ``error`` is answered.

    Args:
        error: from the store.
        folders: path of each vault being served, and what to call it instead.
    """
    message = str(error)
    for path, title in folders.items():
        message = message.replace(path, title)
    message = hide_paths(message)[:MESSAGE_LIMIT]
    for kind_of_error, status, kind in _KINDS:
        if isinstance(error, kind_of_error):
            return Failure(status, kind, message)
    return Failure(500, "vault", message)


def hide_paths(text: str) -> str:
    """``text`` with every absolute path cut to its last part: where files lie is nobody's business.

    >>> hide_paths("/home/ann/my.vault/plan.json is cut short")
    'plan.json is cut short'
    """
    return _ABSOLUTE_PATH.sub(r"\1", text)
