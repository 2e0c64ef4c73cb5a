"""A stand-in for a vault in tests of the search table: records and logits in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from qkvault.spec import Json, Label, Record, Stack, VaultSpec

STACK = Stack("encoder", (0,), 2, 2, 4, 4, False, (0.5,))


def make_record(
    identity: str,
    *text: str,
    length: int = 3,
    label: Label = None,
    columns: dict[str, Json] | None = None,
) -> Record:
    """A record of ``length`` equal tokens."""
    zeros = (0,) * length
    return Record(
        id=identity,
        text=text or ("",),
        tokens=("x",) * length,
        token_ids=zeros,
        segments=zeros,
        special=zeros,
        label=label,
        columns=columns or {},
    )


class SourceInMemory:
    """What the table asks of a vault."""

    def __init__(
        self,
        records: Sequence[Record],
        logits: npt.NDArray[np.float32] | None = None,
        *,
        label_names: tuple[str, ...] = (),
        digest: str = "0123456789abcdef",
        complete: bool = True,
    ) -> None:
        self.records = records
        self.logits = logits
        outputs = 0 if logits is None else logits.shape[1]
        self.spec = VaultSpec((STACK,), ("attention",), "uint16", outputs, label_names, {})
        self.digest = digest
        self.complete = complete
        self.read = 0

    def __len__(self) -> int:
        return len(self.records)

    def iter_records(self, start: int = 0) -> Iterator[Record]:
        """The records, counting how often they have been read from the first on."""
        self.read += 1
        return iter(self.records[start:])

    def iter_outcomes(self) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """The logits of the even examples, then of the odd ones."""
        if self.logits is not None:
            for first in (0, 1):
                examples = np.arange(first, len(self.records), 2)
                yield examples, self.logits[examples]
