"""Attention that is computed from stored queries and keys, read like an array that is stored."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from .errors import MissingArray, VaultError
from .scores import derive_attention, derive_scores
from .threads import pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .heads import RowSource
    from .recipe import Recipe
    from .spec import Stack, VaultSpec

Kind = Literal["attention", "scores"]

_FLOAT32: Final = np.dtype(np.float32)
_SHARED_CELLS: Final = 1 << 20  # from so many weights on, layers are computed on all cores


class DerivedReader:
    """Computes one example's part of an array ``(example, layer, head, query_token, key_token)``.

    Attributes:
        meta: what the array's metadata would be, were it stored.
        width: keys along the last axis.
        layers: number of the layer at each place of the layer axis.
        places: layer number -> place.
        precision: ``float32``.
        max_error: the largest error met when the vault was planned; None if not measured.
        derived: True.
    """

    precision = "float32"
    derived = True

    def __init__(
        self,
        kind: Kind,
        query: RowSource,
        key: RowSource,
        stack: Stack,
        max_error: float | None,
    ) -> None:
        shape = query.meta.shape
        self.meta = replace(
            query.meta,
            path=query.meta.path.rpartition("/")[0] + f"/{kind}",
            shape=(*shape[:4], key.meta.shape[3]),
            dtype=_FLOAT32,
        )
        self.width = self.meta.shape[4]
        self.layers = query.layers
        self.places = query.places
        self.max_error = max_error
        self._compute = derive_attention if kind == "attention" else derive_scores
        self._query = query
        self._key = key
        self._stack = stack

    def read(
        self,
        row: int,
        layers: Sequence[int],
        heads: Sequence[int],
        tokens: range,
        width: int,
        raw: bool = False,
    ) -> NDArray[Any]:
        """Compute some layers, heads and query tokens of one row; as :meth:`RowSource.read`.

        Raises:
            MissingArray: a layer's attention does not follow from queries and keys.
            VaultError: a touched file or chunk is missing or damaged.
        """
        out = np.empty((len(layers), len(heads), len(tokens), width), _FLOAT32)
        shared = self._stack.heads // self._stack.key_heads
        used = [head // shared for head in heads]
        kept = sorted(set(used))
        settings: dict[str, Any] = {
            "key_head": [kept.index(key_head) for key_head in used],
            "heads": heads,
            "first_query": tokens.start,
        }
        query = self._vectors(self._query, row, layers, heads, tokens)
        key = self._vectors(self._key, row, layers, kept, range(width))
        widths = self._stack.widths_of("query") or (query.shape[3],) * len(self.layers)
        jobs = [
            partial(
                self._compute,
                query[at, ..., : widths[layer]],
                key[at, ..., : widths[layer]],
                *self._terms(layer),
                **settings,
                out=out[at],
            )
            for at, layer in enumerate(layers)
        ]
        if len(jobs) > 1 and out.size >= _SHARED_CELLS:
            for done in [pool().submit(job) for job in jobs]:
                done.result()
        else:
            for job in jobs:
                job()
        return out

    def _terms(self, layer: int) -> tuple[float, Recipe]:
        return self._stack.scaling[layer], self._stack.recipe[layer]

    def _vectors(
        self,
        reader: RowSource,
        row: int,
        layers: Sequence[int],
        heads: Sequence[int],
        tokens: range,
    ) -> NDArray[np.float32]:
        """Queries or keys, ``(layer, head, token, dim)``; what was never written is refused."""
        values: NDArray[np.float32] = reader.read(row, layers, heads, tokens, reader.width)
        if np.isnan(values).any():
            raise VaultError(f"{reader.meta.path} is damaged: it holds nothing at row {row}")
        return values


def refuse_underivable(spec: VaultSpec, what: str, path: object) -> None:
    """Refuse to derive without queries and keys.

    Raises:
        MissingArray: the vault does not keep both.
    """
    lacking = [name for name in ("query", "key") if name not in spec.arrays]
    if lacking:
        raise MissingArray(
            f"{what} cannot be derived: {path} keeps no {' and no '.join(lacking)};"
            " re-extract with --arrays query,key"
        )
