"""Dask's executor, as the documentation shows it. Needs `distributed`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from pathlib import Path

import pytest

import qkvault
from cluster.harness import assert_clean, plan_vault
from cluster.test_ray import ROOTS
from qkvault_extractor import run_vault

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("distributed") is None, reason="distributed is not installed"
    ),
]


def test_dasks_executor_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan_vault(tmp_path)
    whole = Path(shutil.copytree(planned, tmp_path / "whole.vault"))
    run_vault(whole)
    with qkvault.open(whole) as vault:
        digest = vault.digest
    assert digest is not None
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(ROOTS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dask's own, of what it leaves open
        from distributed import Client, LocalCluster

        with (
            LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):
            report = run_vault(planned, client.get_executor(pure=False, retries=3), window=8)
    assert report.complete
    assert_clean(planned, digest)
