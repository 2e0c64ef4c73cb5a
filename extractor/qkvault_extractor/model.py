"""Loading a model: its configuration, its tokenizer, its weights, and what it takes as input.

No code that a checkpoint brings along is run, and weights that are pickled are read as plain
tensors only.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError, ResourceError
from qkvault_extractor.feeding import feed_for, refuse_features
from qkvault_extractor.machine import find_dtype, quiet, resolve_device, tame_torch
from qkvault_extractor.word_tokenizer import load_words

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from qkvault import Record
    from qkvault_extractor.feeding import Feed
    from qkvault_extractor.global_tokens import GlobalTokens

SUPPORTED: Final = (
    "BERT, RoBERTa, DeBERTa, XLNet, GPT-2, BLOOM, Falcon, Llama, Mistral, Qwen, Gemma, DeepSeek, "
    "BART, Marian, Pegasus, T5, Longformer, LED, LongT5, ViT, CLIP, DETR, Perceiver, Whisper, "
    "wav2vec 2.0, WavLM and others of transformers whose heads weigh all tokens of a text, image "
    "or sound"
)
"""What can be captured, in words for error messages."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode on its device, and how to feed it.

    Attributes:
        model: the model; with a classification head if the checkpoint has one.
        name: how people call it: the folder's or the Hub's name.
        device: where it runs.
        logits: outputs of its classification head; 0 without one.
        label_names: names of its classes; empty where the checkpoint does not name them.
        feed: makes its input of records.
    """

    model: PreTrainedModel
    name: str
    device: torch.device
    logits: int
    label_names: tuple[str, ...]
    feed: Feed

    def forward(self, records: Sequence[Record], **options: Any) -> Any:
        """Run one batch.

        Args:
            records: its examples.
            options: passed on to the model.

        Returns:
            The model's own output object.
        """
        return self.model(**self.feed.make_inputs(records, self.device), **options)


def load_config(model: str) -> PreTrainedConfig:
    """Read a model's configuration and refuse what cannot be captured, before anything large loads.

    Args:
        model: local folder or Hub name.

    Raises:
        InputError: no such folder or name, no configuration, an unknown or unsupported model type.
    """
    config = read_config(model)
    refuse_features(model, config)
    return config


def read_config(model: str) -> PreTrainedConfig:
    """Read a model's configuration, whatever it is of.

    Raises:
        InputError: no such folder or name, no configuration, an unknown model type.
    """
    tame_torch()
    from transformers import AutoConfig

    from qkvault_extractor.transfo_xl import register

    register()

    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{model} is not a model: the folder has no config.json")
    elif folder.exists() or folder.is_absolute() or model.startswith(".") or model.count("/") > 1:
        raise InputError(f"model {model}: no such folder; give a model's folder or its Hub name")
    with quiet():
        try:
            config: PreTrainedConfig = AutoConfig.from_pretrained(model, trust_remote_code=False)
        except Exception as error:  # a foreign file may break it in any way
            raise InputError(_explain_config(model, error)) from error
    return config


def _explain_config(model: str, error: Exception) -> str:
    text = str(error)
    if "does not recognize" in text or "Unrecognized model" in text:
        named = _declared_type(Path(model))
        return f"model {model}: transformers does not know {named}; supported: {SUPPORTED}"
    if "trust_remote_code" in text:
        return f"model {model} needs code of its own, which is never run; supported: {SUPPORTED}"
    if not Path(model).is_dir():
        return (
            f"model {model}: neither a local folder nor to be had from the Hub "
            f"({_first_line(error)})"
        )
    return f"model {model}: its config.json cannot be read ({_first_line(error)})"


def _declared_type(folder: Path) -> str:
    """What a folder's config.json calls its model, for a message."""
    try:
        declared = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its type of model"
    return f"the model type {str(declared)[:60]!r}"


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer that comes with a model.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    if (words := load_words(Path(model))) is not None:
        return words
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
        except Exception as error:  # a foreign file may break it in any way
            raise InputError(
                f"model {model}: its tokenizer cannot be loaded ({_first_line(error)})"
            ) from error
    # Without any vocabulary file transformers builds a tokenizer that knows special tokens only.
    if tokenizer.vocab_files_names and len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise InputError(
            f"model {model} has no tokenizer; put its tokenizer.json beside its config.json"
        )
    return tokenizer


def load_model(
    model: str,
    config: PreTrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    device: str = "auto",
    dtype: str = "float32",
    global_tokens: GlobalTokens | None = None,
) -> LoadedModel:
    """Load a model's weights, in evaluation mode, without a cache of past keys.

    The class is the checkpoint's own where it classifies sequences, so that logits come too, and
    the bare model otherwise: no head of another kind changes the attention but by its choice of
    global tokens.

    Args:
        model: local folder or Hub name, as given to :func:`load_config`.
        config: what :func:`load_config` returned.
        tokenizer: what :func:`load_tokenizer` returned.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps`` or ``auto``.
        dtype: of the weights and the arithmetic; see :func:`qkvault_extractor.machine.find_dtype`.
        global_tokens: as :func:`qkvault_extractor.global_tokens.find_rule` says.

    Raises:
        InputError: weights missing, damaged or incomplete.
        ResourceError: no such device, or not enough memory.
    """
    place = resolve_device(device)
    # An encoder-decoder classifies by what its decoder makes of the source alone.
    classifies = is_headed(config, ("ForSequenceClassification",)) and not config.is_encoder_decoder
    network = read_weights(
        model,
        config,
        _choose_factory(config, classifies),
        may_lack_pooler=not classifies,
        dtype=find_dtype(dtype, config, place),
    )
    if not classifies:
        network = _part_with_text(network)
    settle(network, place, model)
    return LoadedModel(
        model=network,
        name=name_model(model),
        device=place,
        logits=config.num_labels or 0 if classifies else 0,
        label_names=label_names_of(config) if classifies else (),
        feed=feed_for(
            network, tokenizer, takes_padding=not classifies, global_tokens=global_tokens
        ),
    )


