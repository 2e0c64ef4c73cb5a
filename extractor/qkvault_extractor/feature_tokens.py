"""What the tokens of features are: how many, which of them are special, and honest names.

All is learnt from the model as it runs. Its first attention call tells how many tokens there are;
where that attends within windows of an example, the first one that attends to all of its stage.
A token whose query there is the same whatever the input, is special: nothing of the input is in it.
A convolution that lays out just as many cells as there are other tokens tells that these are
patches, in rows and columns; so does one that lays out the cells of which later stages merge
squares. Where queries that the model has learnt attend to these tokens (the
objects of a detector, the latents of a Perceiver), its first such call tells how many they are:
they are the example's target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from qkvault import InputError, Record
from qkvault_extractor.feature_sight import see
from qkvault_extractor.features import layouts
from qkvault_extractor.targets import learnt_target

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from qkvault import Target
    from qkvault_extractor.feature_sight import Grid
    from qkvault_extractor.features import FeatureSet, Kind

SPECIAL_NAMES: Final = {
    "cls_token": "[CLS]",
    "class_embedding": "[CLS]",
    "class_token": "[CLS]",
    "distillation_token": "[DIST]",
    "register_tokens": "[REG]",
    "detection_tokens": "[DET]",
}
"""How special tokens are called, by what transformers calls the parameter they come from, in the
order in which they stand."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of inputs of one shape: names, and 1 where one is special; those of the target."""

    names: tuple[str, ...]
    special: tuple[int, ...]
    target: Target | None


def make_records(model: PreTrainedModel, name: str, features: FeatureSet) -> list[Record]:
    """Make a record of every example.

    Args:
        model: takes features.
        name: its argument for them.
        features: the examples.

    Raises:
        InputError: the model does not take values of a shape, or no attention is seen.
    """
    found: dict[Kind, Tokens] = {}
    records = []
    for row, kind in zip(features.rows, features.kinds, strict=True):
        if kind not in found:
            found[kind] = _find_tokens(model, name, features.read(row.id, name))
        tokens = found[kind]
        count = len(tokens.names)
        records.append(
            Record(
                id=row.id,
                text=row.texts,
                tokens=tokens.names,
                token_ids=tuple(range(count)),
                segments=(0,) * count,
                special=tokens.special,
                label=row.label,
                columns=row.columns,
                target=tokens.target,
            )
        )
    return records


def takes_batches(model: PreTrainedModel, name: str, features: FeatureSet) -> bool:
    """Whether a model keeps the examples of a batch apart; Pixtral makes one sequence of them.

    Args:
        model, name, features: as for :func:`make_records`.
    """
    given = features.read(features.rows[0].id, name)
    try:
        vectors = [see(model, name, [given] * count, []).vectors for count in (1, 2)]
    except InputError:  # takes but one at a time, or none at all, which is told elsewhere
        return False
    alone, together = (one.shape for one in vectors)
    return together[0] == 2 * alone[0]


def _find_tokens(model: PreTrainedModel, name: str, given: dict[str, NDArray[Any]]) -> Tokens:
    import torch

    values, grids = given[name], layouts(given)
    seen = see(model, name, [given], grids)
    noise = np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    vectors, others = seen.vectors, see(model, name, [{**given, name: values + noise}], []).vectors
    if vectors.shape[0] != 1 or vectors.shape != others.shape:
        raise InputError(
            f"model {type(model).__name__} attends within {vectors.shape[0]} parts of an example "
            "(windows, say), each apart from the others, so there is no attention of its tokens "
            "as a whole"
        )
    if seen.later:
        grids = _merge(grids, vectors.shape[2])
    special = [
        torch.equal(a, b) for a, b in zip(vectors[0].unbind(1), others[0].unbind(1), strict=True)
    ]
    return Tokens(
        tuple(_name_tokens(special, _special_names(model), grids, _kind_of_token(name, values))),
        tuple(map(int, special)),
        _make_target(model, seen.learnt) if seen.learnt else None,
    )


def _merge(grids: list[Grid], count: int) -> list[Grid]:
    """Rows and columns of so many patches, each made of a square of cells that were laid out."""
    found = []
    for grid in grids:
        side = round((math.prod(grid) / count) ** (1 / len(grid)))
        merged = tuple(cells // max(side, 1) for cells in grid)
        if math.prod(merged) == count and all(cells % side == 0 for cells in grid):
            found.append(merged)
    return found


def _make_target(model: PreTrainedModel, count: int) -> Target:
    """Queries that a model has learnt, by what transformers calls the parameter they are."""
    latent = any(name.rpartition(".")[2] == "latents" for name, _ in model.named_parameters())
    return learnt_target("latent" if latent else "query", count)


def _name_tokens(
    special: list[bool], names: list[str], grids: list[Grid], kind: str
) -> Iterator[str]:
    """Name tokens in order.

    Args:
        special: whether each of them is.
        names: of special tokens.
        grids: what was laid out, in order.
        kind: what others are called where they lie in none of these.
    """
    count = special.count(False)
    grid = next((grid for grid in reversed(grids) if math.prod(grid) == count), None)
    if len(names) != special.count(True):
        names = [f"[special {number}]" for number in range(special.count(True))]
    if grid is not None:
        own = (f"patch {','.join(map(str, cell))}" for cell in np.ndindex(*grid))
    else:
        own = (f"{kind} {number}" for number in range(count))
    others = iter(names)
    for is_special in special:
        yield next(others) if is_special else next(own)


def _kind_of_token(name: str, values: NDArray[Any]) -> str:
    """Samples and spectrograms run along time."""
    return "frame" if values.ndim <= 2 and not name.startswith("pixel") else "token"


def _special_names(model: PreTrainedModel) -> list[str]:
    """What the special tokens would be called that a model has parameters for."""
    found: list[str] = []
    parameters = {name.rsplit(".", 1)[-1]: p for name, p in model.named_parameters()}
    for name, spelled in SPECIAL_NAMES.items():
        if (parameter := parameters.get(name)) is not None:
            count = parameter.numel() // parameter.shape[-1]
            found += (
                [f"{spelled[:-1]} {number}]" for number in range(count)]
                if name.endswith("_tokens")
                else [spelled]
            )
    return found
