"""The sentence pairs that ``qkvault demo`` extracts; what they are is in README.md beside them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def corpus_path() -> Path:
    """Return the path of ``pairs.jsonl``: one JSON object a line, UTF-8."""
    return Path(str(resources.files(__name__).joinpath("pairs.jsonl")))
