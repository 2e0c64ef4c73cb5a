"""What a model writes, greedily generated before anything is planned.

Afterwards the texts are like those of any other example, and a run that is gone on with generates
nothing: the vault has them. A causal model goes on with a prompt: both are one sequence, text 0 the
prompt, text 1 what it went on with. An encoder-decoder reads a source and writes the target.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError
from qkvault_extractor.greedy import Generator, mark_special, spell
from qkvault_extractor.spool import RecordSpool
from qkvault_extractor.targets import TargetMaker, find_start
from qkvault_extractor.tokens import Spelling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qkvault import Record

CHECKED_TOKENS: Final = 16
"""Tokens by which a decoder is tried: whether it scores them written one by one as read at once."""


def continue_records(
    records: Sequence[Record], generator: Generator, tokenizer: Any, tokens: int, *, keeps_end: bool
) -> list[Record]:
    """Let a causal model go on with prompts, always by the likeliest token.

    Args:
        records: prompts, one text each.
        generator: the model.
        tokenizer: its tokenizer.
        tokens: most new tokens; fewer where the model ends its text.
        keeps_end: leave special tokens at a prompt's end (a chat template's); else they go, for
            they would end the text.

    Returns:
        The records, each with prompt and continuation as its two texts.

    Raises:
        InputError: the model's tokens see what follows them.
        ResourceError: not enough memory.
    """
    prompts = list(records) if keeps_end else [_open_end(record) for record in records]
    ids = [prompt.token_ids for prompt in prompts]
    _check_causal(generator, max(ids, key=len))
    made = dict(generator.write(ids, tokens))
    return [_join(prompts[i], made[i], generator.ends, tokenizer) for i in range(len(prompts))]


def write_targets(
    records: Sequence[Record], generator: Generator, config: Any, tokenizer: Any, tokens: int
) -> RecordSpool:
    """Let the decoder of an encoder-decoder write the target of each source.

    It writes by the likeliest token, but for those that the checkpoint forces it to begin with
    (a language, for some) or forbids.

    Args:
        records: sources.
        generator: the model.
        config: its configuration.
        tokenizer: its tokenizer.
        tokens: most tokens written; fewer where the model ends its text.

    Returns:
        The records, each with its target: what the decoder read while it wrote.

    Raises:
        InputError: the checkpoint does not say how its decoder starts, or what the decoder reads
            is not what it writes by.
        ResourceError: not enough memory.
    """
    generator.start = _find_first(generator, config)
    ids = [record.token_ids for record in records]
    _check_decoder(generator, max(ids, key=len), tokens)
    maker = TargetMaker(tokenizer, generator.start)
    made = dict(generator.write(ids, tokens))
    kept = RecordSpool()
    for place, record in enumerate(records):
        new = made[place]
        special = mark_special(new, generator.ends, tokenizer)
        text, ranges = spell(generator.start, new, tokenizer)
        offsets = [(0, 0) if mark else at for mark, at in zip(special, ranges, strict=True)]
        target = maker.shift(text, new, special, offsets if record.offsets else ())
        kept.append(replace(record, target=target))
    return kept


def _find_first(generator: Generator, config: Any) -> int:
    """The token that a decoder starts with: of a family whose labels end with it, only the
    checkpoint can say which."""
    first = generator.start if generator.start is not None else find_start(generator.model, config)
    if first is None:
        raise InputError(
            f"model {generator.model} (type {config.model_type}) does not say which token "
            "its decoder starts with (a language); put decoder_start_token_id into its "
            "generation_config.json"
        )
    return first


def _check_causal(generator: Generator, ids: Sequence[int]) -> None:
    """Refuse a model whose tokens see what follows: its texts cannot be gone on with."""
    import torch

    network = generator.network
    given = torch.tensor([[*ids, ids[0]]], device=network.device)
    with torch.inference_mode():
        whole = network(input_ids=given).logits[0, : len(ids)]
        alone = network(input_ids=given[:, :-1]).logits[0]
    if not generator.same_scores(whole, alone):
        raise InputError(
            f"model {generator.model} is not causal: its tokens attend to what follows them; "
            "leave out --generate"
        )


def _check_decoder(generator: Generator, ids: Sequence[int], tokens: int) -> None:
    """Refuse a decoder that scores a text written token by token otherwise than read at once."""
    import torch

    network = generator.network
    given = torch.tensor([list(ids)], device=network.device)
    found = generator.generate(
        given, min(tokens, CHECKED_TOKENS), output_logits=True, return_dict_in_generate=True
    )
    written = torch.stack(found.logits, 1)[0]  # (token, vocabulary)
    with torch.inference_mode():
        fed = generator.read(given)
        read = network(**fed, decoder_input_ids=found.sequences[:, :-1]).logits[0]
    if not generator.same_scores(read, written):
        raise InputError(
            f"the decoder of model {generator.model} gives other scores where it reads a text at "
            "once than where it writes it token by token, so that its attention is not one thing; "
            "leave out --generate and give --target-column"
        )


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
    text, ranges = spell(prompt.token_ids[-1], new, tokenizer)
    special = mark_special(new, ends, tokenizer)
    places = tuple((0, 0) if mark else at for mark, at in zip(special, ranges, strict=True))
    return replace(
        prompt,
        text=(prompt.text[0], text),
        tokens=(*prompt.tokens, *map(Spelling(tokenizer).__getitem__, new)),
        token_ids=(*prompt.token_ids, *new),
        segments=(0,) * len(prompt.token_ids) + (1,) * len(new),
        special=(*prompt.special, *special),
        offsets=(*prompt.offsets, *places) if prompt.offsets else (),
        words=(),  # the tokenizer tells words of texts it has cut up itself
    )
