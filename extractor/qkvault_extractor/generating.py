"""Continuations of prompts, greedily generated before anything is planned.

Afterwards prompt and continuation are one sequence of known length, like any other example: text 0
is the prompt, text 1 what the model went on with. A run that is gone on with generates nothing: the
vault has the texts.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError, ResourceError
from qkvault_extractor.batches import default_budget
from qkvault_extractor.machine import find_dtype, quiet, resolve_device
from qkvault_extractor.model import is_headed, read_weights, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from qkvault import Record

HEADS: Final = ("ForCausalLM", "LMHeadModel")
"""Endings of the class names of models that go on with a text."""

CAUSAL_TOLERANCE: Final = 1e-3
"""How far scores of a token may move, relative to their size, when a text goes on behind it."""


def continue_records(
    records: Sequence[Record],
    model: str,
    config: PreTrainedConfig,
    tokenizer: Any,
    *,
    tokens: int,
    device: str,
    dtype: str,
    keeps_end: bool,
) -> list[Record]:
    """Let a model go on with prompts, always by the likeliest token.

    Prompts of one length share a batch, so none is padded; which they are depends on the records
    alone.

    Args:
        records: prompts, one text each.
        model: local folder or Hub name.
        config: its configuration.
        tokenizer: its tokenizer.
        tokens: most new tokens; fewer where the model ends its text.
        device: where it runs.
        dtype: of its weights; see :func:`qkvault_extractor.machine.find_dtype`.
        keeps_end: leave special tokens at a prompt's end (a chat template's); else they go, for
            they would end the text.

    Returns:
        The records, each with prompt and continuation as its two texts.

    Raises:
        InputError: the model is no causal language model.
        ResourceError: no such device, or not enough memory.
    """
    import torch

    prompts = list(records) if keeps_end else [_open_end(record) for record in records]
    place = resolve_device(device)
    network = _load(model, config, place, find_dtype(dtype, config, place))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].token_ids))
    made: dict[int, tuple[int, ...]] = {}
    with torch.inference_mode(), quiet():
        _check_causal(network, model, prompts[order[-1]].token_ids)
        for batch in _batches(prompts, order, tokens, default_budget(place.type)):
            try:
                found = _go_on(network, [prompts[i].token_ids for i in batch], tokens)
            except torch.OutOfMemoryError as error:
                raise ResourceError(
                    f"{place} ran out of memory generating {tokens} tokens for {len(batch)} "
                    "prompts; use a smaller model or shorter prompts"
                ) from error
            made.update(zip(batch, found, strict=True))
    ends = _end_ids(network)
    return [_join(prompts[i], made[i], ends, tokenizer) for i in range(len(prompts))]


def _load(
    model: str, config: PreTrainedConfig, place: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    if not is_headed(config, HEADS):
        saved = ", ".join(config.architectures or ()) or "no class"
        raise InputError(
            f"model {model} (saved as {saved}) has no head that goes on with a text; "
            "choose a causal language model, or leave out --generate"
        )
    network = read_weights(model, config, AutoModelForCausalLM, may_lack_pooler=False, dtype=dtype)
    settle(network, place, model)
    return network


def _check_causal(network: PreTrainedModel, model: str, ids: Sequence[int]) -> None:
    """Refuse a model whose tokens see what follows: its texts cannot be gone on with."""
    import torch

    given = torch.tensor([[*ids, ids[0]]], device=network.device)
    whole = network(input_ids=given).logits[0, : len(ids)].float()
    alone = network(input_ids=given[:, :-1]).logits[0].float()
    moved = float((whole - alone).abs().max()) / max(1.0, float(alone.abs().max()))
    if not moved <= (CAUSAL_TOLERANCE if network.dtype == torch.float32 else 0.1):
        raise InputError(
            f"model {model} is not causal: its tokens attend to what follows them; "
            "leave out --generate"
        )


def _batches(
    prompts: Sequence[Record], order: Sequence[int], tokens: int, budget: int
) -> Iterator[list[int]]:
    """Prompts of one length, at most so many that the finished texts keep to the budget."""
    for length, alike in groupby(order, key=lambda i: len(prompts[i].token_ids)):
        rest = list(alike)
        step = max(1, budget // (length + tokens))
        for start in range(0, len(rest), step):
            yield rest[start : start + step]


def _go_on(
    network: PreTrainedModel, prompts: Sequence[Sequence[int]], tokens: int
) -> list[tuple[int, ...]]:
    """The new tokens of each prompt, up to and with the one that ends the text."""
    import torch
    from transformers import GenerationConfig

    ends = _end_ids(network)
    # A configuration of its own: that of the checkpoint may ask for sampling and penalties.
    make_config: Any = GenerationConfig
    plain = make_config(
        do_sample=False,
        num_beams=1,
        max_new_tokens=tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends, default=0),
        use_cache=True,
    )
    ids = torch.tensor([list(prompt) for prompt in prompts], device=network.device)
    generate: Any = network.generate
    output = generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=plain)
    return [_until_end(row[ids.shape[1] :], ends) for row in output.tolist()]


def _until_end(new: Sequence[int], ends: frozenset[int]) -> tuple[int, ...]:
    stop = next((place for place, token in enumerate(new) if token in ends), len(new) - 1)
    return tuple(new[: stop + 1])


def _end_ids(network: PreTrainedModel) -> frozenset[int]:
    """Ids that end a text, as the checkpoint says."""
    found: set[int] = set()
    for source in (network.generation_config, network.config.get_text_config()):
        told = getattr(source, "eos_token_id", None)
        found.update(told if isinstance(told, list) else [told] if isinstance(told, int) else [])
    return frozenset(found)


def _open_end(record: Record) -> Record:
    """A prompt without special tokens at its end."""
    keep = len(record.special)
    while keep > 1 and record.special[keep - 1]:
        keep -= 1
    cut = slice(keep)
    return replace(
        record,
        tokens=record.tokens[cut],
        token_ids=record.token_ids[cut],
        segments=record.segments[cut],
        special=record.special[cut],
        offsets=record.offsets[cut],
        words=record.words[cut],
    )


def _join(prompt: Record, new: Sequence[int], ends: frozenset[int], tokenizer: Any) -> Record:
    """Prompt and continuation as one record of two texts."""
    text, ranges = _spell(prompt.token_ids[-1], new, tokenizer)
    special_ids = ends | (frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    special = tuple(int(token in special_ids) for token in new)
    places = tuple((0, 0) if mark else at for mark, at in zip(special, ranges, strict=True))
    return replace(
        prompt,
        text=(prompt.text[0], text),
        tokens=(*prompt.tokens, *map(str, tokenizer.convert_ids_to_tokens(list(new)))),
        token_ids=(*prompt.token_ids, *new),
        segments=(0,) * len(prompt.token_ids) + (1,) * len(new),
        special=(*prompt.special, *special),
        offsets=(*prompt.offsets, *places) if prompt.offsets else (),
        words=(),  # the tokenizer tells words of texts it has cut up itself
    )


def _spell(before: int, new: Sequence[int], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The text of new tokens, and the characters of each.

    Tokens are spelled behind the one before them, since many tokenizers drop the blank that a
    text begins with. A token that leaves a character unfinished ends where that one begins.
    """

    def spell(count: int) -> str:
        ids = [before, *new[:count]]
        return str(
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    head, whole = spell(0), spell(len(new))
    start = len(head) if whole.startswith(head) else 0
    text = whole[start:]
    ranges, end = [], 0
    for count in range(1, len(new) + 1):
        found = spell(count)[start:]
        same = next(
            (n for n, (a, b) in enumerate(zip(found, text, strict=False)) if a != b),
            min(len(found), len(text)),
        )
        ranges.append((end, max(end, same)))
        end = max(end, same)
    return text, ranges
