"""Ready-made features: examples that a processor has already made into a model's input.

They are read twice: once to learn shapes and hashes, so that all is known before the model runs,
and once when their turn comes. Of a sequence that loads its examples when asked for, no more than
a batch is held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from qkvault import InputError
from qkvault_extractor.checks import label_flaw, plain_label, surrogate_flaw, to_json
from qkvault_extractor.identity import text_hash
from qkvault_extractor.rows import Row

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from qkvault import Json, Label, Record

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Features:
    """One example, as a processor or feature extractor made it, without a batch axis.

    Attributes:
        values: numpy array or torch tensor of numbers, such as pixels ``(channel, height, width)``,
            a spectrogram ``(band, frame)`` or samples ``(sample,)``: whatever axes the model takes
            behind that of the batch. It is kept and run as float32.
        id: unique; the example's place, from 0, if None.
        text: a caption or transcript, to be shown and searched; the model does not see it.
        label: gold label, if there is one.
        columns: what else is known of the example, as JSON.
    """

    values: Any
    id: str | None = None
    text: str = ""
    label: Label = None
    columns: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an example's values were when they were first read."""

    place: int
    shape: Shape
    digest: bytes


class FeatureSet:
    """Examples of ready-made features, checked and hashed.

    Args:
        inputs: a sequence, which is read example by example when needed, or any other iterable,
            which is gathered first.

    Attributes:
        rows: what is known of each example, its values apart.
        shapes: shape of each one's values, and with :attr:`rows` in one order.
        hash: of rows and values, 64 hexadecimal digits.

    Raises:
        InputError: no examples; values that are no finite numbers; an id or label that cannot be.
    """

    def __init__(self, inputs: Iterable[Features]) -> None:
        lazy = hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")
        self._inputs = cast("Sequence[Features]", inputs) if lazy else list(inputs)
        self.rows: list[Row] = []
        self._seen: dict[str, _Seen] = {}
        digest = hashlib.sha256(b"qkvault features 1\n")
        for place in range(len(self._inputs)):
            example = self._inputs[place]
            row = _check(example, place)
            if row.id in self._seen:
                raise InputError(
                    f"{row.source}: id {row.id!r} stands at {self._seen[row.id].place} already"
                )
            values = _to_array(example.values, row)
            seen = _Seen(place, values.shape, _hash_values(values))
            self.rows.append(row)
            self._seen[row.id] = seen
            digest.update(seen.digest)
        if not self.rows:
            raise InputError("no features given; there has to be one example at least")
        digest.update(bytes.fromhex(text_hash(self.rows)))
        self.shapes = [seen.shape for seen in self._seen.values()]
        self.hash = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    def shape(self, example_id: str) -> Shape:
        """Shape of an example's values."""
        return self._seen[example_id].shape

    def read(self, example_id: str) -> NDArray[np.float32]:
        """Read an example's values.

        Raises:
            InputError: they are other values than when they were first read.
        """
        seen = self._seen[example_id]
        values = _to_array(self._inputs[seen.place].values, self.rows[seen.place])
        if _hash_values(values) != seen.digest:
            raise InputError(
                f"features {seen.place} have other values each time they are read; "
                "give such (random crops, noise) as fixed arrays"
            )
        return values


@dataclass(frozen=True)
class FeatureFeed:
    """Feeds features; only those of one shape share a forward pass, so that nothing is padded.

    Attributes:
        features: the examples.
        name: the model's argument, such as ``pixel_values``.
        dtype: what the model computes in.
        takes_batches: always.
    """

    features: FeatureSet
    name: str
    dtype: torch.dtype
    takes_batches: bool = True

    def make_inputs(self, records: Sequence[Record], device: torch.device) -> dict[str, Tensor]:
        """Give the values, ``(example, ...)``."""
        import torch

        values = np.stack([self.features.read(record.id) for record in records])
        return {self.name: torch.from_numpy(values).to(device, self.dtype)}

    def kinds(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """Number the shapes of the examples' values."""
        shapes = [self.features.shape(record.id) for record in records]
        numbers = {shape: number for number, shape in enumerate(sorted(set(shapes)))}
        return np.array([numbers[shape] for shape in shapes], np.int64)

    def choose_probe(self, records: Sequence[Record], most: int) -> list[Record]:
        """Choose the longest example, and where memory allows another one of its shape."""
        longest = max(records, key=lambda record: len(record.tokens))
        if len(longest.tokens) > most:
            return [longest]
        shape = self.features.shape(longest.id)
        others = (record for record in records if record.id != longest.id)
        twin = next((record for record in others if self.features.shape(record.id) == shape), None)
        return [longest] if twin is None else [longest, twin]


def _check(example: Features, place: int) -> Row:
    source = f"features {place}"
    if not isinstance(example, Features):
        raise InputError(
            f"{source}: a {type(example).__name__} was given; wrap an example's values in Features"
        )
    example_id = str(place) if example.id is None else example.id
    if not isinstance(example_id, str) or not example_id:
        raise InputError(f"{source}: its id is not a text, or an empty one")
    if not isinstance(example.text, str):
        raise InputError(f"{source}: its text is a {type(example.text).__name__}")
    try:
        columns = {name: to_json(value) for name, value in example.columns.items()}
    except TypeError as error:
        raise InputError(f"{source}: a column holds a {error}, which JSON has not") from error
    flaw = label_flaw(example.label) or surrogate_flaw([example_id, example.text, columns])
    if flaw:
        raise InputError(f"{source}: {flaw}")
    label = plain_label(example.label)
    return Row(place, source, (example.text,), example_id, label, columns)


def _to_array(values: Any, row: Row) -> NDArray[np.float32]:
    """Values as a contiguous float32 array."""
    if hasattr(values, "detach"):  # a tensor; of bfloat16 numpy knows nothing
        values = values.detach().cpu().float().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise InputError(
            f"{row.source}: values of type {array.dtype} and shape {array.shape} are no features; "
            "give an array of numbers"
        )
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{row.source} hold values that are not finite")
    return array


def _hash_values(values: NDArray[np.float32]) -> bytes:
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(values.astype("<f4", copy=False).data)
    return digest.digest()
