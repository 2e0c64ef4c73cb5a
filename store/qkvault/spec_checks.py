"""What must hold for a spec, whoever wrote it: this release or a foreign vault."""

from __future__ import annotations

from typing import Final

from .recipe import Mask, check_recipe
from .spec import ARRAYS, PRECISIONS, STACKS, VECTOR_PRECISIONS, Stack, VaultSpec

_MAX_SIZE: Final = 1 << 24
_MAX_SCALING: Final = 1e30  # NaN is not at most that; a number without end is no float
_MAX_METRICS: Final = 256
_MAX_LINE: Final = 200


def refuse_unsound(spec: VaultSpec) -> None:
    """Refuse a spec that contradicts itself or the format.

    Raises:
        ValueError: saying what is wrong.
    """
    if not spec.arrays or tuple(a for a in ARRAYS if a in spec.arrays) != tuple(spec.arrays):
        raise ValueError(f"arrays {spec.arrays!r} are not some of {ARRAYS}, in that order")
    if spec.precision not in PRECISIONS:
        raise ValueError(f"precision {spec.precision!r} is none of {PRECISIONS}")
    for name, kept in spec.vectors.items():
        if name not in spec.arrays or name == "attention" or kept not in VECTOR_PRECISIONS:
            raise ValueError(f"{name!r:.40} is not kept as {kept!r:.40}")
    names = [stack.name for stack in spec.stacks]
    if not names or [name for name in STACKS if name in names] != names:
        raise ValueError(f"stacks {names} are not some of {STACKS}, in that order")
    if type(spec.logits) is not int or not 0 <= spec.logits <= _MAX_SIZE:
        raise ValueError(f"{spec.logits} logits")
    if not all(isinstance(name, str) for name in spec.label_names):
        raise ValueError("a label name is not text")
    if spec.label_names and len(spec.label_names) != spec.logits:
        raise ValueError(f"{len(spec.label_names)} label names for {spec.logits} logits")
    if spec.thumbnails not in ("every", "pooled"):
        raise ValueError(f"thumbnails {spec.thumbnails!r:.40} are neither every nor pooled")
    if type(spec.target) is not bool:
        raise ValueError("target is neither true nor false")
    if not spec.target and (len(names) > 1 or "cross" in names):
        raise ValueError(f"stacks {names} without a target sequence")
    for stack in spec.stacks:
        _check_stack(stack)
    if not all(isinstance(name, str) and name for name in spec.metrics):
        raise ValueError("a metric's name is not text")
    if len(set(spec.metrics)) != len(spec.metrics) or len(spec.metrics) > _MAX_METRICS:
        raise ValueError(f"{len(spec.metrics)} metrics, or one twice")
    error = spec.derived_error
    if error is not None and not (isinstance(error, int | float) and 0 <= error <= _MAX_SCALING):
        raise ValueError("a derived error that is no number")
    if spec.attention == "derived":
        _check_derived(spec)
    elif spec.attention != "stored":
        raise ValueError(f"attention {spec.attention!r} is neither stored nor derived")


def _check_derived(spec: VaultSpec) -> None:
    if "attention" in spec.arrays or not {"query", "key"} <= set(spec.arrays):
        raise ValueError(f"derived attention needs queries and keys alone, not {spec.arrays!r}")
    for stack in spec.stacks:
        for layer, recipe in zip(stack.layers, stack.recipe, strict=True):
            if recipe.unknown is not None:
                raise ValueError(f"attention of layer {layer} is not derivable: {recipe.unknown}")


def _is_line(text: object) -> bool:
    """Whether a text may stand in a line that a page or a terminal shows."""
    return isinstance(text, str) and 1 <= len(text) <= _MAX_LINE and text.isprintable()


def _check_widths(stack: Stack) -> None:
    if stack.widths and len(stack.widths) != len(stack.layers):
        raise ValueError(f"{len(stack.widths)} widths for {len(stack.layers)} layers")
    most = (stack.head_dim, stack.value_dim)
    for pair in stack.widths:
        if len(pair) != 2 or not all(type(width) is int for width in pair):
            raise ValueError("a layer's widths are not two numbers")
        if not all(1 <= width <= limit for width, limit in zip(pair, most, strict=True)):
            raise ValueError(f"a layer of widths {pair} in a stack of {most}")
    if stack.widths and (
        len(set(stack.widths)) == 1 or tuple(map(max, zip(*stack.widths, strict=True))) != most
    ):
        raise ValueError(f"widths that do not differ, or whose widest are not the stack's {most}")


def _check_stack(stack: Stack) -> None:
    sizes = (stack.heads, stack.key_heads, stack.head_dim, stack.value_dim, len(stack.layers))
    if not all(type(size) is int and 1 <= size <= _MAX_SIZE for size in sizes):
        raise ValueError(f"stack {stack.name} has sizes {sizes}")
    if stack.heads % stack.key_heads:
        raise ValueError(f"{stack.heads} heads are not a multiple of {stack.key_heads} key heads")
    if not all(type(n) is int and 0 <= n <= _MAX_SIZE for n in stack.layers):
        raise ValueError(f"layers {stack.layers} are not numbers")
    if list(stack.layers) != sorted(set(stack.layers)):
        raise ValueError(f"layers {stack.layers} are not ascending")
    if len(stack.scaling) != len(stack.layers):
        raise ValueError(f"{len(stack.scaling)} scalings for {len(stack.layers)} layers")
    if not all(isinstance(s, int | float) and abs(s) <= _MAX_SCALING for s in stack.scaling):
        raise ValueError("a scaling is not a number")
    _check_widths(stack)
    if type(stack.causal) is not bool:
        raise ValueError("causal is neither true nor false")
    if stack.beside is not None and not _is_line(stack.beside):
        raise ValueError(
            f"what a stack attends to beside its tokens, in words: {stack.beside!r:.40}"
        )
    if len(stack.recipe) != len(stack.layers):
        raise ValueError(f"{len(stack.recipe)} recipes for {len(stack.layers)} layers")
    for recipe in set(stack.recipe):
        check_recipe(recipe, stack.heads, stack.causal)
        if stack.name == "cross" and (stack.causal or recipe.mask != Mask()):
            raise ValueError(
                "cross-attention with a mask, whose keys stand in no order to its queries"
            )
