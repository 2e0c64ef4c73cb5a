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

Kind = tuple[Shape, tuple[tuple[str, Shape, tuple[int, ...]], ...]]
"""Shape of an example's values; of each further argument name, shape, and whole numbers in a row,
which tell how the values are laid out."""


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
        arguments: what the model is to be given beside the values, by its names for it, again
            without a batch axis: ``{"spatial_shapes": (24, 32)}``. Whole numbers and booleans stay
            what they are.
    """

    values: Any
    id: str | None = None
    text: str = ""
    label: Label = None
    columns: Mapping[str, Json] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an example's values and further arguments were when they were first read."""

    place: int
    kind: Kind
    digest: bytes


class FeatureSet:
    """Examples of ready-made features, checked and hashed.

    Args:
        inputs: a sequence, which is read example by example when needed, or any other iterable,
            which is gathered first.

    Attributes:
        rows: what is known of each example, its values apart.
        kinds: what tells apart examples that cannot share a forward pass; with :attr:`rows` in one
            order.
        arguments: names of what the model is given beside the values.
        hash: of rows, values and arguments, 64 hexadecimal digits.

    Raises:
        InputError: no examples; values that are no finite numbers; an id or label that cannot be;
            arguments that not all have.
    """

    def __init__(self, inputs: Iterable[Features]) -> None:
        lazy = hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__")
        self._inputs = cast("Sequence[Features]", inputs) if lazy else list(inputs)
        self.rows: list[Row] = []
        self.arguments: list[str] = []
        self._seen: dict[str, _Seen] = {}
        digest = hashlib.sha256(b"qkvault features 1\n")
        for place in range(len(self._inputs)):
            example = self._inputs[place]
            row = _check(example, place)
            if row.id in self._seen:
                raise InputError(
                    f"{row.source}: id {row.id!r} stands at {self._seen[row.id].place} already"
                )
            given = _to_arrays(example, row)
            if self.rows and given.keys() != {"", *self.arguments}:
                raise InputError(
                    f"{row.source}: has the arguments {sorted(example.arguments)}, where those "
                    f"before have {self.arguments}"
                )
            self.arguments = sorted(example.arguments)
            seen = _Seen(place, _kind_of(given), _hash_arrays(given))
            self.rows.append(row)
            self._seen[row.id] = seen
            digest.update(seen.digest)
        if not self.rows:
            raise InputError("no features given; there has to be one example at least")
        digest.update(bytes.fromhex(text_hash(self.rows)))
        self.kinds = [seen.kind for seen in self._seen.values()]
        self.hash = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.rows)

    def kind(self, example_id: str) -> Kind:
        """What tells an example apart from those it can share no forward pass with."""
        return self._seen[example_id].kind

    def read(self, example_id: str, name: str) -> dict[str, NDArray[Any]]:
        """Read what a model is given of an example.

        Args:
            example_id: its id.
            name: the model's argument for the values.

        Raises:
            InputError: it is something else than when it was first read.
        """
        seen = self._seen[example_id]
        given = _to_arrays(self._inputs[seen.place], self.rows[seen.place])
        if _hash_arrays(given) != seen.digest:
            raise InputError(
                f"features {seen.place} have other values each time they are read; "
                "give such (random crops, noise) as fixed arrays"
            )
        return {name: given.pop(""), **given}


@dataclass(frozen=True)
class FeatureFeed:
    """Feeds features; only those of one shape share a forward pass, so that nothing is padded.

    Attributes:
        features: the examples.
        name: the model's argument, such as ``pixel_values``.
        dtype: what the model computes in.
        takes_batches: whether several examples can share a forward pass.
    """

    features: FeatureSet
    name: str
    dtype: torch.dtype
    takes_batches: bool = True

    def make_inputs(self, records: Sequence[Record], device: torch.device) -> dict[str, Tensor]:
        """Give values and further arguments, ``(example, ...)``."""
        given = [self.features.read(record.id, self.name) for record in records]
        return to_tensors(given, device, self.dtype)

    def kinds(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """Number the kinds of the examples."""
        kinds = [self.features.kind(record.id) for record in records]
        numbers = {kind: number for number, kind in enumerate(sorted(set(kinds)))}
        return np.array([numbers[kind] for kind in kinds], np.int64)

    def choose_probe(self, records: Sequence[Record], most: int) -> list[Record]:
        """Choose the longest example, and where memory allows another one of its kind."""
        longest = max(records, key=lambda record: len(record.tokens))
        if len(longest.tokens) > most or not self.takes_batches:
            return [longest]
        kind = self.features.kind(longest.id)
        others = (record for record in records if record.id != longest.id)
        twin = next((record for record in others if self.features.kind(record.id) == kind), None)
        return [longest] if twin is None else [longest, twin]


def to_tensors(
    given: Sequence[Mapping[str, NDArray[Any]]], device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Stack what a model is given of some examples; numbers with a point in a type of its own."""
    import torch

    stacked = {name: torch.from_numpy(np.stack([one[name] for one in given])) for name in given[0]}
    return {
        name: x.to(device, dtype if x.is_floating_point() else x.dtype)
        for name, x in stacked.items()
    }


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


def _to_arrays(example: Features, row: Row) -> dict[str, NDArray[Any]]:
    """Values, under "", and further arguments, as contiguous arrays; numbers with a point as
    float32, whole ones as int64."""
    given = {"": _to_numbers(example.values, "values", row)}
    given[""] = given[""].astype(np.float32, copy=False)
    for name, value in example.arguments.items():
        given[str(name)] = _to_numbers(value, str(name), row)
    return given


def _to_numbers(value: Any, what: str, row: Row) -> NDArray[Any]:
    if hasattr(value, "detach"):  # a tensor; of bfloat16 numpy knows nothing
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise InputError(
            f"{row.source}: {what} of type {array.dtype} and shape {array.shape} are no features; "
            "give an array of numbers"
        )
    kept = {"f": np.float32, "b": np.bool_}.get(array.dtype.kind, np.int64)
    with np.errstate(over="ignore"):
        array = np.array(array, kept, order="C", ndmin=array.ndim)
    if not np.isfinite(array).all():
        raise InputError(f"{row.source} hold {what} that are not finite")
    return array


def _kind_of(given: Mapping[str, NDArray[Any]]) -> Kind:
    further = tuple(
        (name, array.shape, tuple(array.tolist()) if _is_layout(array) else ())
        for name, array in sorted(given.items())
        if name
    )
    return given[""].shape, further


def _is_layout(array: NDArray[Any]) -> bool:
    """Whether an argument may be rows and columns (and times before them)."""
    return array.dtype == np.int64 and array.shape in ((2,), (3,))


def layouts(given: Mapping[str, NDArray[Any]]) -> list[tuple[int, ...]]:
    """What of a model's arguments may be rows and columns of its tokens."""
    return [tuple(array.tolist()) for array in given.values() if _is_layout(array)]


def _hash_arrays(given: Mapping[str, NDArray[Any]]) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(given.items()):
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return digest.digest()
