"""How true a vault is to its model: what is stored and what is derived, against eager attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import qkvault
from extractor.feature_families import FAMILIES, MORE, REFUSED
from extractor.feature_models import make_arrays
from extractor.models import write_pairs, write_texts
from qkvault import InputError, Recipe, derive_attention
from qkvault_extractor import (
    ExtractOptions,
    FeatureOptions,
    Features,
    extract,
    extract_features,
)
from qkvault_extractor.batches import default_budget, plan_batches
from qkvault_extractor.layouts.reports import read_band, read_neighbours, read_parted
from qkvault_extractor.machine import quiet
from qkvault_extractor.padding import part_by_length
from qkvault_extractor.ways import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LENGTHS = [28, 17, 40, 28]
TARGET_LENGTHS = [12, 30, 24, 19]
IN_BLOCKS = {
    "longformer": read_band,
    "led": read_band,
    "longt5": read_neighbours,
    "pegasus_x": read_parted,
}
"""What lays out the attention that an encoder reports, where that is no map of tokens."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one architecture, over all examples, layers and heads.

    Attributes:
        way: how attention was captured; empty if the model was refused.
        difference: largest difference of attention stored as float32 from what the model's own
            eager pass reports; None where that is no reference.
        kernel_difference: largest difference of attention times values from what torch's fused
            function gave, where that was the reference.
        derived: largest difference of attention derived from float32 queries and keys from that
            stored; None where the recipe is unknown.
        derived_half: the same from float16 queries and keys.
        of_scores: whether the difference is from the softmax of scores, which are what the model
            reports, in some stack at least.
        notes: layers, heads and rules of the vault, or why the model was refused.
    """

    way: str = ""
    difference: float | None = None
    kernel_difference: float | None = None
    derived: float | None = None
    derived_half: float | None = None
    of_scores: bool = False
    notes: str = ""


def measure(
    make_model: Callable[[Path], Path],
    folder: Path,
    *,
    has_target: bool = False,
    class_name: str = "AutoModel",
    first_is_global: bool = False,
) -> Figures:
    """Make a model of texts, extract some with it, and compare.

    Args:
        make_model: writes a model into the folder it is given, and returns that.
        folder: an empty one.
        has_target: the model is an encoder-decoder, whose decoder reads a target.
        class_name: of transformers' classes, the one that the extractor has to load it by.
        first_is_global: the first token of each text is to be global.
    """
    data = folder / "texts.jsonl"
    options = {"target_column": "target"} if has_target else {}
    options |= {"global_tokens": "first"} if first_is_global else {}
    try:
        model = make_model(folder / "model")
        if has_target:
            write_pairs(data, list(zip(LENGTHS, TARGET_LENGTHS, strict=True)))
        else:
            write_texts(data, LENGTHS)
        vault = extract_to(folder / "vault", model, data, precision="float32", **options)
    except InputError as refusal:
        return refused(refusal, folder / "model")
    return figures_of(vault, *difference_from_eager(vault, model, class_name))


def measure_features(family: str, folder: Path) -> Figures:
    """Make a model of images or sounds, extract some with it, and compare.

    Args:
        family: one of ``FAMILIES``, ``MORE`` or ``REFUSED`` of :mod:`extractor.feature_families`.
        folder: an empty one.
    """
    made = {**FAMILIES, **MORE, **REFUSED}[family]
    model, arrays = made.make(), make_arrays(made.shape)
    try:
        options = FeatureOptions(model, folder / "vault", precision="float32")
        extract_features(options, [Features(values, arguments=made.arguments) for values in arrays])
    except InputError as refusal:
        return refused(refusal, folder / "model")
    vault = qkvault.open(folder / "vault")
    own = made.own_stacks(model, arrays)
    assert own.keys() == {stack.name for stack in vault.spec.stacks}
    differences = [
        float(np.abs(example.stack(stack).attention[:, :] - theirs).max())
        for stack, maps in own.items()
        for example, theirs in zip(vault, maps, strict=True)
    ]
    return figures_of(vault, max(differences))


def refused(refusal: InputError, model: Path) -> Figures:
    """Figures of a model that was refused: the reason alone."""
    reason = str(refusal).partition("cannot be captured: ")[2] or str(refusal)
    return Figures(notes=reason.partition("; supported:")[0].replace(str(model), "MODEL"))


def figures_of(vault: qkvault.Vault, difference: float, of_scores: bool = False) -> Figures:
    """Figures of a vault of float32.

    Args:
        vault: of one model.
        difference: of its attention from the model's own eager pass.
        of_scores: whether that pass reports scores.
    """
    said = str(vault.spec.provenance["capture"])
    way = next(way for way, words in WAYS.items() if words == said)
    kernel = vault.spec.provenance["capture_difference"] if way == "kernel" else None
    assert kernel is None or isinstance(kernel, float)
    return Figures(
        way,
        None if way == "kernel" else difference,
        kernel,
        derived_difference(vault, np.float32),
        derived_difference(vault, np.float16),
        of_scores,
        "; ".join(_describe(stack) for stack in vault.spec.stacks),
    )


def difference_from_eager(
    vault: qkvault.Vault, model: Path, class_name: str = "AutoModel"
) -> tuple[float, bool]:
    """Largest difference of a vault's attention from ``output_attentions`` of its model, or from
    their softmax where they are no weights; and whether some are not."""
    worst, of_scores = 0.0, False
    for batch in batches_of(vault):
        first_is_global = vault.spec.identity.get("global_tokens") == "first"
        output = run_model(model, class_name, batch, "eager", first_is_global=first_is_global)
        for stack in vault.spec.stacks:
            own = reported(output, vault, stack.name, batch)
            if len(own) != len(stack.layers):  # some were left out: those kept go by their numbers
                own = [own[layer] for layer in stack.layers]
            if min(float(layer.min()) for layer in own) < 0:
                own, of_scores = [layer.softmax(-1) for layer in own], True
            for row, example in enumerate(batch):
                stored = example.stack(stack.name).attention[:, :]
                assert stored.std() > 0.02, "too even to tell anything"
                queries, keys = stored.shape[2:]  # (layer, head, query_token, key_token)
                theirs = torch.stack([layer[row, :, :queries, :keys] for layer in own]).numpy()
                worst = max(worst, float(np.abs(stored - theirs).max()))
    return worst, of_scores


def reported(
    output: Any, vault: qkvault.Vault, stack: qkvault.StackName, batch: Sequence[qkvault.Example]
) -> list[torch.Tensor]:
    """Maps of a stack's layers, ``(example, head, query_token, key_token)``, by their model."""
    side = f"{stack}_" if vault.spec.target else ""
    if stack == "decoder" and "decoder_attentions" not in output:  # of latents
        side = ""
    own = [attention for attention in output[f"{side}attentions"] if attention is not None]
    read = IN_BLOCKS.get(str(vault.spec.provenance["type"])) if stack == "encoder" else None
    if read is None:
        return own
    apart = output.get(f"{side}global_attentions") or [None] * len(own)
    tokens = max(len(example.tokens) for example in batch)
    return [read(*layer, tokens) for layer in zip(own, apart, strict=True)]


