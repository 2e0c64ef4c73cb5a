"""Runs a transformers model over a data set and keeps its attention in a vault.

    from qkvault_extractor import ExtractOptions, extract
    extract(ExtractOptions(model="bert-base-uncased", data=("pairs.jsonl",), out="pairs.vault"))

Importing this package loads neither torch nor transformers; :func:`extract` does.
"""

from __future__ import annotations

from .extract import extract
from .options import ExtractOptions, ExtractReport, Progress
from .repair import RepairReport, repair

__all__ = ["ExtractOptions", "ExtractReport", "Progress", "RepairReport", "extract", "repair"]
