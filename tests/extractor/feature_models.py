"""Tiny models of images and sounds, weights random but fixed, and inputs for them."""

from __future__ import annotations

import copy
import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import numpy as np
import torch

from qkvault import STACKS
from qkvault_extractor.machine import quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from qkvault import StackName


ZEROS = ("relative_position_bias_table", "rel_pos_h", "rel_pos_w")
"""Ends of the names of parameters that begin as zeros, which tell nothing."""


class Family(NamedTuple):
    """A tiny model of a family.

    Attributes:
        prefix: of the names of its classes in transformers.
        settings: of its configuration.
        shape: of an example.
        names: of its tokens.
        target: names of the queries that it has learnt.
        suffix: of its model class.
        arguments: what it is given beside the values.
        alone: whether it makes one sequence of a batch, so that each example has to come alone.
        hooked: class of the modules whose second output is attention, where the model itself
            reports not that of all of them.
    """

    prefix: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    names: Sequence[str] = ()
    target: Sequence[str] = ()
    suffix: str = "Model"
    arguments: Mapping[str, Any] = MappingProxyType({})
    alone: bool = False
    hooked: str = ""

    def make(self) -> Any:
        return make_model(self.prefix, self.settings, self.suffix)

    def own_stacks(
        self, model: Any, arrays: Sequence[NDArray[np.float32]]
    ) -> dict[StackName, NDArray[np.float32]]:
        """As :func:`own_stacks`, of one made by :meth:`make`."""
        latents = len(self.target) if self.prefix == "Perceiver" else 0
        batches = [[array] for array in arrays] if self.alone else [arrays]
        found = [
            own_stacks(model, batch, latents, self.arguments, self.hooked) for batch in batches
        ]
        return {stack: np.concatenate([one[stack] for one in found]) for stack in found[0]}


def make_model(prefix: str, settings: dict[str, Any], suffix: str = "Model", **more: Any) -> Any:
    import transformers

    config = getattr(transformers, f"{prefix}Config")(**settings, **more)
    with quiet():
        torch.manual_seed(0)
        model = getattr(transformers, prefix + suffix)(config).eval()
        for name, weights in model.named_parameters():
            if name.endswith(ZEROS):
                torch.nn.init.normal_(weights)
    return model


def make_arrays(shape: Sequence[int], count: int = 3) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(5)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]


def own_attention(model: Any, arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The only stack's of :func:`own_stacks`."""
    (attention,) = own_stacks(model, arrays).values()
    return attention


def own_stacks(
    model: Any,
    arrays: Sequence[NDArray[np.float32]],
    latents: int = 0,
    arguments: Mapping[str, Any] = MappingProxyType({}),
    hooked: str = "",
) -> dict[StackName, NDArray[np.float32]]:
    """A model's own attention by stack, ``(example, layer, head, query_token, key_token)``, as a
    twin of it reports that was built to compute eagerly.

    Args:
        model: the model; of one whose decoder reads a text, the encoder.
        arrays: examples of one shape.
        latents: how many a Perceiver has; its decoder, whose queries are others, is left out.
        arguments: what the model is given beside each of them.
        hooked: as for :class:`Family`; attention within parts of an example is left out.
    """
    if "decoder_input_ids" in _arguments(model):
        model = model.get_encoder()
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    with quiet():
        twin = type(model)(config).eval()
    twin.load_state_dict(model.state_dict())
    named = ("pixel_values", "pixel_values_videos", twin.main_input_name)
    name = next(name for name in named if name in _arguments(twin))
    given = {name: torch.from_numpy(np.stack(arrays))}
    for further, value in arguments.items():
        given[further] = torch.tensor([value] * len(arrays))
    whole = _hook(twin, hooked, len(arrays))
    with torch.inference_mode(), _PerHead() as per_head:
        output = twin(**given, output_attentions=True)
    found = {stack: getattr(output, f"{stack}_attentions", None) for stack in STACKS}
    if hooked:
        found = {"encoder": whole}
    elif one := output.get("attentions"):
        averaged = one[0].stride(1) == 0  # one map for all heads
        found["decoder" if latents else "encoder"] = per_head.maps if averaged else one
    return {
        stack: torch.stack([a for a in own if not latents or a.shape[2] == latents], 1).numpy()
        for stack, own in found.items()
        if own
    }


def _hook(model: Any, kind: str, examples: int) -> list[torch.Tensor]:
    """What modules of a class will give as attention with a map for each example as a whole:
    ``(example, head, query_token, key_token)``, filled as the model runs."""
    maps: list[torch.Tensor] = []

    def note(module: Any, given: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        heads = module.num_attention_heads
        weights = output[1].reshape(-1, heads, *output[1].shape[-2:])
        if len(weights) == examples:
            maps.append(weights)

    for module in model.modules():
        if type(module).__name__ == kind:
            module.register_forward_hook(note)
    return maps


def _arguments(model: Any) -> Sequence[str]:
    return tuple(inspect.signature(model.forward).parameters)


class _PerHead:
    """Keeps what torch's multi-head attention computes before it is averaged over heads."""

    def __init__(self) -> None:
        self.maps: list[torch.Tensor] = []
        self._own = torch.nn.functional.multi_head_attention_forward
        self._patch = mock.patch.object(
            torch.nn.functional, "multi_head_attention_forward", self._attend
        )

    def __enter__(self) -> _PerHead:
        self._patch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._patch.stop()

    def _attend(self, *args: Any, **kwargs: Any) -> Any:
        output, weights = self._own(*args, **{**kwargs, "average_attn_weights": False})
        self.maps.append(weights)
        return output, weights.mean(1)