def derived_difference(vault: qkvault.Vault, dtype: type[np.floating[Any]]) -> float | None:
    """Largest difference of derived from stored attention, queries and keys rounded to a type."""
    worst: float | None = None
    for example in vault:
        for stack in vault.spec.stacks:
            for depth, layer in enumerate(stack.layers):
                if stack.recipe[depth].unknown is not None:
                    continue
                view = example.stack(stack.name)
                query, key = (x[layer].astype(dtype) for x in (view.query, view.key))
                found = derive_attention(query, key, stack.scaling[depth], stack.recipe[depth])
                error = float(np.abs(found - view.attention[layer]).max())
                worst = max(worst or 0.0, error)
    return worst


def _describe(stack: qkvault.Stack) -> str:
    widths = _describe_widths(stack.widths or ((stack.head_dim, stack.value_dim),))
    heads = f"{stack.heads} heads" + (
        f" on {stack.key_heads}" if stack.key_heads != stack.heads else ""
    )
    rules = list(dict.fromkeys(_describe_rule(recipe) for recipe in stack.recipe))
    layers = ", ".join(map(str, stack.layers))
    return f"{stack.name}, layers {layers}, {heads} of {widths}: {' / '.join(rules)}"


def _describe_widths(widths: Sequence[tuple[int, int]]) -> str:
    """Distinct widths of layers, those of values where they are others."""
    return " and ".join(
        f"{own}" + (f" (values {of_values})" if of_values != own else "")
        for own, of_values in dict.fromkeys(widths)
    )


