"""Hashes that tell whether a run goes on with the same rows, tokenizer and weights.

All are SHA-256 over length-prefixed parts, so that no two different lists of parts run together.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qkvault import InputError, Json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qkvault_extractor.rows import Row

_BLOCK: Final = 1 << 20
_PASSING: Final = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def text_hash(rows: Iterable[Row]) -> str:
    """Hash rows in order: texts, id, label and the other columns; not the file they came from.

    Equal values give equal hashes whatever the format: JSONL, CSV and parquet of one table agree
    where they carry equal values. A column that is None counts as absent, because formats differ in
    whether they can leave one out.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(b"qkvault rows 1\n")
    for row in rows:
        columns = {k: v for k, v in row.columns.items() if v is not None}
        head: list[Any] = [len(row.texts), row.label, columns]
        if row.messages:
            head.append([dict(message) for message in row.messages])
        if row.target is not None:
            head.append({"target": row.target})
        digest.update(_join((*row.texts, row.id, _canonical(head))))
    return digest.hexdigest()


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash what a transformers tokenizer turns text into ids by.

    A fast tokenizer's whole pipeline counts, its passing state (padding, truncation) does not; of a
    slow one the class, the vocabulary, the added and the special tokens.

    Returns:
        64 hexadecimal digits.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        pipeline = json.loads(backend.to_str())
        for passing in ("padding", "truncation"):
            pipeline.pop(passing, None)
    else:
        pipeline = {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab()}
        pipeline["added"] = {str(k): str(v) for k, v in tokenizer.added_tokens_decoder.items()}
    special = {k: str(v) for k, v in tokenizer.special_tokens_map.items()}
    parts = ("qkvault tokenizer 1", _canonical(pipeline), _canonical(special))
    return hashlib.sha256(_join(parts)).hexdigest()


def identify_model(model: str, config: Any) -> str:
    """What names a model's weights: their hash in a local folder, else Hub name and commit.

    Args:
        model: local folder or Hub name.
        config: its configuration, as transformers loaded it.

    Raises:
        InputError: the folder holds no config.json or no weights.
    """
    folder = Path(model)
    return weights_hash(folder) if folder.is_dir() else f"{model}@{hub_commit(config) or 'main'}"


def weights_hash(folder: Path) -> str:
    """Hash a local model: config.json and the weights (``*.safetensors``, else ``*.bin``).

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: the folder holds no config.json or no weights.
    """
    config = folder / "config.json"
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not config.is_file() or not weights:
        lacking = "weights (*.safetensors or *.bin)" if config.is_file() else "config.json"
        raise InputError(f"{folder} is not a model: it has no {lacking}")
    digest = hashlib.sha256(b"qkvault weights 1\n")
    for path in (config, *weights):
        size = path.stat().st_size
        digest.update(_join((path.name, str(size))))
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def generation_hash(folder: Path) -> str | None:
    """Hash what a local model says of how it writes: first, last and forbidden tokens.

    Returns:
        64 hexadecimal digits; None where it says nothing.
    """
    try:
        told = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or of no use
        return None
    if isinstance(told, dict):
        told = {name: value for name, value in told.items() if name not in _PASSING}
    parts = ("qkvault generation 1", _canonical(told))
    return hashlib.sha256(_join(parts)).hexdigest()


def loaded_weights_hash(model: Any) -> str:
    """Hash a transformers model in memory: its class, its configuration and all its tensors.

    Where it was loaded from, and by which version, does not count.

    Returns:
        64 hexadecimal digits.
    """
    config = {k: v for k, v in model.config.to_dict().items() if k not in _PASSING}
    digest = hashlib.sha256(b"qkvault loaded weights 1\n")
    digest.update(_join((type(model).__name__, json.dumps(config, sort_keys=True, default=str))))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(_join((name, str(tensor.dtype), str(tuple(tensor.shape)))))
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(_uint8()).numpy().data)
    return digest.hexdigest()


def _uint8() -> Any:
    import torch

    return torch.uint8


def hub_commit(config: Any) -> str | None:
    """Return the Hub commit a model's config was loaded from; None for a local folder.

    transformers notes it in ``config._commit_hash`` while it loads from the Hub's cache.
    """
    found = getattr(config, "_commit_hash", None)
    return found if isinstance(found, str) and _COMMIT.fullmatch(found) else None


def _canonical(value: Json | list[Any] | dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _join(parts: Iterable[str]) -> bytes:
    """Join strings, each behind its length in bytes (8 bytes, little-endian)."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(e).to_bytes(8, "little") + e for e in encoded)
