"""Which of transformers' attention implementations a model and its parts run, and changing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qkvault_extractor.machine import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Implementations = list[tuple[Any, str | None]]
"""Configurations, outer ones first, and the implementation that each names."""


def switch_attention(model: PreTrainedModel, implementation: str) -> None:
    """Choose one of a model's own attention implementations, in models that cannot be asked too."""
    with quiet():  # those warn
        model.set_attn_implementation(implementation)
    if model.config._attn_implementation != implementation:
        model.config._attn_implementation = implementation  # what they look at as they run


def implementations_of(model: PreTrainedModel) -> Implementations:
    """Which implementation a model and each of its parts runs: a detector's backbone may know
    fewer than the detector."""
    configs: list[Any] = [
        model.config,
        *(m.config for m in model.modules() if hasattr(m, "config")),
    ]
    for config in configs:  # grows
        names = getattr(config, "sub_configs", ())
        configs += [part for name in names if (part := getattr(config, name, None)) is not None]
    known = {id(config): config for config in configs if hasattr(config, "_attn_implementation")}
    return [(config, config._attn_implementation) for config in known.values()]


def restore_attention(before: Implementations) -> None:
    """Give a model the implementations back that it had."""
    for config, implementation in before:  # outer ones set inner ones along
        config._attn_implementation = implementation
