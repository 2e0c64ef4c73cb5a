"""What the tokens of features are: how many, which of them are special, and honest names.

All is learnt from the model as it runs. Its first attention call tells how many tokens there are.
A token whose query there is the same whatever the input, is special: nothing of the input is in it.
A convolution that lays out just as many cells as there are other tokens tells that these are
patches, in rows and columns. Where queries that the model has learnt attend to these tokens (the
objects of a detector, the latents of a Perceiver), its first such call tells how many they are:
they are the example's target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from qkvault import InputError, Record
from qkvault_extractor.features import layouts, to_tensors
from qkvault_extractor.machine import quiet
from qkvault_extractor.stacks import CROSS
from qkvault_extractor.targets import learnt_target
from qkvault_extractor.ways import WAYS, collect

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from qkvault import Target
    from qkvault_extractor.capture import AttentionCall
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

Grid = tuple[int, ...]


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


def _find_tokens(model: PreTrainedModel, name: str, given: dict[str, NDArray[Any]]) -> Tokens:
    import torch

    values, grids = given[name], layouts(given)
    seen = _see(model, name, given, grids)
    noise = np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    vectors, others = seen.vectors, _see(model, name, {**given, name: values + noise}, []).vectors
    if vectors.shape[0] != 1 or vectors.shape != others.shape:
        raise InputError(
            f"model {type(model).__name__} attends within {vectors.shape[0]} parts of an example "
            "(windows, say), each apart from the others, so there is no attention of its tokens "
            "as a whole"
        )
    special = [
        torch.equal(a, b) for a, b in zip(vectors[0].unbind(1), others[0].unbind(1), strict=True)
    ]
    return Tokens(
        tuple(_name_tokens(special, _special_names(model), grids, _kind_of_token(name, values))),
        tuple(map(int, special)),
        _make_target(model, seen.learnt) if seen.learnt else None,
    )


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


@dataclass
class _Sight:
    """What attention calls told so far.

    Attributes:
        vectors: one for every token, ``(1, head, token, dim)``: their queries, or where those are
            others' their keys.
        learnt: how many other queries attend to the tokens; 0 where none do.
    """

    vectors: Tensor
    learnt: int = 0


class _Enough(Exception):  # noqa: N818  # no error: it ends a forward pass that has told enough
    """All that matters was seen."""


def _see(
    model: PreTrainedModel, name: str, given: dict[str, NDArray[Any]], grids: list[Grid]
) -> _Sight:
    """Run a model until its attention has told what its tokens are.

    Args:
        model: takes features.
        name: its argument for them.
        given: one example's values, and further arguments.
        grids: filled with the cells that convolutions of two or three axes lay out.
    """
    import torch
    from torch import nn

    found: list[_Sight] = []
    crosses = any(CROSS.search(name) for name, _ in model.named_modules())

    def look(call: AttentionCall) -> None:
        if CROSS.search(call.name):
            if not found:
                found.append(_Sight(call.key))
            found[0].learnt = call.query.shape[2]
        elif not found:
            found.append(_Sight(call.query))
        if found[0].learnt or not crosses:
            raise _Enough

    def run() -> None:
        for way in WAYS:
            with collect(model, way, look):
                model(**inputs)
            if found:
                return

    def note(module: nn.Module, given: object, output: Tensor) -> None:
        grids.append(tuple(output.shape[2:]))

    inputs = to_tensors([given], model.device, model.dtype)
    with ExitStack() as stack, torch.inference_mode(), quiet():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.MaxPool2d):
                stack.callback(module.register_forward_hook(note).remove)
        try:
            run()
        except _Enough:
            pass
        except InputError:
            raise
        except Exception as error:  # the model's own code; whatever it raises names the reason
            reason = str(error).strip().splitlines()
            raise InputError(
                f"model {type(model).__name__} does not take {name} of shape {given[name].shape}: "
                f"{reason[0] if reason else repr(error)}"
            ) from error
    if not found:
        raise InputError(
            f"model {type(model).__name__} cannot be captured: no product of queries and keys "
            "that becomes weights of values was seen in it"
        )
    return found[0]
