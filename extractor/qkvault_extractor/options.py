"""What an extraction is told, and what it tells: options, progress, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from qkvault import (
    ARRAYS,
    DEFAULT_PRECISION,
    PRECISIONS,
    VECTOR_PRECISIONS,
    ArrayName,
    AttentionSource,
    InputError,
    Precision,
    VectorPrecision,
    choose_vectors,
    locate,
)
from qkvault_extractor.global_tokens import GLOBAL_TOKENS, GlobalTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qkvault import Place
    from qkvault_extractor.stopwatch import Profile

OnBad = Literal["stop", "skip"]
AttentionOption = Literal["store", "derive"]
Dtype = Literal["float32", "float16", "bfloat16", "auto"]
DTYPES: Final[tuple[Dtype, ...]] = ("float32", "float16", "bfloat16", "auto")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What to keep of a model's attention, and how to run it: the same for all kinds of data.

    Attributes:
        arrays: which arrays to keep, any of :data:`qkvault.ARRAYS`.
        attention: ``store`` it, or ``derive`` it from queries and keys when it is read: then only
            they are kept, with thumbnails and head metrics, no map of all tokens by all tokens ever
            exists, and what is written grows with the length of texts, not with its square.
        precision: how attention is kept; queries, keys and values are float32 under ``float32``,
            float16 otherwise, but int16 where attention is derived from them.
        vectors: how queries, keys or values are kept instead.
        batch_tokens: most tokens, padding included, in one forward pass; measured defaults per
            kind of device where None. It moves results by rounding only.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the best there is.
    """

    arrays: tuple[ArrayName, ...] = ARRAYS
    attention: AttentionOption = "store"
    precision: Precision = DEFAULT_PRECISION
    vectors: Mapping[ArrayName, VectorPrecision] = field(default_factory=dict)
    batch_tokens: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what can never work; order and repetition of ``arrays`` do not matter.

        Raises:
            InputError: an unknown array, attention or precision, or a number below 1.
        """
        for name in self.arrays:
            _require_one_of("array", name, ARRAYS)
        _require_one_of("attention", self.attention, ("store", "derive"))
        _require_one_of("precision", self.precision, PRECISIONS)
        if not self.arrays:
            raise InputError(f"no array to keep; choose from {', '.join(ARRAYS)}")
        _require_positive("batch_tokens", self.batch_tokens)
        object.__setattr__(self, "arrays", self._kept_arrays())
        object.__setattr__(self, "vectors", self._kept_vectors())

    def _kept_vectors(self) -> dict[ArrayName, VectorPrecision]:
        for array, kept in self.vectors.items():
            _require_one_of("array of vectors", array, ("query", "key", "value"))
            _require_one_of(f"precision of {array}", kept, VECTOR_PRECISIONS)
        source: AttentionSource = "derived" if self.attention == "derive" else "stored"
        return choose_vectors(self.arrays, self.precision, source, self.vectors)

    def _kept_arrays(self) -> tuple[ArrayName, ...]:
        kept = tuple(name for name in ARRAYS if name in self.arrays)
        if self.attention == "store":
            return kept
        if lacking := [name for name in ("query", "key") if name not in kept]:
            raise InputError(
                f"attention is derived from queries and keys: add {' and '.join(lacking)} to arrays"
            )
        return tuple(name for name in kept if name != "attention")


@dataclass(frozen=True)
class ExtractOptions(RunOptions):
    """One extraction: which model, over which data, into which vault, besides what is kept.

    Attributes:
        model: local folder or Hub name of a transformers model. Code that a model brings along is
            never run.
        data: files, folders or a ``datasets`` name; several are joined in the order given.
        out: folder of the vault. A vault that stopped half-way is gone on with.
        format: force the data's format; detected where None.
        text_columns: column of the text, or the two of a pair; detected where empty.
        label_column: column of the gold label.
        id_column: column of a unique id; row numbers where None.
        target_column: column of the text that the decoder of an encoder-decoder reads; not with
            ``generate``.
        split: split of a ``datasets`` data set.
        config: configuration of a ``datasets`` data set.
        limit: take only the first so many rows.
        max_length: longest example allowed, in tokens; the model's own limit where None.
        truncate: cut longer examples instead of refusing them.
        on_bad: a row that cannot be used: stop, or skip it and list it in the vault.
        chat_template: the data's text column holds conversations, lists of messages with role and
            content; they are written out by the template that comes with the tokenizer.
        generate: let the model go on with each text, greedily, by so many tokens at most; prompt
            and continuation become the two texts of one example. An encoder-decoder reads the text
            and writes its target instead.
        dtype: type of the weights and of the model's arithmetic: ``float32``, ``float16``,
            ``bfloat16``, or ``auto`` for the checkpoint's own.
        global_tokens: of Longformer and LED, which tokens see all others and are seen by all:
            ``none``, the ``first`` of each text, or those of the ``question``, the first of two
            texts. None for what the checkpoint's own class does.
    """

    model: str
    data: tuple[str, ...]
    out: Place
    format: str | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    id_column: str | None = None
    target_column: str | None = None
    split: str | None = None
    config: str | None = None
    limit: int | None = None
    max_length: int | None = None
    truncate: bool = False
    on_bad: OnBad = "stop"
    chat_template: bool = False
    generate: int | None = None
    dtype: Dtype = "float32"
    global_tokens: GlobalTokens | None = None

    def __post_init__(self) -> None:
        """Refuse what can never work.

        Raises:
            InputError: as :class:`RunOptions`; an unknown ``on_bad``, ``dtype`` or
                ``global_tokens``, or no data.
        """
        super().__post_init__()
        _require_one_of("on_bad", self.on_bad, ("stop", "skip"))
        _require_one_of("dtype", self.dtype, DTYPES)
        _require_one_of("global tokens", self.global_tokens or "none", GLOBAL_TOKENS)
        _require_positive("generate", self.generate)
        if self.generate and len(self.text_columns) > 1:
            raise InputError("--generate goes on with one text, not with pairs; name one column")
        if self.generate and self.target_column is not None:
            raise InputError(
                f"--target-column {self.target_column} gives the decoder a text and --generate lets"
                " the model write it; leave out one of them"
            )
        if not self.data:
            raise InputError("no data given; name at least one file or data set")
        _require_positive("limit", self.limit)
        _require_positive("max_length", self.max_length)
        object.__setattr__(self, "out", locate(self.out))
        object.__setattr__(self, "data", tuple(self.data))
        object.__setattr__(self, "text_columns", tuple(self.text_columns))


@dataclass(frozen=True)
class FeatureOptions(RunOptions):
    """One extraction of ready-made features: by which model, into which vault.

    Attributes:
        model: local folder or Hub name of a transformers model that takes features, or such a
            model, loaded and in evaluation mode: it stays on its device and in its precision.
        out: folder of the vault. A vault that stopped half-way is gone on with.
    """

    model: str | Path | PreTrainedModel
    out: Place

    def __post_init__(self) -> None:
        """Refuse what can never work.

        Raises:
            InputError: as :class:`RunOptions`.
        """
        super().__post_init__()
        if isinstance(self.model, Path):
            object.__setattr__(self, "model", str(self.model))
        object.__setattr__(self, "out", locate(self.out))


def _require_positive(name: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise InputError(f"{name} is {number}; it must be at least 1")


def _require_one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InputError(f"unknown {what} {given!r}; choose from {', '.join(allowed)}")


@dataclass(frozen=True)
class Progress:
    """How far a running extraction is. Rates and ETA count this run only, not what it resumed from.

    Attributes:
        done: examples that went through the model in this run, and those of earlier runs.
        total: examples of the vault.
        examples_per_s: examples through the model per second.
        bytes_per_s: bytes written per second, after compression.
        eta_s: seconds left, estimated from the cost of the remaining lengths; None if unknown.
        bytes: written by this run, after compression.
    """

    done: int
    total: int
    examples_per_s: float
    bytes_per_s: float
    eta_s: float | None
    bytes: int = 0


@dataclass(frozen=True)
class PlanReport:
    """What a plan comes to.

    Attributes:
        already_planned: the vault was there, made from the same; nothing was written.
        examples: examples of the vault.
        units: pieces of work that they are divided into.
        done: those of them that are finished.
        notes: what the user should know of the data, a line each, if it was planned now.
    """

    already_planned: bool
    examples: int
    units: int
    done: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExtractReport:
    """What came of an extraction.

    Attributes:
        already_complete: the vault was complete before; nothing was run.
        examples: examples of the vault.
        rejected: rows that could not be used and were skipped.
        bytes: bytes written by this run.
        seconds: wall time of this run.
        profile: where that went, in this process.
        notes: what the user should know of the data, a line each, if it was planned by this run.
    """

    already_complete: bool
    examples: int
    rejected: int
    bytes: int
    seconds: float
    profile: Profile
    notes: tuple[str, ...] = ()
