"""Models that take features: a folder's or one that is loaded already, its encoder alone."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError
from qkvault_extractor.feeding import FEATURE_INPUTS
from qkvault_extractor.machine import resolve_device
from qkvault_extractor.model import (
    LoadedModel,
    is_headed,
    label_names_of,
    name_model,
    read_config,
    read_weights,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedConfig, PreTrainedModel

    from qkvault_extractor.feeding import Feed

IMAGE_HEADS: Final = tuple(
    f"ForImageClassification{kind}"
    for kind in ("", "WithTeacher", "Learned", "Fourier", "ConvProcessing")
)
_PLAIN: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
AUDIO_HEADS: Final = ("ForAudioClassification", "ForSequenceClassification")


def load_feature_model(
    model: str | Path | PreTrainedModel, device: str = "auto", arguments: Sequence[str] = ()
) -> PreTrainedModel:
    """Load the encoder of a model that takes features, with its classification head if it has one.

    Args:
        model: local folder or Hub name, loaded as float32; or a transformers model in evaluation
            mode, which is taken as it is, where it is.
        device: where a folder's model goes; of a loaded one, ``auto``.
        arguments: names of what it will be given beside the features.

    Returns:
        The model; of one with several parts (CLIP's text and vision, Whisper's encoder and decoder)
        the part that takes features.

    Raises:
        InputError: it cannot be loaded, takes no features, other arguments, or is in training mode.
        ResourceError: no such device, or not enough memory.
    """
    if isinstance(model, str | Path):
        return _load_folder(str(model), device, arguments)
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise InputError(f"a {type(model).__name__} was given where a transformers model belongs")
    if device != "auto":
        raise InputError(f"device {device} was asked for, but the model given has its own already")
    if model.training:
        raise InputError(f"the {type(model).__name__} is in training mode; call its eval() first")
    return _part_with_features(model, type(model).__name__, arguments)


def ready_feature_model(model: PreTrainedModel, name: str, feed: Feed) -> LoadedModel:
    """Say how to feed an encoder, and what its head gives.

    Args:
        model: of :func:`load_feature_model`.
        name: how people call it.
        feed: makes its input.
    """
    heads = (*IMAGE_HEADS, *AUDIO_HEADS)
    classifies = type(model).__name__.endswith(heads)
    return LoadedModel(
        model=model,
        name=name,
        device=model.device,
        logits=model.config.num_labels or 0 if classifies else 0,
        label_names=label_names_of(model.config) if classifies else (),
        feed=feed,
    )


def input_name(model: PreTrainedModel) -> str:
    """The argument by which a model takes features."""
    return _features_of(model)


def name_loaded(given: str | Path | PreTrainedModel) -> str:
    """How people call a model: its folder or Hub name, else its class."""
    if isinstance(given, str | Path):
        return name_model(str(given))
    path = str(getattr(given, "name_or_path", "") or "")
    return name_model(path) if path else type(given).__name__


def _load_folder(model: str, device: str, arguments: Sequence[str]) -> PreTrainedModel:
    from transformers import (
        AutoModel,
        AutoModelForAudioClassification,
        AutoModelForImageClassification,
    )

    place = resolve_device(device)
    config: PreTrainedConfig = read_config(model)
    factory: Any = AutoModel
    if is_headed(config, IMAGE_HEADS):
        factory = AutoModelForImageClassification
    elif is_headed(config, AUDIO_HEADS):
        factory = AutoModelForAudioClassification
    elif hasattr(config, "vision_config"):  # CLIP and its kin: the text half is not loaded
        config = config.vision_config
    network = read_weights(model, config, factory, may_lack_pooler=factory is AutoModel)
    part = _part_with_features(network, model, arguments)
    settle(part, place, model)
    return part


def _part_with_features(
    network: PreTrainedModel, name: str, arguments: Sequence[str]
) -> PreTrainedModel:
    """The model itself, its encoder, or its vision model: whichever takes features."""
    part: Any = network
    if "decoder_input_ids" in inspect.signature(network.forward).parameters:
        part = network.get_encoder()
    elif not _features_of(network):
        part = getattr(network, "vision_model", network)
    if given := _features_of(part):
        _refuse_others(part, given, arguments)
        return part  # type: ignore[no-any-return]
    raise InputError(
        f"model {name} (type {network.config.model_type}) takes {network.main_input_name}, not "
        f"features ({', '.join(FEATURE_INPUTS)}); give the part of it that does, or use extract "
        "for texts"
    )


def _refuse_others(model: Any, given: str, arguments: Sequence[str]) -> None:
    """Refuse a model that asks for more than it is given, or does not know what it is given."""
    taken = inspect.signature(model.forward).parameters
    asked = {n for n, p in taken.items() if p.default is p.empty and p.kind is _PLAIN}
    if lacking := sorted(asked - {given, *arguments}):
        raise InputError(
            f"model {type(model).__name__} takes {' and '.join(lacking)} beside {given}; give "
            "Features these arguments"
        )
    if strange := sorted({*arguments} - ({*taken} - {given})):
        raise InputError(
            f"model {type(model).__name__} takes no argument {strange[0]} beside {given}"
        )


def _features_of(model: Any) -> str:
    """The argument by which a model takes features; empty where it takes others first."""
    taken = inspect.signature(model.forward).parameters
    main = getattr(model, "main_input_name", "")
    if main in taken and main != "inputs":  # Perceiver's, of any kind; another name tells which
        return main if main in FEATURE_INPUTS else ""
    return next((name for name in FEATURE_INPUTS if name in taken), "")
