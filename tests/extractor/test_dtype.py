"""Models whose weights and arithmetic are of half precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import qkvault
from extractor.models import save, tiny_bert, write_texts
from qkvault import InputError, PlanMismatch
from qkvault_cli.main import main
from qkvault_extractor import ExtractOptions, extract
from qkvault_extractor.machine import find_dtype

LENGTHS = [3, 30, 8, 70]


def options_for(tmp_path: Path, **changes: Any) -> ExtractOptions:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    if not (tmp_path / "model").exists():
        tiny_bert(tmp_path / "model")
    return ExtractOptions(
        str(tmp_path / "model"), (str(data),), tmp_path / "out.vault", device="cpu", **changes
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_what_is_stored_is_what_the_model_computed(dtype: Any, tmp_path: Path) -> None:
    from transformers import AutoModel

    options = options_for(tmp_path, dtype=dtype, precision="float32", batch_tokens=1)
    extract(options)
    model = AutoModel.from_pretrained(
        tmp_path / "model", dtype=getattr(torch, dtype), attn_implementation="eager"
    ).eval()
    with qkvault.open(options.out) as vault, torch.no_grad():
        for example in vault:
            ids = torch.tensor([example.record.token_ids])
            own = model(input_ids=ids, output_attentions=True).attentions
            for layer in range(3):
                kept = example.attention[layer]
                assert np.array_equal(kept, own[layer][0].float().clamp(max=1).numpy())
    with pytest.raises(PlanMismatch, match="dtype"):
        extract(replace(options, dtype="float32"))


def test_a_model_that_does_not_run_in_half_precision_is_told_so(tmp_path: Path) -> None:
    """Some of XLNet's weights stay float32, which its code cannot join to the others."""
    settings = {"d_model": 32, "n_layer": 1, "n_head": 4, "d_inner": 48}
    model = save(tmp_path / "xlnet", "XLNet", "Model", settings)
    options = options_for(tmp_path, dtype="bfloat16")
    with pytest.raises(InputError, match="does not run .* in bfloat16 .* --dtype"):
        extract(replace(options, model=str(model)))


@pytest.mark.parametrize(
    ("own", "device", "chosen"),
    [
        (torch.bfloat16, "cpu", torch.bfloat16),
        (torch.float16, "cpu", torch.float32),
        (torch.float16, "cuda", torch.float16),
        (torch.float64, "cuda", torch.float32),
        (None, "cpu", torch.float32),
    ],
)
def test_auto_takes_the_checkpoints_own(own: Any, device: str, chosen: torch.dtype) -> None:
    from transformers import BertConfig

    config = BertConfig(dtype=own)
    assert find_dtype("auto", config, torch.device(device)) == chosen


def test_the_profile_is_printed(tmp_path: Path) -> None:
    options = options_for(tmp_path)
    given = ["--model", options.model, "--data", options.data[0], "--out", str(options.out)]
    done = CliRunner().invoke(main, ["extract", *given, "--device", "cpu", "--profile"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    stages = [line.split()[0] for line in lines if line]
    for stage in ("read", "tokenize", "forward", "pack", "copy", "compress", "write", "wait"):
        assert stage in stages
    assert lines[-1].startswith("limited by: ")
