"""Every error QKVault raises on purpose.

    QKVaultError                 base; carries the command line's exit code
    ├── InputError         (2)   what the user gave cannot be used
    │   ├── PlanMismatch   (2)   the folder holds a vault made from another plan
    │   ├── NotFinite      (2)   the model gives values that are not finite
    │   ├── OutOfRange     (2)   an example, layer or head index the vault does not have; an
    IndexError too │   └── UnknownExample (2)   an id the vault does not have; a LookupError too
    ├── VaultError         (3)   the vault is damaged, unfinished, missing a part or unreadable
    │   └── MissingArray   (3)   the vault is sound but does not keep the array asked for
    └── ResourceError      (4)   the machine ran out: disk, memory, a device, an extra not installed
        └── UnitTaken      (4)   another process is writing the unit

A message says what was asked, what was found and what to do, on one line.
"""

from __future__ import annotations


class QKVaultError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is the command line's exit status."""

    exit_code = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """A text as a terminal may show it, whoever wrote parts of it.

    What is not printable (line ends, control sequences, marks that turn the direction of writing,
    halves of characters) is spelled as in a Python string.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class InputError(QKVaultError):
    """What the user gave (a path, a column, an option, an index) cannot be used."""

    exit_code = 2


class PlanMismatch(InputError):
    """The folder already holds a vault, made from other inputs, another model or other options."""


class NotFinite(InputError):
    """The model gives values that are not finite.

    Attributes:
        reason: which, in a few words.
    """

    def __init__(self, message: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class OutOfRange(InputError, IndexError):
    """An example, layer, head or token index that the vault does not have."""


class UnknownExample(InputError, LookupError):
    """An example id that the vault does not have."""


class VaultError(QKVaultError):
    """The vault is damaged, unfinished, hostile or of a format this release does not read."""

    exit_code = 3


class MissingArray(VaultError):
    """The vault is sound, but the array asked for was not kept when it was extracted."""


class ResourceError(QKVaultError):
    """The machine ran out of something: disk space, memory, a device, an installed extra."""

    exit_code = 4


class UnitTaken(ResourceError):
    """Another process is writing the unit; take another one, or wait for it."""
