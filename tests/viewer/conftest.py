"""A vault being served, asked without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import Asker

import qkvault
from qkvault_viewer import create_app
from vaults import make_vault


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep search tables out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def vault_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pairs; the first has 70 tokens, so that its thumbnails are pooled."""
    lengths = [70, 5, 9, 12, 16, 17, 21, 24, 25, 28, 30, 64]
    folder = tmp_path_factory.mktemp("served")
    path = folder / "Some Pairs.vault"
    return make_vault(path, lengths=lengths, layers=(1, 4), seed=3, metrics=True)


@pytest.fixture(scope="session")
def vault(vault_path: Path) -> Iterator[qkvault.Vault]:
    with qkvault.open(vault_path) as opened:
        yield opened


@pytest.fixture(scope="session")
def asker(vault_path: Path) -> Asker:
    return Asker(create_app([vault_path]))
