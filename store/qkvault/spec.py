"""Names and shapes of the format: the constants that FORMAT.md states, and their types.

Every array has its axes in one order, ``(example, layer, head, query_token, key_token)``; an array
without one of these axes keeps the order of the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from .recipe import Recipe, default_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT_VERSION: Final = "2.0"
"""What is written."""
READ_VERSIONS: Final = ("1.0", "2.0")
"""What is read, with all minor versions of each."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Label = None | int | float | str

Precision = Literal["float32", "float16", "uint16", "uint8"]
PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "float16", "uint16", "uint8")
DEFAULT_PRECISION: Final[Precision] = "uint16"

VectorPrecision = Literal["float32", "float16", "int16"]
VECTOR_PRECISIONS: Final[tuple[VectorPrecision, ...]] = ("float32", "float16", "int16")

ArrayName = Literal["attention", "query", "key", "value"]
ARRAYS: Final[tuple[ArrayName, ...]] = ("attention", "query", "key", "value")

AttentionSource = Literal["stored", "derived"]

ThumbnailRule = Literal["every", "pooled"]

StackName = Literal["encoder", "decoder", "cross"]
STACKS: Final[tuple[StackName, ...]] = ("encoder", "decoder", "cross")

THUMBNAIL_SIDE: Final = 64
"""A thumbnail has at most this many rows and columns; shorter examples are kept as they are."""


@dataclass(frozen=True)
class Stack:
    """One run of attention layers: an encoder's, a decoder's, or a decoder's cross-attention.

    Attributes:
        name: which run.
        layers: the model's own layer numbers, ascending; a hybrid model may skip some.
        heads: query heads per layer.
        key_heads: key/value heads per layer; divides ``heads``. Query head ``h`` uses key head
            ``h // (heads // key_heads)`` (grouped-query attention, Ainslie et al. 2023).
        head_dim: width of one query or key vector.
        value_dim: width of one value vector.
        causal: whether a token attends only to itself and to tokens before it.
        scaling: per layer, the factor that multiplies query·key before softmax.
        recipe: per layer, what else makes attention of queries and keys; the plain softmax over the
            keys that ``causal`` leaves, where none is given.
        beside: what its queries attend to that is no token, in words (summaries of blocks, say),
            where there is more of it than sinks that a recipe states; else None.
        widths: per layer, the width of its own queries and keys and that of its values, where
            these are not ``head_dim`` and ``value_dim`` in all layers (Gemma 4); else empty. What
            is stored beyond a layer's own width is 0, and no reader uses it.
    """

    name: StackName
    layers: tuple[int, ...]
    heads: int
    key_heads: int
    head_dim: int
    value_dim: int
    causal: bool
    scaling: tuple[float, ...]
    recipe: tuple[Recipe, ...] = ()
    beside: str | None = None
    widths: tuple[tuple[int, int], ...] = ()

    @property
    def sums_to_one(self) -> bool:
        """Whether all of a row's weight goes to tokens."""
        sinks = [recipe.sinks for recipe in self.recipe]
        return self.beside is None and not any(s is not None and s.mode == "softmax" for s in sinks)

    def widths_of(self, name: str) -> tuple[int, ...]:
        """Width per layer of ``query``, ``key`` or ``value``; empty where all have the stack's, and
        for arrays of attention."""
        if name not in ("query", "key", "value"):
            return ()
        return tuple(width[name == "value"] for width in self.widths)

    def __post_init__(self) -> None:
        if not self.recipe:
            recipe = default_recipe(len(self.layers), self.causal)
            object.__setattr__(self, "recipe", recipe)


