"""Checkpoints as people have them, with a head that predicts tokens, give what bare models give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from extractor import models
from extractor.architectures import GROUPS
from extractor.test_architectures import check

if TYPE_CHECKING:
    from extractor.architecture import Architecture

NOT_OF_TEXTS: Final = ("Images and sounds, as features", "Refused")
ROWS: Final = [
    row
    for heading, rows in GROUPS.items()
    for row in rows
    if heading not in NOT_OF_TEXTS and not row.refused
]
LACKING: Final = {
    "DeepSeek-V4 (compressed layers left out)": "transformers renames its last norm as it loads",
    "BLIP, texts": "of the kinds with a head none holds the weights of the bare model",
    "SeamlessM4T, texts": "its class from text to text is saved without the half that speaks",
    "SeamlessM4T v2, texts": "its class from text to text is saved without the half that speaks",
}
"""Rows that are refused then, by name, and why."""


def head_of(prefix: str, settings: dict[str, Any]) -> str | None:
    """The end of the name of the class that predicts tokens, of a family's; None for none."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    if settings.get("is_decoder"):
        return None
    kind = getattr(transformers, f"{prefix}Config").model_type
    for known in (
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    ):
        name = known.get(kind)
        if isinstance(name, str) and name.startswith(prefix):
            return name.removeprefix(prefix)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_a_checkpoint_with_a_head_gives_the_same(
    row: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, heads = models.save, []

    def with_head(
        path: Path, prefix: str, suffix: str, settings: dict[str, Any], labels: int = 0
    ) -> Path:
        head = head_of(prefix, settings) if suffix == "Model" else None
        heads.append(head)
        return save(path, prefix, head or suffix, settings, labels)

    monkeypatch.setattr(models, "save", with_head)
    if row.title in LACKING:
        assert "its weights lack" in row.measure(tmp_path).notes
        return
    check(row, tmp_path)
    if heads == [None] or not heads:
        pytest.skip("transformers has no class of it with such a head, or the row has one already")
