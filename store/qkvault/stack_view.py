"""One stack of one example: its arrays, and what is computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .axes import token_axes
from .chunks import is_kept
from .derived import DerivedReader, refuse_underivable
from .errors import MissingArray
from .heads import HeadArray
from .measured import read_metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .derived import Kind
    from .example import Example
    from .measured import Metrics
    from .spec import Stack

ALL: Final = slice(None)


class StackView:
    """One stack of one example: ``view.attention[layer, head]`` and so on.

    Attributes:
        spec: the stack's shape, layers and scaling.
    """

    def __init__(self, example: Example, spec: Stack) -> None:
        self.spec = spec
        self._example = example
        self._sides = example.lengths.sides(example.vault.spec, spec.name)
        self._arrays: dict[str, HeadArray] = {}

    @property
    def query_tokens(self) -> tuple[str, ...]:
        """Token strings along the query axis: of the target for a decoder beside an encoder."""
        return self._tokens(0)

    @property
    def key_tokens(self) -> tuple[str, ...]:
        """Token strings along the key axis; other than :attr:`query_tokens` in cross-attention."""
        return self._tokens(1)

    def _tokens(self, axis: int) -> tuple[str, ...]:
        example = self._example
        if token_axes(example.vault.spec, self.spec.name)[axis] == "source":
            return example.tokens
        assert example.target is not None, "a record without its target is refused when read"
        return example.target.tokens

    @property
    def attention(self) -> HeadArray:
        """Attention weights, ``(layer, head, query_token, key_token)``.

        Where the vault derives attention (``attention.derived``) they are computed when indexed.
        """
        if self._example.vault.spec.attention == "derived":
            return self._computed("attention")
        return self._array("attention")

    @property
    def query(self) -> HeadArray:
        """Query vectors as they meet the keys, ``(layer, head, query_token, head_dim)``."""
        return self._array("query")

    @property
    def key(self) -> HeadArray:
        """Key vectors, ``(layer, key_head, key_token, head_dim)``; see :meth:`Example.key_head`."""
        return self._array("key")

    @property
    def value(self) -> HeadArray:
        """Value vectors, ``(layer, key_head, key_token, value_dim)``; as :attr:`key`."""
        return self._array("value")

    @property
    def thumbnail(self) -> HeadArray:
        """Attention pooled to at most 64 x 64, ``(layer, head, query_bin, key_bin)``."""
        return self._array("thumbnail")

    @property
    def metrics(self) -> Metrics:
        """Numbers that say what kind of head each is; see :mod:`qkvault.metrics`.

        Raises:
            MissingArray: the vault keeps none.
            VaultError: they are missing or damaged.
        """
        example = self._example
        return read_metrics(example.vault, self.spec, example.bucket, example.row)

    def scores(self, layer: Any = ALL, head: Any = ALL) -> NDArray[np.float32]:
        """Scores before softmax, computed from queries and keys: scaled, with all terms of the
        layer's recipe; ``-inf`` where the mask hides the key.

        Args:
            layer, head: as in ``attention[layer, head]``.

        Returns:
            float32 ``(layer, head, query_token, key_token)``; a layer or head given as an integer
            has no axis.

        Raises:
            MissingArray: queries or keys are not kept, or scores do not follow from them.
        """
        return self._computed("scores")[layer, head]

    def derive(self, layer: Any = ALL, head: Any = ALL) -> NDArray[np.float32]:
        """Attention computed from queries and keys, stored or not; as :meth:`scores`."""
        return self._computed("attention")[layer, head]

    def _computed(self, kind: Kind) -> HeadArray:
        example = self._example
        vault = example.vault
        refuse_underivable(vault.spec, kind, vault.path)
        query, key = (
            vault.store.rows(example.bucket, f"{self.spec.name}/{name}")
            for name in ("query", "key")
        )
        reader = DerivedReader(kind, query, key, self.spec, vault.spec.derived_error)
        return HeadArray(kind, reader, example.row, self._sides)

    def _array(self, name: str) -> HeadArray:
        kept = self._arrays.get(name)
        if kept is None:
            kept = self._arrays.setdefault(name, self._make_array(name))
        return kept

    def _make_array(self, name: str) -> HeadArray:
        example = self._example
        spec = example.vault.spec
        if not is_kept(spec, name):
            wanted = "attention" if name == "thumbnail" else name
            arrays = ",".join([*spec.arrays, wanted])
            raise MissingArray(
                f"{name} was not kept in {example.vault.path} (kept: {', '.join(spec.arrays)});"
                f" re-extract with --arrays {arrays}"
            )
        reader = example.vault.store.rows(example.bucket, f"{self.spec.name}/{name}")
        widths = self.spec.widths_of(name)
        return HeadArray(name, reader, example.row, self._sides, widths)
