"""What a model of features shows of its tokens before it has run to its end."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qkvault import InputError
from qkvault_extractor.features import to_tensors
from qkvault_extractor.machine import quiet
from qkvault_extractor.stacks import CROSS
from qkvault_extractor.ways import WAYS, collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from qkvault_extractor.capture import AttentionCall

Grid = tuple[int, ...]


@dataclass
class Sight:
    """What attention calls told so far.

    Attributes:
        vectors: one for every token, ``(example, head, token, dim)``: their queries, or their keys
            where the queries are others'.
        learnt: how many other queries attend to the tokens; 0 where none do.
        later: whether calls before attended within parts of each example, apart from each other.
    """

    vectors: Tensor
    learnt: int = 0
    later: bool = False


class _Enough(Exception):  # noqa: N818  # no error: it ends a forward pass that has told enough
    """All that matters was seen."""


def see(
    model: PreTrainedModel, name: str, given: list[dict[str, NDArray[Any]]], grids: list[Grid]
) -> Sight:
    """Run a model until its attention has told what its tokens are.

    Args:
        model: takes features.
        name: its argument for them.
        given: values, and further arguments, of examples of one kind.
        grids: filled with the cells that convolutions of two or three axes lay out.

    Raises:
        InputError: the model does not take these values, or no attention is seen.
    """
    import torch

    found: list[Sight] = []
    crosses = any(CROSS.search(part) for part, _ in model.named_modules())
    look = _look_into(found, len(given), crosses=crosses)
    inputs = to_tensors(given, model.device, model.dtype)
    with torch.inference_mode(), quiet(), ExitStack() as stack:
        _note_grids(model, grids, stack)
        try:
            for way in WAYS:
                with collect(model, way, look):
                    model(**inputs)
                if found:
                    break
        except _Enough:
            pass
        except InputError:
            raise
        except Exception as error:  # the model's own code; whatever it raises names the reason
            reason = str(error).strip().splitlines()
            shape = given[0][name].shape
            raise InputError(
                f"model {type(model).__name__} does not take {name} of shape {shape}: "
                f"{reason[0] if reason else repr(error)}"
            ) from error
    if not found:
        raise InputError(
            f"model {type(model).__name__} cannot be captured: no product of queries and keys "
            "that becomes weights of values was seen in it"
        )
    return found[0]


def _look_into(
    found: list[Sight], examples: int, *, crosses: bool
) -> Callable[[AttentionCall], None]:
    """Make what looks at calls: at the first one, and where a module is named after
    cross-attention, at the first of those; where the first one attends within parts of an example,
    at the first one from all tokens of its stage to all of them, if there is any."""

    def look(call: AttentionCall) -> None:
        if CROSS.search(call.name):
            if not found:
                found.append(Sight(call.key))
            found[0].learnt = call.query.shape[2]
        elif not found:
            found.append(Sight(call.query))
        elif not crosses and _is_whole(call, examples):
            found[0] = Sight(call.query, later=True)
        if found[0].learnt or (not crosses and len(found[0].vectors) <= examples):
            raise _Enough

    return look


def _is_whole(call: AttentionCall, examples: int) -> bool:
    return len(call.query) == examples and call.query.shape[2] == call.key.shape[2]


def _note_grids(model: PreTrainedModel, grids: list[Grid], stack: ExitStack) -> None:
    """Note what convolutions lay out, until a stack is left."""
    from torch import nn

    def note(module: nn.Module, given: object, output: Tensor) -> None:
        grids.append(tuple(output.shape[2:]))

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.MaxPool2d):
            stack.callback(module.register_forward_hook(note).remove)
