"""How examples are fed to a model: a batch of records made into the tensors it is called with.

What an example is made of (text, features) matters here and nowhere behind: probing, running and
repairing know records and ask the model's feed for the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from qkvault import InputError, Target
from qkvault_extractor.global_tokens import mark_global

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from qkvault import Record
    from qkvault_extractor.global_tokens import GlobalTokens

FEATURE_INPUTS: Final = (
    "pixel_values",
    "pixel_values_videos",
    "input_features",
    "input_values",
)
"""Arguments of transformers' models that are features, not token ids."""

SHORTEST_PROBE: Final = 8


def refuse_features(model: str, config: PreTrainedConfig) -> None:
    """Refuse to feed texts to a model that takes features.

    Raises:
        InputError: it does; says what to do with it.
    """
    from transformers import MODEL_MAPPING

    bare = MODEL_MAPPING.get(type(config), None)
    takes = getattr(bare[0] if isinstance(bare, tuple) else bare, "main_input_name", None)
    if takes in FEATURE_INPUTS:
        raise InputError(
            f"model {model} is of type {config.model_type}, which takes {takes}, not token ids; "
            "give its features to extract_features"
        )


class Feed(Protocol):
    """Makes a model's input of records."""

    @property
    def takes_batches(self) -> bool:
        """Whether several examples can share a forward pass."""

    def make_inputs(self, records: Sequence[Record], device: torch.device) -> dict[str, Tensor]:
        """Give the model's arguments for one batch, padded on the right where lengths differ."""

    def kinds(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """Number the kind of each example, int64 [N]; unequal kinds share no forward pass."""

    def choose_probe(self, records: Sequence[Record], most: int) -> list[Record]:
        """Choose or make the batch that a model is probed with, the longest example first.

        Args:
            records: examples of the vault, the longest among them.
            most: the most tokens that memory allows for a probe, where it can be shortened.
        """


@dataclass(frozen=True)
class TextFeed:
    """Feeds token ids.

    Attributes:
        pad_id: what fills up shorter examples of a batch.
        takes_segments: whether the model is told which of two texts a token is of
            (``token_type_ids``).
        takes_batches: whether several examples of different length can share a forward pass.
        global_tokens: which tokens the model is told are global; None where it is told nothing.
    """

    pad_id: int
    takes_segments: bool
    takes_batches: bool
    global_tokens: GlobalTokens | None = None

    def make_inputs(self, records: Sequence[Record], device: torch.device) -> dict[str, Tensor]:
        """Give ids, masks and, where the model takes them, segments: int64 ``(example, token)``."""
        ids = [record.token_ids for record in records]
        inputs = {
            "input_ids": _pad(ids, self.pad_id, device),
            "attention_mask": _pad([[1] * len(row) for row in ids], 0, device),
        }
        if self.takes_segments:
            segments = [record.segments for record in records]
            inputs["token_type_ids"] = _pad(segments, 0, device)
        if self.global_tokens is not None:
            marks = [mark_global(record, self.global_tokens) for record in records]
            inputs["global_attention_mask"] = _pad(marks, 0, device)
        return inputs

    def kinds(self, records: Sequence[Record]) -> NDArray[np.int64]:
        """All texts are of one kind: padding makes them alike."""
        return np.zeros(len(records), np.int64)

    def choose_probe(self, records: Sequence[Record], most: int) -> list[Record]:
        """Cut or repeat the longest text to a useful length, and add half of it, to be padded."""
        longest = max(records, key=lambda record: len(record.token_ids))
        tokens = len(longest.token_ids)
        ids = (longest.token_ids * SHORTEST_PROBE)[: max(SHORTEST_PROBE, min(tokens, most))]
        parted = self.global_tokens == "question"
        whole = _with_ids(longest, ids, parted)
        half = _with_ids(longest, ids[: _about_half(ids)], parted)
        return [whole, half] if self.takes_batches else [whole]


@dataclass(frozen=True)
class TargetFeed(TextFeed):
    """Feeds token ids to the encoder, and those of the target to the decoder."""

    def make_inputs(self, records: Sequence[Record], device: torch.device) -> dict[str, Tensor]:
        """As :class:`TextFeed`, with ids and mask of targets: int64 ``(example, target_token)``."""
        ids = [_target(record).token_ids for record in records]
        return {
            **super().make_inputs(records, device),
            "decoder_input_ids": _pad(ids, self.pad_id, device),
            "decoder_attention_mask": _pad([[1] * len(row) for row in ids], 0, device),
        }

    def choose_probe(self, records: Sequence[Record], most: int) -> list[Record]:
        """Join the longest source and the longest target; the second example is half of both."""
        batch = super().choose_probe(records, most)
        longest = max((_target(record) for record in records), key=lambda t: len(t.token_ids))
        start, rest = longest.token_ids[:1], longest.token_ids[1:] or longest.token_ids
        tokens = max(SHORTEST_PROBE, min(len(longest.token_ids), most))
        ids = (start + rest * SHORTEST_PROBE)[:tokens]
        parts = (ids, ids[: _about_half(ids)])
        return [
            replace(record, target=Target("", ("",) * len(part), part, (0,) * len(part)))
            for record, part in zip(batch, parts, strict=False)
        ]


def feed_for(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    takes_padding: bool,
    global_tokens: GlobalTokens | None,
) -> TextFeed:
    """The feed of a model of texts.

    Args:
        network: the model.
        tokenizer: its tokenizer.
        takes_padding: whether texts of different length can share a forward pass though the model's
            configuration names no token that fills up.
        global_tokens: as :class:`TextFeed` takes them.
    """
    config = network.config
    own = getattr(config, "pad_token_id", None)  # Perceiver's knows none
    pads: list[Any] = [pad for pad in (own, tokenizer.pad_token_id, 0) if _is_id(pad)]
    kind = TargetFeed if config.is_encoder_decoder else TextFeed
    return kind(
        pad_id=pads[0],
        takes_segments=_takes_segments(network, tokenizer),
        takes_batches=takes_padding or _is_id(own),
        global_tokens=global_tokens,
    )


def _takes_segments(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    # GPT-2 and others accept token_type_ids without having learnt any: the tokenizer decides too.
    return "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in (
        inspect.signature(network.forward).parameters
    )


def _is_id(pad: Any) -> bool:
    return isinstance(pad, int) and pad >= 0


def _target(record: Record) -> Target:
    assert record.target is not None, "an encoder-decoder is run on records with targets"
    return record.target


def _about_half(ids: Sequence[int]) -> int:
    """An odd number: pools of two or four tokens are left unfilled, and show what fills them."""
    return len(ids) // 2 | 1


def _with_ids(record: Record, ids: tuple[int, ...], parted: bool) -> Record:
    """A record of these ids, as one text, or as two of which the first is a third of it."""
    none = (0,) * len(ids)
    first = len(ids) // 3 if parted else len(ids)
    segments = none[:first] + (1,) * (len(ids) - first)
    return replace(record, token_ids=ids, tokens=("",) * len(ids), segments=segments, special=none)


def _pad(rows: Sequence[Sequence[int]], fill: int, device: torch.device) -> Tensor:
    import torch

    longest = max(len(row) for row in rows)
    padded = [[*row, *[fill] * (longest - len(row))] for row in rows]
    return torch.tensor(padded, dtype=torch.long, device=device)
