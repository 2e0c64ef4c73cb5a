"""Thumbnails drawn from what a vault keeps for them look like those drawn from the whole maps."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest

import qkvault
from extractor.models import minilm
from qkvault_extractor import ExtractOptions, extract

SCRIPT = Path(__file__).parent / "js" / "correlate.mjs"
TEXTS = (
    "When the ferry finally left the harbour, most of the passengers had gone below to escape the"
    " wind, but an old man with a brass telescope stayed at the rail. He watched the lighthouse"
    " until it was no more than a spark, wrote something in a small green notebook, and then asked"
    " the nearest sailor whether the island had changed since the quarry closed. The sailor, who"
    " had been born there, said that only the prices had.",
    "The committee met twice in March to discuss the budget for the new library. Its chair argued"
    " that the reading room should open on Sundays, since families rarely come on weekdays, while"
    " the treasurer pointed out that heating the building costs more than all of the books bought"
    " in a year. In the end they agreed to open every second Sunday from October to April, to ask"
    " the school for help with the children's corner, and to look at the figures again in summer."
    " Nobody mentioned the roof, although it had been leaking above the newspapers since the first"
    " storm of the winter and a bucket stood beside the atlas.",
)


def test_pooled_thumbnails_look_like_the_whole_maps(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    data, out = tmp_path / "texts.jsonl", tmp_path / "long.vault"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    extract(ExtractOptions(model=str(minilm()), data=(str(data),), out=out))
    found: list[float] = []
    with qkvault.open(out) as vault:
        for example in vault:
            whole = qkvault.encode_attention(example.attention[:, :], "uint8")
            pooled = example.thumbnail.codes()
            tokens, side = whole.shape[-1], pooled.shape[-1]
            assert tokens > side == 64
            given = {
                "tokens": tokens,
                "side": side,
                "maps": whole.shape[0] * whole.shape[1],
                "whole": b64encode(whole.astype(np.uint8).tobytes()).decode(),
                "pooled": b64encode(pooled.tobytes()).decode(),
            }
            run = subprocess.run(
                [node, str(SCRIPT)], input=json.dumps(given), capture_output=True, text=True
            )
            assert run.returncode == 0, run.stderr
            found += json.loads(run.stdout)
    median, tenth = np.quantile(found, [0.5, 0.1])
    print(f"{len(found)} thumbnails: median {median:.3f}, tenth percentile {tenth:.3f}")
    assert median >= 0.9
