"""Greedy decoding: a model writes on by the likeliest token, always, over a whole data set."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError, ResourceError
from qkvault_extractor.batches import default_budget
from qkvault_extractor.machine import find_dtype, quiet, resolve_device
from qkvault_extractor.model import is_headed, read_weights, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

HEADS: Final = ("ForCausalLM", "LMHeadModel")
"""Endings of the class names of models that go on with a text."""

TARGET_HEADS: Final = (
    "ForConditionalGeneration",
    "MTModel",
    "LMHeadModel",
    "EncoderDecoderModel",
)
"""Endings of the class names of encoder-decoders that write a text."""

IMAGE_HEADS: Final = ("ForConditionalGeneration",)
"""Endings of the class names of models of texts and images that go on with a text."""

SAME_SCORES: Final = 1e-3
"""How far scores of a token may move, relative to their size, where they should be the same."""

_RULES: Final = ("forced_bos_token_id", "suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
"""Settings of a checkpoint that say which tokens a decoder never writes, or has to write first."""


class Generator:
    """A language model, set to write by the likeliest token and by nothing else.

    Attributes:
        network: the model, in evaluation mode on its device.
        model: what the user calls it.
        ends: ids that end a text, as the checkpoint says.
        start: id that an encoder-decoder's decoder starts with; None where the checkpoint does not
            say, and for other models.
    """

    def __init__(
        self,
        model: str,
        config: PreTrainedConfig,
        *,
        device: str,
        dtype: str,
        first_is_global: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: local folder or Hub name.
            config: its configuration.
            device: where it runs.
            dtype: of its weights; see :func:`qkvault_extractor.machine.find_dtype`.
            first_is_global: whether the model is told that the first token of a text is global.

        Raises:
            InputError: it has no head that writes, or its weights cannot be loaded.
            ResourceError: no such device, or not enough memory.
        """
        from transformers import GenerationConfig

        self.model = model
        self._two = bool(config.is_encoder_decoder)
        self._first_is_global = first_is_global
        factory = _find_factory(config)
        if factory is None:
            saved = ", ".join(config.architectures or ()) or "no class"
            raise InputError(
                f"model {model} (saved as {saved}) has no head that goes on with a text; "
                "choose a language model, or leave out --generate"
            )
        place = resolve_device(device)
        self.network: PreTrainedModel = read_weights(
            model, config, factory, may_lack_pooler=False, dtype=find_dtype(dtype, config, place)
        )
        settle(self.network, place, model)
        told = self.network.generation_config
        self.ends = _end_ids(self.network)
        self.start: int | None = getattr(told, "decoder_start_token_id", None)
        self._rules = {name: getattr(told, name, None) for name in _RULES} if self._two else {}
        # What the checkpoint has of sampling and penalties would fill up a configuration of ours.
        self.network.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]

    def write(
        self, prompts: Sequence[Sequence[int]], tokens: int
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Write on behind each prompt, or what an encoder that reads it makes the decoder write.

        Prompts of one length share a batch, so that none is padded; which they are depends on the
        prompts alone.

        Args:
            prompts: token ids.
            tokens: most new tokens; fewer where the model ends its text.

        Yields:
            Place of a prompt, and its new tokens, up to and with the one that ends the text; each
            once, shorter prompts first.

        Raises:
            ResourceError: not enough memory.
        """
        import torch

        for batch in _batches(prompts, tokens, default_budget(self.network.device.type)):
            ids = torch.tensor([list(prompts[i]) for i in batch], device=self.network.device)
            try:
                rows = self.generate(ids, tokens).tolist()
            except torch.OutOfMemoryError as error:
                raise ResourceError(
                    f"{self.network.device} ran out of memory generating {tokens} tokens for "
                    f"{len(batch)} prompts; use a smaller model or shorter prompts"
                ) from error
            before = 1 if self._two else ids.shape[1]
            yield from zip(batch, (self._until_end(row[before:]) for row in rows), strict=True)

    def generate(self, ids: Tensor, tokens: int, **more: Any) -> Any:
        """Call transformers' own ``generate`` on prompts of one length, int64 ``(prompt, token)``.

        Args:
            ids: the prompts.
            tokens: most new tokens.
            more: other settings, such as what else to return.
        """
        import torch
        from transformers import GenerationConfig

        make_config: Any = GenerationConfig
        settings = make_config(
            do_sample=False,
            num_beams=1,
            max_new_tokens=tokens,
            eos_token_id=sorted(self.ends) or None,
            pad_token_id=min(self.ends, default=0),
            decoder_start_token_id=self.start,
            use_cache=True,
            **self._rules,
            **more,
        )
        generate: Any = self.network.generate
        with torch.inference_mode(), quiet():
            return generate(
                **self.read(ids),
                generation_config=settings,
                past_key_values=self._make_cache(),
            )

    def read(self, ids: Tensor) -> dict[str, Tensor]:
        """The model's input for prompts of one length, int64 ``(prompt, token)``."""
        import torch

        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self._first_is_global:
            inputs["global_attention_mask"] = torch.zeros_like(ids)
            inputs["global_attention_mask"][:, 0] = 1
        return inputs

    def _make_cache(self) -> Any:
        """Transformers makes one of as many layers as the *encoder* has where left to itself."""
        from transformers import DynamicCache, EncoderDecoderCache

        return EncoderDecoderCache(DynamicCache(), DynamicCache()) if self._two else None

    def same_scores(self, ours: Tensor, theirs: Tensor) -> bool:
        """Whether two tensors of scores differ by no more than rounding makes them."""
        import torch

        ours, theirs = ours.float(), theirs.float()
        moved = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
        return moved <= (SAME_SCORES if self.network.dtype == torch.float32 else 0.1)

    def _until_end(self, new: Sequence[int]) -> tuple[int, ...]:
        stop = next((i for i, token in enumerate(new) if token in self.ends), len(new) - 1)
        return tuple(new[: stop + 1])


def _find_factory(config: PreTrainedConfig) -> Any:
    """The ``AutoModel`` class that loads a checkpoint with its head that writes; None for none."""
    import transformers as hf

    if config.is_encoder_decoder:
        return hf.AutoModelForSeq2SeqLM if is_headed(config, TARGET_HEADS) else None
    if is_headed(config, HEADS):
        return hf.AutoModelForCausalLM
    reads_images = type(config) in hf.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return (
        hf.AutoModelForImageTextToText if reads_images and is_headed(config, IMAGE_HEADS) else None
    )


def _batches(prompts: Sequence[Sequence[int]], tokens: int, budget: int) -> Iterator[list[int]]:
    """Prompts of one length, at most so many that the finished texts keep to the budget."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for length, alike in groupby(order, key=lambda i: len(prompts[i])):
        rest = list(alike)
        step = max(1, budget // (length + tokens))
        for start in range(0, len(rest), step):
            yield rest[start : start + step]


def _end_ids(network: PreTrainedModel) -> frozenset[int]:
    """Ids that end a text, as the checkpoint says."""
    found: set[int] = set()
    for source in (network.generation_config, network.config.get_text_config()):
        told = getattr(source, "eos_token_id", None)
        found.update(told if isinstance(told, list) else [told] if isinstance(told, int) else [])
    return frozenset(found)


def spell(before: int, new: Sequence[int], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The text of new tokens, and the characters of each.

    Tokens are spelled behind the one before them, since many tokenizers drop the blank that a
    text begins with. A token that leaves a character unfinished ends where that one begins.
    """

    def decode(count: int) -> str:
        ids = [before, *new[:count]]
        return str(
            tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    head, whole = decode(0), decode(len(new))
    start = len(head) if whole.startswith(head) else 0
    text = whole[start:]
    ranges, end = [], 0
    for count in range(1, len(new) + 1):
        found = decode(count)[start:]
        same = next(
            (n for n, (a, b) in enumerate(zip(found, text, strict=False)) if a != b),
            min(len(found), len(text)),
        )
        ranges.append((end, max(end, same)))
        end = max(end, same)
    return text, ranges


def mark_special(new: Sequence[int], ends: frozenset[int], tokenizer: Any) -> tuple[int, ...]:
    """1 for each new token that is special or ends the text, else 0."""
    special = ends | (frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id})
    return tuple(int(token in special) for token in new)