def _part_with_text(network: PreTrainedModel) -> PreTrainedModel:
    """The part that reads texts, of a model that has one for images or sounds beside it (CLIP)."""
    part = getattr(network, "text_model", None)
    alone = part is not None and "input_ids" in inspect.signature(part.forward).parameters
    return part if alone else network  # type: ignore[return-value]  # a Module by its own stubs


def _choose_factory(config: PreTrainedConfig, classifies: bool) -> Any:
    """The ``AutoModel`` class that loads a checkpoint with no more than is needed."""
    import transformers as hf

    if classifies:
        return hf.AutoModelForSequenceClassification
    if getattr(hf.MODEL_MAPPING.get(type(config), None), "main_input_name", "") == "inputs":
        return hf.AutoModelForMaskedLM  # a bare Perceiver leaves it to its head to embed token ids
    if type(config) not in hf.MODEL_MAPPING:  # there is no bare model of it
        if config.is_encoder_decoder:
            return hf.AutoModelForSeq2SeqLM
        if type(config) in hf.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            return hf.AutoModelForImageTextToText  # Llama 4, which reads texts without images too
    return hf.AutoModel


def name_model(model: str) -> str:
    """How people call a model: its Hub name, or its folder's (of ``.../model`` its parent's)."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("model", "checkpoint") else folder.name


def is_headed(config: PreTrainedConfig, heads: tuple[str, ...]) -> bool:
    """Whether a checkpoint was saved with one of these heads (endings of its class's name)."""
    return any(name.endswith(heads) for name in config.architectures or ())


def settle(network: PreTrainedModel, place: torch.device, model: str) -> None:
    """Bring a model to its device, in evaluation mode, without a cache of past keys.

    Raises:
        ResourceError: it does not fit there.
    """
    import torch

    network.config.use_cache = False
    network.train(False)
    try:
        network.to(place)  # type: ignore[arg-type]  # its wrapper hides the signature
    except torch.OutOfMemoryError as error:
        raise ResourceError(f"model {model} does not fit into the memory of {place}") from error


def read_weights(
    model: str,
    config: PreTrainedConfig,
    factory: Any,
    *,
    may_lack_pooler: bool,
    dtype: torch.dtype | None = None,
) -> PreTrainedModel:
    """Load the weights; refuse a checkpoint that lacks some: random ones would take their place.

    Args:
        model: local folder or Hub name.
        config: its configuration.
        factory: one of transformers' ``AutoModel`` classes.
        may_lack_pooler: models are often saved without it, and attention does not use it.
        dtype: what the weights are made; float32 where None.

    Raises:
        InputError: weights missing, damaged or incomplete.
        ResourceError: not enough memory.
    """
    import torch

    with quiet():
        try:
            network, found = factory.from_pretrained(
                model,
                config=config,
                dtype=dtype or torch.float32,
                trust_remote_code=False,
                weights_only=True,
                output_loading_info=True,
            )
        except torch.OutOfMemoryError as error:
            raise ResourceError(f"model {model} does not fit into memory") from error
        except Exception as error:  # a foreign file may break it in any way
            raise InputError(
                f"model {model}: its weights cannot be loaded ({_first_line(error)})"
            ) from error
    lacking = sorted({*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])})
    lacking = [key for key in lacking if not _is_computed(network, key)]
    if may_lack_pooler:
        lacking = [key for key in lacking if "pooler" not in key.split(".")]
    # Others may hold heads and buffers of all kinds; one of our own knows what belongs to it.
    strict = getattr(network, "loads_strictly", False)
    _refuse_other_weights(model, "lack", lacking)
    _refuse_other_weights(model, "hold", sorted(found["unexpected_keys"]) if strict else [])
    return network  # type: ignore[no-any-return]


def _refuse_other_weights(model: str, verb: str, keys: list[str]) -> None:
    if keys:
        raise InputError(
            f"model {model}: its weights {verb} {keys[0]}"
            + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
            + "; the checkpoint is not of the kind its config.json says"
        )


def _is_computed(network: PreTrainedModel, key: str) -> bool:
    """Whether a weight is a table of sines, which transformers makes itself and does not save."""
    try:
        owner = network.get_submodule(key.rpartition(".")[0])
    except AttributeError:
        return False
    return "Sinusoidal" in type(owner).__name__


def label_names_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """Names of a model's classes, in order; empty where it has only numbers for them."""
    known = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    names = tuple(known.get(i, "") for i in range(config.num_labels or 0))
    generic = tuple(f"LABEL_{i}" for i in range(len(names)))
    return () if names == generic or "" in names else names


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].strip()}" if text else type(error).__name__
