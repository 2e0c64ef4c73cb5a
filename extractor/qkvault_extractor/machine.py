"""What the extractor asks of the machine and of its libraries: devices, threads, silence."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from typing import TYPE_CHECKING

from qkvault import InputError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from transformers import PreTrainedConfig


def resolve_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` into a device that is there.

    Raises:
        InputError: not the name of a device.
        ResourceError: this machine has no such device.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {device!r}; choose cpu, cuda, cuda:1, mps or auto"
        ) from error
    there = {
        "cpu": True,
        "cuda": (place.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(place.type, False):
        raise ResourceError(f"this machine has no device {device}; use --device cpu or auto")
    return place


def find_dtype(name: str, config: PreTrainedConfig, place: torch.device) -> torch.dtype:
    """The type that a model's weights are loaded as.

    Args:
        name: ``float32``, ``float16``, ``bfloat16``, or ``auto`` for the checkpoint's own type; on
            a CPU that is float32 for float16, which CPUs compute slowly.
        config: the model's configuration.
        place: where it will run.
    """
    import torch

    if name != "auto":
        chosen = getattr(torch, name)
        assert isinstance(chosen, torch.dtype)
        return chosen
    own = getattr(config, "dtype", None)
    if not isinstance(own, torch.dtype) or not own.is_floating_point:
        return torch.float32
    slow = place.type == "cpu" and own == torch.float16
    return torch.float32 if slow or own == torch.float64 else own


def tame_torch() -> None:
    """Keep torch from taking more of the machine than it needs, before it is loaded.

    Idle threads sleep instead of spinning, so that compression gets their core. Measured on two
    cores with two threads: the whole pipeline takes 1.5 times a plain forward pass where it took
    1.9. And of the kernels that oneDNN makes for every shape of a batch it keeps a few, not 1,024:
    shapes hardly come twice, but all layers of a batch share them. MiniLM's memory grew by 45 kB an
    example, and forward passes take as long without.

    Without effect where the user has chosen.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
    """Keep transformers' notes off the terminal, such as how each batch was padded."""
    from transformers.utils import logging as noise

    verbosity = noise.get_verbosity()
    noise.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        noise.set_verbosity(verbosity)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' and the Hub's progress bars, notes and warnings off the terminal."""
    from transformers.utils import logging as noise

    bars = noise.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    noise.disable_progress_bar()  # type: ignore[no-untyped-call]
    hub.setLevel(logging.ERROR)
    try:
        with without_notes(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.setLevel(hub_level)
        if bars:
            noise.enable_progress_bar()  # type: ignore[no-untyped-call]
