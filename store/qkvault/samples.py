"""A vault as a map-style dataset: what ``torch.utils.data.DataLoader`` asks for, without torch.

Samples hold numpy arrays; :meth:`Samples.collate` stacks them and, where the process has torch
loaded, hands them over as tensors. A worker process gets the path and the choice, not the data.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .corpus import CorpusReader
from .errors import InputError, OutOfRange, VaultError
from .selection import example_indices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .corpus import ScanArray, ScanItem, Which
    from .selection import Examples
    from .vault import Vault

Sample = dict[str, Any]


class Samples:
    """Chosen layers, heads and arrays of some examples, in an order of their own.

    A sample has ``index`` (the example's place in the vault), ``length`` (tokens), ``label``, and
    the arrays as float32, cropped to the example's length, their axes as
    :class:`qkvault.ScanItem` has them; of cross-attention, ``key_length`` too.
    """

    def __init__(
        self,
        vault: Vault,
        layer: Which = None,
        head: Which = None,
        arrays: Sequence[ScanArray] = ("query", "key"),
        *,
        stack: str | None = None,
        select: Examples = None,
        padding: float = math.nan,
    ) -> None:
        self._choice = (layer, head, arrays, stack)
        self._reader: CorpusReader | None = CorpusReader(vault, *self._choice)
        self._path, self._digest, self._partial = vault.path, vault.digest, not vault.complete
        self._indices = example_indices(vault, select)
        self._padding = padding

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> Sample:
        """One sample.

        Raises:
            OutOfRange: no such place.
            VaultError: a touched file or chunk is missing or damaged.
        """
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[Sample]:
        """Several samples, in the order given: a data loader asks for a batch at once."""
        wanted = np.asarray(places, np.int64)
        outside = (wanted < -len(self)) | (wanted >= len(self))
        if outside.any():
            raise OutOfRange(f"sample {wanted[outside][0]} was asked for; there are {len(self)}")
        reader = self._opened()
        items = reader.read_items(self._indices[wanted])
        return [_sample(reader, item) for item in items]

    def collate(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """Stack samples: give it to a data loader as ``collate_fn``.

        Args:
            samples: as :meth:`__getitem__` gives them.

        Returns:
            ``index``, ``length`` and the arrays with the batch as first axis, padded with the
            padding chosen to the longest; ``mask``, True at an example's own tokens ``(example,
            token)``; ``label`` likewise if all labels are numbers, else as a list. ``length`` and
            ``mask`` are of query tokens; of cross-attention there are ``key_length`` and
            ``key_mask`` too. Tensors if torch is loaded, numpy arrays if not.
        """
        if not samples:
            raise InputError("no samples were given to collate")
        batch: dict[str, Any] = {
            "index": np.array([sample["index"] for sample in samples], np.int64),
            "label": _as_numbers([sample["label"] for sample in samples]),
        }
        for name, mask in (("length", "mask"), ("key_length", "key_mask")):
            if name in samples[0]:
                lengths = np.array([sample[name] for sample in samples], np.int64)
                batch[name] = lengths
                batch[mask] = np.arange(lengths.max()) < lengths[:, None]  # (example, token)
        for name in samples[0].keys() - batch.keys():
            batch[name] = _stacked([sample[name] for sample in samples], self._padding)
        torch: Any = sys.modules.get("torch")
        if torch is None:
            return batch
        return {
            name: torch.from_numpy(values) if isinstance(values, np.ndarray) else values
            for name, values in batch.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def _opened(self) -> CorpusReader:
        if self._reader is None:
            from .vault import Vault

            vault = Vault(self._path, partial=self._partial)
            if vault.digest != self._digest:
                raise VaultError(f"{self._path} holds another vault than it did; make it again")
            self._reader = CorpusReader(vault, *self._choice)
        return self._reader


def _sample(reader: CorpusReader, item: ScanItem) -> Sample:
    sample: Sample = {"index": item.index, "length": item.length}
    if reader.stack.name == "cross":
        sample["key_length"] = item.key_length
    sample["label"] = reader.vault.record(item.index).label
    # A view would keep, and a worker would send, the whole block that it was read with.
    return sample | {name: values.copy() for name, values in item.arrays.items()}


def _as_numbers(labels: list[Any]) -> NDArray[Any] | list[Any]:
    numbers = all(isinstance(label, int | float) for label in labels)
    return np.array(labels) if numbers else labels


def _stacked(arrays: list[NDArray[np.float32]], padding: float) -> NDArray[np.float32]:
    shape = np.max([values.shape for values in arrays], axis=0)
    out = np.full((len(arrays), *shape), padding, np.float32)
    for row, values in enumerate(arrays):
        own = tuple(slice(size) for size in values.shape)
        out[row][own] = values
    return out
