"""Attention calls as they happen: query, key, value and attention of every layer, bit for bit.

Transformers routes attention through a registry of functions (``AttentionInterface``). One function
registered there sees every call of every model that uses the registry, with queries and keys after
rotary embedding and normalisation, and keys and values before they are repeated for grouped
queries. It computes attention by the model file's *own* eager function, so what is kept is what the
model does.

    with Collector(model, on_call):
        model(input_ids=..., attention_mask=...)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from qkvault import InputError
from qkvault_extractor.switching import implementations_of, restore_attention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from qkvault_extractor.layouts.steps import Blocks
    from qkvault_extractor.switching import Implementations

IMPLEMENTATION: Final = "qkvault"
"""Name in transformers' registries. Models treat names holding "sdpa", "flash" or "flex" apart."""

TILED_IMPLEMENTATION: Final = "qkvault_tiles"
"""The same, where something else stands in for the model's own attention: masks are boolean, and
left out where only the rule of the layer hides keys."""

TERMS: Final = ("position_bias", "softcap", "s_aux", "sinks", "sliding_window")
"""Arguments by which models change their scores beyond ``scaling * query @ key`` and a mask."""


STREAMS: Final = {"prophetnet": ("ngram", "cross_attn")}
"""Types of models whose decoders read a text in several streams at once: one of its own tokens,
which comes first, and others to predict by. The setting that counts those, and what the modules
are called whose queries are those of all streams."""


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """One attention computation of a forward pass.

    Attributes:
        index: its place among the calls of this forward pass, from 0.
        name: qualified name of the module that made it; one module may make several calls.
        module: that module.
        query: ``(example, head, query_token, dim)``, as scored.
        key: ``(example, key_head, key_token, dim)``, as scored.
        value: ``(example, key_head, key_token, value_dim)``.
        attention: ``(example, head, query_token, key_token)``, after softmax; None where it never
            existed as a whole.
        scaling: what multiplies query·key before softmax; 1.0 where the model scales its queries.
        mask: what is added to the scores, ``(example, 1 or head, query_token, key_token)``; None
            for nothing.
        terms: those of :data:`TERMS` that the model passed, by name.
        blocks: what is known of it where the model computes it in blocks; else None.
        output: attention times values, ``(example, head, query_token, value_dim)``, where torch's
            fused function gave it; else None.
    """

    index: int
    name: str
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    attention: Tensor | None
    scaling: float
    mask: Tensor | None
    terms: Mapping[str, Any]
    blocks: Blocks | None = None
    output: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """Its attention, which is there."""
        assert self.attention is not None, "attention never existed as a whole"
        return self.attention


class Attend(Protocol):
    """Computes attention in place of the model's own function; see
    :class:`qkvault_extractor.tiles.TiledAttention`."""

    def __call__(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
    ) -> Tensor: ...


