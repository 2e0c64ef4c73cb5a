"""One example of a vault: its texts and tokens, and its arrays per stack."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from .chunks import stack_of
from .errors import InputError, OutOfRange
from .outcomes import judge, prediction_of
from .stack_view import ALL, StackView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .axes import Lengths
    from .corpus import ScanArray
    from .heads import HeadArray
    from .measured import Metrics
    from .spec import Json, Label, Record, Target
    from .vault import Vault


class Example:
    """One example; text and arrays are read when first asked for.

    Attributes:
        vault: where it comes from.
        index: its place in the dataset's order.
        lengths: tokens, and tokens of the target.
        bucket, row: where its arrays stand: padded length of the bucket, row within it.
    """

    def __init__(self, vault: Vault, index: int, bucket: int, row: int, lengths: Lengths) -> None:
        self.vault = vault
        self.index = index
        self.bucket = bucket
        self.row = row
        self.lengths = lengths
        self._views: dict[str, StackView] = {}

    def __repr__(self) -> str:
        return f"<Example {self.index} of {self.vault.path}, {self.length} tokens>"

    def __len__(self) -> int:
        return self.length

    @property
    def length(self) -> int:
        """Tokens; those of the target are not of them."""
        return self.lengths.source

    @cached_property
    def record(self) -> Record:
        """All that was known before the model ran."""
        return self.vault.record(self.index)

    @property
    def id(self) -> str:
        """The example's id, unique in the vault."""
        return self.record.id

    @property
    def text(self) -> tuple[str, ...]:
        """One text, or the two of a pair."""
        return self.record.text

    @property
    def tokens(self) -> tuple[str, ...]:
        """Token strings as the tokenizer spells them."""
        return self.record.tokens

    @cached_property
    def token_ids(self) -> NDArray[np.int32]:
        """Vocabulary ids, int32 ``(token,)``."""
        return np.array(self.record.token_ids, np.int32)

    @cached_property
    def segments(self) -> NDArray[np.int8]:
        """0 for the first text, 1 for the second, int8 ``(token,)``."""
        return np.array(self.record.segments, np.int8)

    @cached_property
    def special(self) -> NDArray[np.bool_]:
        """True where the tokenizer put the token there, bool ``(token,)``."""
        return np.array(self.record.special, np.bool_)

    @cached_property
    def offsets(self) -> NDArray[np.int32]:
        """Character range of each token in its text, int32 ``(token, 2)``; no rows if unknown."""
        return np.array(self.record.offsets, np.int32).reshape(-1, 2)

    @cached_property
    def words(self) -> NDArray[np.int32]:
        """Word number of each token, -1 for special ones, int32 ``(token,)``; empty if unknown."""
        return np.array(self.record.words, np.int32)

    @property
    def target(self) -> Target | None:
        """What the decoder of an encoder-decoder reads; None in vaults of other models."""
        return self.record.target

    @property
    def label(self) -> Label:
        """Gold label, or None."""
        return self.record.label

    @property
    def columns(self) -> dict[str, Json]:
        """The data's other columns."""
        return dict(self.record.columns)

    @cached_property
    def logits(self) -> NDArray[np.float32] | None:
        """Outputs of the classification head, float32 ``(class,)``; None without such a head."""
        return self.vault.logits(self.bucket, self.row)

    @property
    def prediction(self) -> int | float | None:
        """The class with the largest output; the output itself where there is only one."""
        return prediction_of(self.logits)

    @property
    def correct(self) -> bool | None:
        """Whether the prediction is the class of the label; None where that cannot be said."""
        return judge(self.label, self.prediction, self.vault.spec.label_names)

    @property
    def stacks(self) -> tuple[str, ...]:
        """Names of the stacks that are kept."""
        return tuple(stack.name for stack in self.vault.spec.stacks)

    def stack(self, name: str) -> StackView:
        """The arrays of one stack.

        Raises:
            InputError: the vault keeps no such stack.
        """
        view = self._views.get(name)
        if view is None:
            try:
                spec = stack_of(self.vault.spec, name)
            except KeyError:
                raise InputError(
                    f"stack {name!r} was asked for; this vault keeps {', '.join(self.stacks)}"
                ) from None
            view = self._views.setdefault(name, StackView(self, spec))
        return view

    @property
    def _first(self) -> StackView:
        return self.stack(self.vault.spec.stacks[0].name)

    @property
    def attention(self) -> HeadArray:
        """Attention weights of the first stack, ``(layer, head, query_token, key_token)``."""
        return self._first.attention

    @property
    def query(self) -> HeadArray:
        """Query vectors of the first stack, ``(layer, head, query_token, head_dim)``."""
        return self._first.query

    @property
    def key(self) -> HeadArray:
        """Key vectors of the first stack, ``(layer, key_head, key_token, head_dim)``."""
        return self._first.key

    @property
    def value(self) -> HeadArray:
        """Value vectors of the first stack, ``(layer, key_head, key_token, value_dim)``."""
        return self._first.value

    @property
    def thumbnail(self) -> HeadArray:
        """Pooled attention of the first stack, ``(layer, head, query_bin, key_bin)``."""
        return self._first.thumbnail

    @property
    def metrics(self) -> Metrics:
        """Head metrics of the first stack: ``metrics["entropy"]`` is float32 ``(layer, head)``."""
        return self._first.metrics

    def scores(self, layer: Any = ALL, head: Any = ALL) -> NDArray[np.float32]:
        """Scores before softmax in the first stack; see :meth:`StackView.scores`."""
        return self._first.scores(layer, head)

    def derive(self, layer: Any = ALL, head: Any = ALL) -> NDArray[np.float32]:
        """Attention of the first stack, from queries and keys; see :meth:`StackView.derive`."""
        return self._first.derive(layer, head)

    def key_head(self, head: int) -> int:
        """The key/value head of a query head of the first stack: ``head // (heads / key_heads)``.

        Raises:
            OutOfRange: no such query head.
        """
        stack = self._first.spec
        if not -stack.heads <= head < stack.heads:
            raise OutOfRange(f"head {head} was asked for; there are {stack.heads} heads")
        return head % stack.heads // (stack.heads // stack.key_heads)

    def to_xarray(
        self,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        arrays: Sequence[ScanArray] | None = None,
        stack: str | None = None,
    ) -> Any:
        """The example as an ``xarray.Dataset``; see :func:`qkvault.labelled.to_xarray`."""
        from .labelled import to_xarray

        return to_xarray(self, layers, heads, arrays, stack)

    def view(self, height: int = 760, **state: str | int) -> Any:
        """The live viewer in a notebook's cell, opened at this example.

        Args:
            height: of the frame, in pixels.
            state: what else the page is to show, such as ``view="neuron"``, ``layer=3``.

        Raises:
            InputError: the viewer is not installed.
        """
        notebook = _notebook()
        if notebook is None:
            raise InputError("the viewer is not installed, so there is no view to show")
        return notebook.view_example(self, height, **state)

    def _repr_html_(self) -> str | None:
        notebook = _notebook()
        return None if notebook is None else str(notebook.example_html(self))


def _notebook() -> Any:
    """What shows examples in notebooks, if it is installed: the store needs none of it."""
    try:
        return import_module("qkvault_viewer.notebook")
    except ModuleNotFoundError:
        return None