def _describe_rule(recipe: Recipe) -> str:
    if recipe.unknown is not None:
        return f"not derived, {recipe.unknown}"
    mask = recipe.mask
    words = ["causal" if mask.causal else "all keys"]
    words += [f"window {mask.window}"] if mask.window is not None else []
    words += [f"chunks of {mask.chunk}"] if mask.chunk is not None else []
    words += ["softcap"] if recipe.softcap is not None else []
    words += ["slopes"] if recipe.slopes is not None else []
    words += ["relative bias"] if recipe.bias is not None else []
    words += [f"sinks ({recipe.sinks.mode})"] if recipe.sinks is not None else []
    return ", ".join(words)


def extract_to(out: Path, model: Path, data: Path, **options: Any) -> qkvault.Vault:
    extract(ExtractOptions(str(model), (str(data),), out, device="cpu", **options))
    return qkvault.open(out)


def run_model(
    model: Path,
    class_name: str,
    batch: list[Any],
    implementation: str,
    *,
    first_is_global: bool = False,
) -> Any:
    """The model's own output for some examples of a vault, padded on the right, by plain code."""
    import transformers

    with quiet():
        network = getattr(transformers, class_name).from_pretrained(
            model, attn_implementation=implementation, dtype=torch.float32
        )
    network = getattr(network, "text_model", network)  # of CLIP
    network.eval()
    network.config.use_cache = False  # with a cache of past keys FSMT leaves its causal mask out
    records = [example.record for example in batch]
    ids = [record.token_ids for record in records]
    inputs = {"input_ids": _padded(ids), "attention_mask": _padded([(1,) * len(i) for i in ids])}
    if network.config.model_type == "bert":
        inputs["token_type_ids"] = _padded([record.segments for record in records])
    if first_is_global:
        inputs["global_attention_mask"] = _padded([(1,) + (0,) * (len(i) - 1) for i in ids])
    if network.config.is_encoder_decoder:
        read = [record.target.token_ids for record in records]
        inputs["decoder_input_ids"] = _padded(read)
        inputs["decoder_attention_mask"] = _padded([(1,) * len(i) for i in read])
    with torch.inference_mode():
        return network(**inputs, output_attentions=implementation == "eager")


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    side = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (side - len(row))] for row in rows])


def batches_of(vault: qkvault.Vault) -> Iterator[list[Any]]:
    """The batches the extractor ran, so that equality to the last bit can be asked for."""
    with qkvault.resume(vault.path) as writer:
        for unit in writer.units:
            budget, lengths, targets = default_budget("cpu"), unit.lengths, unit.target_lengths
            kinds = np.zeros(len(lengths), np.int64)
            if not vault.spec.provenance["padded"]:
                kinds = part_by_length(kinds, lengths, targets)
            for rows in plan_batches(lengths, budget, kinds, targets):
                yield [vault[int(unit.examples[row])] for row in rows]