class Collector:
    """Calls ``on_call`` with every :class:`AttentionCall` of a model's forward passes.

    A context manager; outside it the model computes attention as before. Tensors of a call are
    valid during ``on_call`` only: models may overwrite them afterwards.

    Args:
        model: a transformers model in evaluation mode.
        on_call: called in the order of computation, inside the forward pass.
        attend: computes attention instead of the model's own eager function.
        left_out: places, among all attention calls of a forward pass, of those not to hand on.
        joined: places of those that are one with the call before: the same attention, over more
            values. They are handed on as one call, whose values lie side by side.
        wide: compute attention in float32 where the model does in half precision, from the same
            operands and by the same function: what it would be without rounding.

    Attributes:
        calls: attention calls of this forward pass that were handed on so far.
        streams: of queries in the model's cross-attention; only the first is handed on.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        on_call: Callable[[AttentionCall], None],
        attend: Attend | None = None,
        left_out: Collection[int] = (),
        joined: Collection[int] = (),
        *,
        wide: bool = False,
    ) -> None:
        self.calls = 0
        self.attend = attend
        self.wide = wide
        setting, self._streamed = STREAMS.get(getattr(model.config, "model_type", ""), ("", ""))
        self.streams = 1 + getattr(model.config, setting, 0)
        self._left_out = frozenset(left_out)
        self._joined = frozenset(joined)
        self._held: AttentionCall | None = None
        self._made = 0
        self._model = model
        self._on_call = on_call
        self._names: dict[nn.Module, str] = {}
        self._before: Implementations = []
        self._token: Token[Collector | None] | None = None

    def __enter__(self) -> Collector:
        _register()
        self._start()
        name = TILED_IMPLEMENTATION if self.attend is not None else IMPLEMENTATION
        self._model.set_attn_implementation(name)
        self._token = _active.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._token is not None
        _active.reset(self._token)
        self._restore()

    def _start(self) -> None:
        self._names = {module: name for name, module in self._model.named_modules()}
        self._before = implementations_of(self._model)

    def _restore(self) -> None:
        restore_attention(self._before)

    def start_forward(self) -> None:
        """Count calls from 0 again; to be called before each forward pass."""
        self.calls = self._made = 0
        self._held = None

    def record(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention: Tensor | None,
        mask: Tensor | None,
        terms: Mapping[str, Any],
        blocks: Blocks | None = None,
        output: Tensor | None = None,
    ) -> None:
        """Hand one call on, unless it is left out; used by the registered function."""
        place = self._made
        self._made += 1
        if place in self._left_out or (place in self._joined and self._held is None):
            return  # what is one with a call that is left out is left out too
        call = AttentionCall(
            index=self.calls,
            name=self._names.get(module, type(module).__name__),
            module=module,
            query=query,
            key=key,
            value=value,
            attention=attention,
            scaling=_scaling(query, terms),
            mask=mask,
            terms={name: terms[name] for name in TERMS if terms.get(name) is not None},
            blocks=blocks,
            output=output,
        )
        if self.streams > 1 and call.name.endswith(self._streamed):
            call = _of_first_stream(call, self.streams)
        self._hand_on(call, joins_next=place + 1 in self._joined)

    def _hand_on(self, call: AttentionCall, *, joins_next: bool) -> None:
        if self._held is not None:
            call = join_calls(self._held, call)
        self._held = call if joins_next else None
        if self._held is None:
            self.calls += 1
            self._on_call(call)


def _of_first_stream(call: AttentionCall, streams: int) -> AttentionCall:
    attention, mask = (
        None if x is None else first_stream(x, streams) for x in (call.attention, call.mask)
    )
    query = first_stream(call.query, streams)
    return replace(call, query=query, attention=attention, mask=mask)


def first_stream(x: Tensor, streams: int) -> Tensor:
    """Rows of the first stream of queries: ``(example, head, query_token, ...)`` of all of them."""
    return x if x.shape[2] == 1 else x[:, :, : x.shape[2] // streams]


def repeats(before: AttentionCall, call: AttentionCall) -> bool:
    """Whether a call is the one before over again, with other values (DiffLlama's second half)."""
    parts = ("module", "query", "key", "mask")
    same = all(getattr(before, part) is getattr(call, part) for part in parts)
    return same and before.terms.keys() == call.terms.keys() and before.value is not call.value


def join_calls(before: AttentionCall, call: AttentionCall) -> AttentionCall:
    """Two calls of one attention as one, whose values lie side by side.

    Raises:
        InputError: they are not of one attention.
    """
    import torch

    if not repeats(before, call):
        raise InputError(
            f"{call.name} attends twice with other queries and keys where its first forward pass "
            "had the same ones; a model whose layers depend on its input cannot be captured"
        )
    return replace(before, value=torch.cat([before.value, call.value], -1))


_active: ContextVar[Collector | None] = ContextVar("qkvault_collector", default=None)


def _capture_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **terms: Any,
) -> tuple[Tensor, Tensor | None]:
    """Stand where transformers calls attention: the model's own eager function, and a record."""
    collector = _active.get()
    attention: Tensor | None = None
    if collector is not None and collector.attend is not None:
        scaling = _scaling(query, terms)
        output = collector.attend(collector.calls, query, key, value, attention_mask, scaling)
    else:
        eager = _own_eager(type(module))  # type: ignore[arg-type]  # a class hashes
        given = (query, key, value, attention_mask)
        if collector is not None and collector.wide:
            more = {name: _widen(term) for name, term in terms.items()}
            output, attention = eager(module, *map(_widen, given), **more)
            output = output.to(value.dtype)
        else:
            output, attention = eager(module, *given, **terms)
    if collector is not None:
        collector.record(module, query, key, value, attention, attention_mask, terms)
    return output, attention


def _widen(x: Any) -> Any:
    """A floating tensor in float32; what is none as it is."""
    import torch

    return x.float() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def _scaling(query: Tensor, terms: Mapping[str, Any]) -> float:
    scaling = terms.get("scaling")
    return float(query.shape[-1]) ** -0.5 if scaling is None else float(scaling)


@cache
def _own_eager(module_class: type[nn.Module]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Find the eager attention function of the file that defines a module's forward pass.

    Raises:
        InputError: that file has none under transformers' usual name.
    """
    source = inspect.unwrap(module_class.forward)
    eager = source.__globals__.get("eager_attention_forward")
    if eager is None:
        raise InputError(
            f"{module_class.__name__} has no eager attention of its own, so its attention "
            "cannot be captured; choose another model"
        )
    return eager  # type: ignore[no-any-return]


@cache
def _register() -> None:
    """Register the function and mask builders, without which masks are silently left out.

    The additive float mask is taken: a boolean one is added as 0 and 1 by many eager functions.
    Attention in tiles knows both kinds, and takes the one that may be left out.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask, sdpa_mask

    for name, build_mask in ((IMPLEMENTATION, eager_mask), (TILED_IMPLEMENTATION, sdpa_mask)):
        AttentionInterface.register(name, _capture_attention)
        AttentionMaskInterface.register(name, build_mask)
