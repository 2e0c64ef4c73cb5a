"""What the tokens of features are: how many, which of them are special, and honest names.

All is learnt from the model as it runs. Its first attention call tells how many tokens there are.
A token whose query there is the same whatever the input, is special: nothing of the input is in it.
A convolution that lays out just as many cells as there are other tokens tells that these are
patches, in rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from qkvault import InputError, Record
from qkvault_extractor.machine import quiet
from qkvault_extractor.ways import WAYS, collect

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from qkvault_extractor.capture import AttentionCall
    from qkvault_extractor.features import FeatureSet, Shape

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

Grid = tuple[int, ...]


@dataclass(frozen=True)
class Tokens:
    """The tokens of inputs of one shape: names, and 1 where one is special."""

    names: tuple[str, ...]
    special: tuple[int, ...]


def make_records(model: PreTrainedModel, name: str, features: FeatureSet) -> list[Record]:
    """Make a record of every example.

    Args:
        model: takes features.
        name: its argument for them.
        features: the examples.

    Raises:
        InputError: the model does not take values of a shape, or no attention is seen.
    """
    found: dict[Shape, Tokens] = {}
    records = []
    for row, shape in zip(features.rows, features.shapes, strict=True):
        if shape not in found:
            found[shape] = _find_tokens(model, name, features.read(row.id))
        tokens = found[shape]
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
            )
        )
    return records


def _find_tokens(model: PreTrainedModel, name: str, values: NDArray[np.float32]) -> Tokens:
    import torch

    grids: list[Grid] = []
    query = _first_query(model, name, values, grids)
    noise = np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    other = _first_query(model, name, values + noise, [])
    if query.shape[0] != 1 or query.shape != other.shape:
        raise InputError(
            f"model {type(model).__name__} attends within {query.shape[0]} windows of an example, "
            "each apart from the others, so there is no attention of its tokens as a whole"
        )
    special = [
        torch.equal(a, b) for a, b in zip(query[0].unbind(1), other[0].unbind(1), strict=True)
    ]
    return Tokens(
        tuple(_name_tokens(special, _special_names(model), grids, values.ndim)),
        tuple(map(int, special)),
    )


def _name_tokens(
    special: list[bool], names: list[str], grids: list[Grid], axes: int
) -> Iterator[str]:
    """Name tokens in order.

    Args:
        special: whether each of them is.
        names: of special tokens.
        grids: what convolutions laid out, in order.
        axes: of the input.
    """
    count = special.count(False)
    grid = next((grid for grid in reversed(grids) if math.prod(grid) == count), None)
    if len(names) != special.count(True):
        names = [f"[special {number}]" for number in range(special.count(True))]
    if grid is not None:
        own = (f"patch {','.join(map(str, cell))}" for cell in np.ndindex(*grid))
    else:
        kind = "frame" if axes <= 2 else "token"  # samples or spectrograms run along time
        own = (f"{kind} {number}" for number in range(count))
    others = iter(names)
    for is_special in special:
        yield next(others) if is_special else next(own)


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


class _Seen(Exception):  # noqa: N818  # no error: it ends a forward pass that has told enough
    """The first attention call was seen."""

    def __init__(self, query: Tensor) -> None:
        super().__init__()
        self.query = query


def _first_query(
    model: PreTrainedModel, name: str, values: NDArray[np.float32], grids: list[Grid]
) -> Tensor:
    """Run a model up to its first attention call.

    Args:
        model: takes features.
        name: its argument for them.
        values: one example's.
        grids: filled with the cells that convolutions of two or three axes lay out.

    Returns:
        The call's queries, ``(example, head, token, dim)``.
    """
    import torch
    from torch import nn

    def stop(call: AttentionCall) -> None:
        raise _Seen(call.query)

    def run() -> None:
        for way in WAYS:
            with collect(model, way, stop):
                model(**inputs)

    def note(module: nn.Module, given: object, output: Tensor) -> None:
        grids.append(tuple(output.shape[2:]))

    inputs = {name: torch.from_numpy(values[None]).to(model.device, model.dtype)}
    with ExitStack() as stack, torch.inference_mode(), quiet():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                stack.callback(module.register_forward_hook(note).remove)
        try:
            run()
        except _Seen as seen:
            return seen.query
        except InputError:
            raise
        except Exception as error:  # the model's own code; whatever it raises names the reason
            reason = str(error).strip().splitlines()
            raise InputError(
                f"model {type(model).__name__} does not take {name} of shape {values.shape}: "
                f"{reason[0] if reason else repr(error)}"
            ) from error
    raise InputError(
        f"model {type(model).__name__} cannot be captured: it computes attention in its own code"
    )
