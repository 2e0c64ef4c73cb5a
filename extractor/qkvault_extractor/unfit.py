"""Examples that a model cannot be run on, or of which it gives what cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from qkvault import InputError, QKVaultError, ResourceError

if TYPE_CHECKING:
    from qkvault import VaultWriter

OVERFLOW: Final = (
    "the model's arithmetic overflows on it: use --dtype float32 if it ran in less, or another"
    " model"
)
"""What to do where values are not finite."""


@dataclass(frozen=True)
class Flaw:
    """What is wrong with an example; small, for it may travel.

    Attributes:
        reason: in a few words.
        remedy: what may be done about it, the example being kept.
        lacks_memory: whether it is the device's memory that does not suffice.
    """

    reason: str
    remedy: str
    lacks_memory: bool = False

    def error(self, place: str) -> QKVaultError:
        """The error of a run that stops at it; ``place`` says which example, or which row."""
        kind = ResourceError if self.lacks_memory else InputError
        return kind(
            f"{place}: {self.reason}; {self.remedy}, or leave such rows out with"
            " qkvault extract --on-bad skip"
        )


class Unfit(Exception):
    """Some examples have a flaw.

    Attributes:
        flaws: by the example's number in the vault.
        written: bytes written before.
    """

    def __init__(self, flaws: Mapping[int, Flaw], written: int = 0) -> None:
        super().__init__(f"{len(flaws)} examples have a flaw")
        self.flaws = dict(flaws)
        self.written = written


@dataclass
class Findings:
    """Flaws that units come back with.

    Attributes:
        stops: whether the first one ends the run.
        flaws: by the example's number in the vault.
    """

    stops: bool
    flaws: dict[int, Flaw] = field(default_factory=dict)

    def add(self, flaws: Mapping[int, Flaw], written: int) -> None:
        """Take in those of a unit.

        Raises:
            Unfit: there are some, and the run stops at them.
        """
        self.flaws.update(flaws)
        if self.stops:
            self.tell(written)

    def tell(self, written: int) -> None:
        """Raise :class:`Unfit` if there are any."""
        if self.flaws:
            raise Unfit(self.flaws, written)


@contextmanager
def naming_examples(writer: VaultWriter) -> Iterator[None]:
    """Turn :class:`Unfit` into an error that names the first example by its id."""
    try:
        yield
    except Unfit as unfit:
        number = min(unfit.flaws)
        raise unfit.flaws[number].error(f"example {writer.record(number).id}") from None
