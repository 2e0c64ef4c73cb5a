"""Records that are parsed when they are asked for: parsed, they take ten times their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from .records import parse_record

if TYPE_CHECKING:
    from .spec import Record
    from .vault import Vault


class LazyRecords(Sequence["Record"]):
    """Records of some examples of a vault, whose bytes are read at once."""

    def __init__(self, vault: Vault, examples: Sequence[int]) -> None:
        """Read them.

        Raises:
            VaultError: the file that they lie in is damaged.
        """
        self._examples = examples
        self._lines = [vault.record_line(example) for example in examples]
        self._has_target = vault.spec.target

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Record]: ...
    def __getitem__(self, place: int | slice) -> Record | Sequence[Record]:
        """Parse one, or some.

        Raises:
            VaultError: it is damaged.
        """
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        line, example = self._lines[place], self._examples[place]
        return parse_record(line, example, has_target=self._has_target)
