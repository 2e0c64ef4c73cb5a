"""What may be wrong with a vault, and what verifying one found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        path: the file, within the vault.
        reason: what is wrong with it.
        examples: those it touches; none where the whole vault is concerned.
        units: numbers of the units that it is a part of; none where it is not of a unit.
    """

    path: str
    reason: str
    examples: tuple[int, ...] = ()
    units: range = range(0)


@dataclass(frozen=True)
class VerifyReport:
    """What verifying found.

    Attributes:
        damages: what is wrong, in the order it was met.
        units: units of the vault.
        bytes: of the files that were checked.
        full: whether every byte was read and decoded.
        derived: largest difference between stored attention and what queries and keys give; None
            where it was not asked for.
    """

    damages: tuple[Damage, ...]
    units: int
    bytes: int
    full: bool
    derived: float | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages
