"""Runs a transformers model over a data set and keeps its attention in a vault.

    from qkvault_extractor import ExtractOptions, extract
    extract(ExtractOptions(model="bert-base-uncased", data=("pairs.jsonl",), out="pairs.vault"))

Ready-made features of images and sounds go through :func:`extract_features`.

Importing this package loads neither torch nor transformers; extracting does.
"""

from __future__ import annotations

from .extract import extract, plan
from .feature_extraction import extract_features
from .features import Features
from .options import ExtractOptions, ExtractReport, FeatureOptions, PlanReport, Progress
from .ray_engine import RayExecutor
from .repair import RepairReport, repair
from .running import Part, RunReport, run_vault
from .stopwatch import STAGES, Profile

__all__ = [
    "STAGES",
    "ExtractOptions",
    "ExtractReport",
    "FeatureOptions",
    "Features",
    "Part",
    "PlanReport",
    "Profile",
    "Progress",
    "RayExecutor",
    "RepairReport",
    "RunReport",
    "extract",
    "extract_features",
    "plan",
    "repair",
    "run_vault",
]