@dataclass(frozen=True)
class Target:
    """What the decoder of an encoder-decoder reads of an example; fields as of :class:`Record`.

    Attributes:
        text: the target text; what the decoder is given of it are the tokens.
        tokens, token_ids: as the decoder receives them: what starts it comes first, and the token
            that ends the text is only predicted, never read.
        special: 1 where the tokenizer or the model put the token there, else 0.
        offsets: half-open character range of each token in the text; (0, 0) for special tokens.
        words: word number of each token; -1 for special tokens. Empty where they are not known.
    """

    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    special: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...] = ()
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """What is known of an example before the model runs. All per-token tuples have one length.

    Attributes:
        id: unique in the vault.
        text: one text, or the two of a pair.
        tokens: token strings as the tokenizer spells them.
        token_ids: vocabulary ids, as the model receives them.
        segments: 0 for the first text, 1 for the second; a special token belongs to the text it
            opens or closes.
        special: 1 where the tokenizer put the token there ([CLS], [SEP], <s>), else 0.
        offsets: half-open character range of each token in its own text; (0, 0) for special tokens.
        words: word number of each token within its own text; -1 for special tokens. Empty where the
            tokenizer knows no words.
        label: gold label, if the data has one.
        columns: the data's other columns.
        target: what the decoder reads, in a vault of an encoder-decoder; else None.
    """

    id: str
    text: tuple[str, ...]
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    segments: tuple[int, ...]
    special: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...] = ()
    words: tuple[int, ...] = ()
    label: Label = None
    columns: Mapping[str, Json] = field(default_factory=dict)
    target: Target | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens it has, and how many its target has if there is one."""
        if self.target is None:
            return (len(self.tokens),)
        return len(self.tokens), len(self.target.tokens)


@dataclass(frozen=True)
class VaultSpec:
    """Everything that fixes a vault before its first unit runs, the records apart.

    Attributes:
        stacks: the attention runs that are kept.
        arrays: which of :data:`ARRAYS` are kept; thumbnails go with attention.
        attention: ``derived`` where attention is not among ``arrays`` but follows from queries and
            keys, which are; thumbnails are then kept too.
        derived_error: the largest difference between derived attention and the model's own that was
            met when the vault was planned; None where it was not measured.
        target: whether examples have a target sequence beside their own, the source: those of an
            encoder-decoder do. Several stacks, or ``cross``, need one; see :mod:`qkvault.axes`.
        thumbnails: ``pooled``: stored attention of at most 64 tokens is its own thumbnail, and none
            is kept beside it; ``every`` in vaults of format 1.
        vectors: how those of queries, keys and values are kept that ``precision`` does not decide
            for; :func:`choose_vectors` makes it.
        metrics: names of the numbers kept per example, layer and head, such as
            :data:`qkvault.METRICS`; none where there are none.
        precision: how attention is kept; queries, keys and values are float32 under ``float32``,
            float16 otherwise, but for those that ``vectors`` names.
        logits: number of outputs of the classification head; 0 where the model has none.
        label_names: names of the model's classes, in order; empty if unknown.
        identity: what must be equal for a run to go on with this vault (hashes of inputs, weights
        and
            tokenizer; options). Compared key by key.
        provenance: what is good to know but may differ between runs that go on with one vault
            (library versions, device).
    """

    stacks: tuple[Stack, ...]
    arrays: tuple[ArrayName, ...]
    precision: Precision
    logits: int
    label_names: tuple[str, ...]
    identity: Mapping[str, Json]
    provenance: Mapping[str, Json] = field(default_factory=dict)
    attention: AttentionSource = "stored"
    derived_error: float | None = None
    metrics: tuple[str, ...] = ()
    target: bool = False
    vectors: Mapping[ArrayName, VectorPrecision] = field(default_factory=dict)
    thumbnails: ThumbnailRule = "pooled"

    @property
    def format(self) -> str:
        """Version of the format that it is of."""
        return "1.0" if self.thumbnails == "every" else FORMAT_VERSION


def vector_precision(
    name: ArrayName, precision: Precision, vectors: Mapping[ArrayName, VectorPrecision]
) -> VectorPrecision:
    """How ``query``, ``key`` or ``value`` is kept in a vault of that precision and ``vectors``."""
    return vectors.get(name, "float32" if precision == "float32" else "float16")


def choose_vectors(
    arrays: Sequence[ArrayName],
    precision: Precision,
    attention: AttentionSource,
    wanted: Mapping[ArrayName, VectorPrecision] | None = None,
) -> dict[ArrayName, VectorPrecision]:
    """What :attr:`VaultSpec.vectors` has to name.

    Queries and keys that attention is to be derived from are int16 unless float32 is asked for: of
    all that fits into 16 bits it gives attention back most exactly.

    Args:
        arrays: which arrays are kept.
        precision: how attention is, or would be.
        attention: where it comes from.
        wanted: types that are asked for, of some or all of query, key and value.
    """
    chosen: dict[ArrayName, VectorPrecision] = {}
    for name in arrays:
        if name == "attention":
            continue
        usual = vector_precision(name, precision, {})
        compact = attention == "derived" and usual != "float32" and name in ("query", "key")
        kept = (wanted or {}).get(name, "int16" if compact else usual)
        if kept != usual:
            chosen[name] = kept
    return chosen
