"""Head metrics as a vault keeps them: of one example, and of the whole corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .corpus import chosen_stack, head_places, layer_places
from .errors import InputError, MissingArray, VaultError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .corpus import Which
    from .spec import Stack
    from .vault import Vault


class Metrics:
    """One example's head metrics; ``metrics["entropy"]`` is float32 ``(layer, head)``.

    Attributes:
        names: of the metrics.
        layers: number of the layer at each place of the layer axis.
        array: float32 ``(layer, head, metric)``; NaN where the example has no such number.
    """

    def __init__(
        self, names: tuple[str, ...], layers: tuple[int, ...], array: NDArray[np.float32]
    ) -> None:
        self.names = names
        self.layers = layers
        self.array = array

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.array[:, :, _place(self.names, name)]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        layers, heads, _ = self.array.shape
        return f"<Metrics of {layers} layers of {heads} heads: {', '.join(self.names)}>"


def read_metrics(vault: Vault, stack: Stack, length: int, row: int) -> Metrics:
    """Head metrics of a row of a bucket.

    Raises:
        MissingArray: the vault keeps none.
        VaultError: they are missing or damaged.
    """
    _refuse_none(vault)
    values = vault.store.column(length, f"{stack.name}/metrics").row(row)
    _refuse_holes(vault, values)
    return Metrics(vault.spec.metrics, stack.layers, values.astype(np.float32))


def corpus_metric(
    vault: Vault, name: str, stack: str | None, layer: Which, head: Which
) -> NDArray[np.float32]:
    """One metric of all examples; arguments, result and errors are :meth:`Vault.metrics`'s."""
    _refuse_none(vault)
    place = _place(vault.spec.metrics, name)
    chosen = chosen_stack(vault, stack)
    layers, one_layer = layer_places(chosen, layer)
    heads, one_head = head_places(chosen, head)
    # By the places, not by the plan, which may say any number.
    out = np.full((len(vault.places), len(layers), len(heads)), np.nan, np.float32)
    for unit in vault.finished_units():
        bucket, start, stop = vault.store.plan.unit_rows(unit)
        examples = vault.unit_examples(unit)
        column = vault.store.column(bucket.length, f"{chosen.name}/metrics")
        step = column.meta.chunk[0]
        for first in range(start, stop, step):
            last = min(first + step, stop)
            values = column.rows(first, last)
            _refuse_holes(vault, values)
            part = values[:, list(layers)][:, :, list(heads), place]
            out[examples[first - start : last - start]] = part
    if one_layer:
        return out[:, 0, 0] if one_head else out[:, 0]
    return out[:, :, 0] if one_head else out


def _place(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise InputError(f"metric {name!r:.100} was asked for; there are {', '.join(names)}")
    return list(names).index(name)


def _refuse_none(vault: Vault) -> None:
    if not vault.spec.metrics:
        raise MissingArray(f"{vault.path} keeps no head metrics; extract it again to have them")


def _refuse_holes(vault: Vault, values: NDArray[np.float32]) -> None:
    if np.isnan(values).all(axis=-1).any():
        raise VaultError(f"{vault.path} is damaged: head metrics of an example are missing")
