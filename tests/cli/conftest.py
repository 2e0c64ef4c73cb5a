"""Models for tests of the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extractor.models import tiny_bert, tiny_gpt2, tiny_llama


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models whose weights cannot be read: whoever loads them says so."""
    home = tmp_path_factory.mktemp("models")
    made = {
        "bert": tiny_bert(home / "bert"),
        "gpt2": tiny_gpt2(home / "gpt2"),
        "llama": tiny_llama(home / "llama"),
    }
    changed: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
        "without specials": ("tokenizer.json", lambda d: d.update(post_processor=None)),
        "small vocabulary": ("config.json", lambda d: d.update(vocab_size=5)),
        "unknown type": ("config.json", lambda d: d.update(model_type="perpetuum")),
        "with code": (
            "config.json",
            lambda d: d.update(model_type="own", auto_map={"AutoConfig": "own.OwnConfig"}),
        ),
    }
    for name, (file, change) in changed.items():
        made[name] = Path(shutil.copytree(made["bert"], home / name))
        document = json.loads((made[name] / file).read_text(encoding="utf-8"))
        change(document)
        (made[name] / file).write_text(json.dumps(document), encoding="utf-8")
    for folder in made.values():
        shutil.copytree(folder, folder.with_name(f"{folder.name} whole"))
        (folder / "model.safetensors").write_bytes(b"not weights")
    return made
