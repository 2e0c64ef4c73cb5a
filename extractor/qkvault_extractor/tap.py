"""Attention calls of models that compute attention in code of their own.

Such code differs from model to model, and yet is a product of queries and keys, a few operations
that keep the map's shape, a softmax over its keys, and a product with values. :class:`Tap` watches
the operations of a forward pass (``TorchFunctionMode``) and follows every product along this way;
what ends elsewhere, as the softmax of a router does, was no attention. No model is known by name.
Modules that multiply blocks of tokens are watched as wholes, and laid out by :mod:`.layouts`.

    with Tap(model, on_call):
        model(input_ids=..., attention_mask=...)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from qkvault_extractor.capture import AttentionCall, Collector
from qkvault_extractor.followed import Scores, add_terms, describe, to_heads, weigh
from qkvault_extractor.layouts import LAYOUTS
from qkvault_extractor.layouts.steps import Steps
from qkvault_extractor.opened import open_up
from qkvault_extractor.products import product_of, value_of
from qkvault_extractor.switching import switch_attention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_PRODUCTS: Final = frozenset({"matmul", "rmatmul", "bmm", "baddbmm", "einsum"})
_MAKERS: Final = ("_like", "new_")
_BREAKS: Final = frozenset({"gather", "index_select", "take_along_dim", "roll", "flip", "get"})


class Tap(Collector):
    """Calls ``on_call`` with every attention computation of a model's forward passes.

    A context manager like :class:`qkvault_extractor.capture.Collector`, and of the same calls.

    Args:
        model: a transformers model in evaluation mode.
        on_call: called in the order of computation, inside the forward pass.
        implementation: which of the model's own implementations runs; None for the one it has.
        left_out: as for :class:`~qkvault_extractor.capture.Collector`.
        describe: give masks, and what else is added to the scores, with each call.
        weigh: compute anew the attention that torch's fused function keeps to itself, and lay out
            as a map what is computed in blocks.
        wide: give attention in float32, of the operands and the operations followed, if nothing
            else happened to the scores; calls must be described.

    Attributes:
        is_watching: whether operations are the model's, and looked at.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        on_call: Callable[[AttentionCall], None],
        implementation: str | None = "eager",
        *,
        left_out: Collection[int] = (),
        describe: bool = False,
        weigh: bool = True,
        wide: bool = False,
    ) -> None:
        super().__init__(model, on_call, left_out=left_out, wide=wide)
        self._implementation = implementation
        self._describe = describe
        self._weigh = weigh
        self.is_watching = True
        self._batch, self._tokens = 1, 0
        self._within: list[nn.Module] = []
        self._blocked: dict[nn.Module, tuple[str, Steps]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Tap:
        self._start()
        if self._implementation is not None:
            switch_attention(self._model, self._implementation)
        self._stack = ExitStack()
        first = self._model.register_forward_pre_hook(self._note_batch, with_kwargs=True)
        self._stack.callback(first.remove)
        for module in self._names:
            self._stack.callback(module.register_forward_pre_hook(self._go_in).remove)
            leave = module.register_forward_hook(self._go_out, always_call=True)
            self._stack.callback(leave.remove)
        self._stack.enter_context(_Watch(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._within.clear()
        self._blocked.clear()
        self._restore()

    def start_scores(self, query: Tensor, key: Tensor) -> Scores:
        """A product that may turn out to be attention's scores; operands are kept as they are now,
        for models may overwrite them."""
        return Scores(self._module, query.clone(), key.clone())

    def end_scores(
        self, scores: Scores, attention: Tensor, value: Tensor, output: Tensor | None = None
    ) -> None:
        """Hand on a call that is complete.

        Args:
            scores: where it came from.
            attention: ``(..., query_token, key_token)``, as it meets the values.
            value: ``(..., key_token, value_dim)``.
            output: what torch's fused function made of both.
        """
        heads = attention.shape[1] if attention.ndim == 4 else attention.shape[0] // self._batch
        mask, bias = None, None
        if self._describe:
            mask, bias = describe(scores, self._batch, heads)
        query, key, value, attention = (
            to_heads(x, self._batch) for x in (scores.query, scores.key, value, attention)
        )
        if self.wide and scores.plain and attention.dtype != torch.float32:
            attention = weigh(query, key, scores.scaling, mask, bias)
        terms = {"scaling": scores.scaling, "position_bias": bias}
        output = output.clone() if output is not None and self._describe else output
        self.record(scores.module, query, key, value, attention, mask, terms, output=output)

    @property
    def _module(self) -> nn.Module:
        """The module whose operations come now."""
        return self._within[-1] if self._within else self._model

    def take_step(self, name: str, args: tuple[Any, ...], output: Any) -> bool:
        """Take an operation of a module that computes attention in blocks; False of any other."""
        found = self._blocked.get(self._module)
        if found is None:
            if name != "einsum" or not isinstance(args[0], str) or args[0] not in LAYOUTS:
                return False
            found = self._blocked[self._module] = (args[0], Steps())
        found[1].take(name, args, output)
        return True

    def fused(self, output: Tensor, inputs: Mapping[str, Any]) -> None:
        """Hand on a call of torch's fused attention function, whose attention is computed anew."""
        query, key, value = inputs["query"], inputs["key"], inputs["value"]
        scaling = inputs["scale"] or query.shape[-1] ** -0.5
        if not self._weigh:
            terms = {"scaling": scaling}
            self.record(self._module, query, key, value, None, None, terms, output=output)
            return
        scores = add_terms(
            self.start_scores(query, key), query, scaling, inputs["attn_mask"], inputs["is_causal"]
        )
        shared = query.shape[1] // key.shape[1]
        wide = scores.key.repeat_interleave(shared, 1).transpose(-1, -2)
        # The kernels keep weights of half precision in float32 too.
        logits = torch.matmul(scores.query.float(), wide.float()).mul_(scaling)
        for hidden in scores.hidden:
            logits.masked_fill_(hidden, torch.finfo(logits.dtype).min)
        for part, _ in scores.added:
            logits += part
        self.end_scores(scores, torch.softmax(logits, -1), value, output)

    def _note_batch(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor) and x.ndim > 1]
        self._batch, self._tokens = given[0].shape[:2] if given else (1, 0)

    def _go_in(self, module: nn.Module, args: object) -> None:
        self._within.append(module)

    def _go_out(self, module: nn.Module, args: object, output: object) -> None:
        if self._within and self._within[-1] is module:
            self._within.pop()
        blocked = self._blocked.pop(module, None)
        if blocked is None or output is None:  # None comes of a pass that was broken off
            return
        self.is_watching = False  # what is done here is not the model's
        try:
            self._end_blocks(module, *blocked)
        finally:
            self.is_watching = True

    def _end_blocks(self, module: nn.Module, first: str, steps: Steps) -> None:
        """Hand on the call of a module that computes attention in blocks, known by a product."""
        found = LAYOUTS[first](steps, self._tokens, self._describe, self._weigh)
        query, key, value, attention, mask, blocks, output = found
        is_half = attention is not None and attention.dtype != torch.float32
        if self.wide and is_half and blocks.unknown is None:
            attention = weigh(query, key, 1.0, mask, None)
        terms = {"scaling": 1.0}
        self.record(module, query, key, value, attention, mask, terms, blocks, output)


class _Watch(TorchFunctionMode):
    """Sees every operation, and knows of some tensors which scores or weights they are."""

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap
        self._known: Any = WeakTensorKeyDictionary()  # tensor -> Scores

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not self._tap.is_watching:
            return func(*args, **kwargs)
        if (opened := open_up(func)) is not None:
            with self:
                return opened(*args, **kwargs)
        name = func.__name__.strip("_")
        if name == "einsum" and len(args) == 2 and isinstance(args[1], (list, tuple)):
            args = (args[0], *args[1])  # operands may come as one argument
        sources = self._sources(args, kwargs) if self._known else {}
        # Operations in place are over when their input is looked at: shapes are taken before.
        output = func(*args, **kwargs)
        if self._tap.take_step(name, args, output):
            return output
        if name in _PRODUCTS:
            self._multiply(name, args, kwargs, sources, output)
        elif name == "scaled_dot_product_attention":
            self._tap.fused(output, _fused_inputs(*args, **kwargs))
        elif sources and isinstance(output, torch.Tensor) and output.is_floating_point():
            found = self._follow(name, args, kwargs, sources, output)
            if found is not None:
                self._known[output] = found
        return output

    def _sources(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[int, Scores]:
        """The scores among an operation's inputs, by place (keywords come last)."""
        found = {}
        for place, x in enumerate((*args, *kwargs.values())):
            if isinstance(x, torch.Tensor) and (scores := self._known.get(x)) is not None:
                found[place] = scores
        return found

    def _multiply(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        sources: Mapping[int, Scores],
        output: Tensor,
    ) -> None:
        weights = next(((i, s) for i, s in sources.items() if s.softened), None)
        if weights is not None:
            place, scores = weights
            found = value_of(name, place, args)
            if found is not None and not scores.ended:
                self._tap.end_scores(scores, *found)
                scores.ended.append(True)
            return
        product = product_of(name, args, kwargs)
        if product is None or product.query.ndim < 3:
            return
        scores = self._tap.start_scores(product.query, product.key)
        self._known[output] = scores.scaled(product.factor).plus(product.added, output)

    def _follow(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        sources: Mapping[int, Scores],
        output: Tensor,
    ) -> Scores | None:
        """What the result of an operation on scores is; None where it is scores no longer."""
        if name in _BREAKS or any(part in name for part in _MAKERS):
            return None
        # Of two products that are added, the one nothing was done to but scaling is the content's.
        place, scores = min(sources.items(), key=lambda item: not item[1].plain)
        before = (*args, *kwargs.values())[place]
        if output.shape[-2:] != before.shape[-2:]:
            return scores if name == "getitem" and scores.softened else None
        if name == "softmax":
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            last = dim in (-1, output.ndim - 1)
            return scores.weighed() if last and not scores.softened else None
        if scores.softened:
            return scores
        return scores.after(name, args, kwargs, place, output)


def _fused_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> dict[str, Any]:
    """Arguments of torch's scaled_dot_product_attention by name."""
    return {
        "query": query,
        "key": key,
        "value": value,
        "attn_mask": attn_mask,
        "is_causal": is_causal,
        "scale": scale,
    }
