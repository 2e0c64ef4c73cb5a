"""Transformer-XL: what a vault keeps is what the paper's recurrence gives, memories and all."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import qkvault
from extractor.models import WORDS
from extractor.xl_models import SETTINGS, save
from extractor.xl_oracle import Oracle
from qkvault import InputError
from qkvault_cli.main import main
from qkvault_extractor import ExtractOptions, extract
from qkvault_extractor.transfo_xl import TransfoXLConfig

LENGTHS = [4, 23, 5, 17]
"""Tokens: within a segment, many segments, one segment, several."""


def write_texts(path: Path) -> Path:
    random = np.random.default_rng(1)
    lines = [" ".join([*random.choice(WORDS, n - 1), "unheard-of"]) for n in LENGTHS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"same_length": True},
        {"pre_lnorm": True, "clamp_len": -1},
        {"untie_r": False},
        {"div_val": 1, "d_embed": 12, "cutoffs": []},
        {"mem_len": 0},
    ],
    ids=["usual", "same_length", "pre_lnorm", "tied", "one_cluster", "no_memory"],
)
def test_attention_is_what_segments_and_memories_give(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = save(tmp_path / "xl", **changes)
    data, out = write_texts(tmp_path / "texts.txt"), tmp_path / "v"
    extract(ExtractOptions(str(model), (str(data),), out, precision="float32", device="cpu"))
    oracle = Oracle(load_file(model / "model.safetensors"), {**SETTINGS, **changes})
    for example, length in zip(qkvault.open(out), LENGTHS, strict=True):
        assert example.length == length
        found = oracle.run(example.token_ids.tolist())
        assert np.abs(example.attention[:, :] - np.stack(found.attention)).max() < 1e-5
        assert np.abs(example.query[:, :] - np.stack(found.query)).max() < 1e-4
        if length > 2:
            assert np.stack(found.attention).std() > 0.05, "too even to tell anything"


def test_a_long_text_is_a_band(tmp_path: Path) -> None:
    model, data = save(tmp_path / "xl"), write_texts(tmp_path / "texts.txt")
    out = tmp_path / "v"
    found = CliRunner().invoke(
        main, ["extract", "--model", str(model), "--data", str(data), "--out", str(out)]
    )
    assert found.exit_code == 0, found.output
    vault = qkvault.open(out)
    assert vault.spec.stacks[0].name == "decoder"
    assert vault.spec.provenance["type"] == "transfo-xl"
    example = vault[1]
    weights = example.attention[:, :]
    query, key = np.ogrid[: example.length, : example.length]
    seen = (key <= query) & (key >= query // 5 * 5 - 7)
    assert (weights[:, :, ~seen] == 0).all()
    assert (weights[:, :, seen] > 0).mean() > 0.9
    assert np.allclose(weights.sum(-1), 1, atol=1e-3), "memory of nothing was attended to"
    assert example.tokens == (*example.text[0].split()[:-1], "<unk>")


def test_attention_is_not_said_to_follow_from_queries_and_keys(tmp_path: Path) -> None:
    model, data = save(tmp_path / "xl"), write_texts(tmp_path / "texts.txt")
    options = ExtractOptions(str(model), (str(data),), tmp_path / "v", device="cpu")
    extract(options)
    (stack,) = qkvault.open(tmp_path / "v").spec.stacks
    assert {r.unknown for r in stack.recipe} == {
        "the model adds a bias that depends on more than relative position"
    }
    with pytest.raises(InputError, match="cannot be derived, layer 0: the model adds a bias"):
        extract(replace(options, out=tmp_path / "w", attention="derive"))


def test_a_binary_checkpoint_is_read_as_plain_tensors(tmp_path: Path) -> None:
    import torch

    model, data = save(tmp_path / "xl"), write_texts(tmp_path / "texts.txt")
    extract(ExtractOptions(str(model), (str(data),), tmp_path / "a", device="cpu"))
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save({k: torch.from_numpy(v) for k, v in weights.items()}, model / "pytorch_model.bin")
    extract(ExtractOptions(str(model), (str(data),), tmp_path / "b", device="cpu"))
    a, b = qkvault.open(tmp_path / "a"), qkvault.open(tmp_path / "b")
    assert np.array_equal(a[1].attention[:, :], b[1].attention[:, :])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_layer": 1}, r"its weights hold \S*layers\.1\.\S+ and \d+ more"),
        ({"n_layer": 3}, r"its weights lack layers\.2\."),
        ({"d_inner": 12}, "its weights cannot be loaded"),
        ({"attn_type": 2}, "attn_type 2 is not that of Transformer-XL"),
    ],
)
def test_weights_must_be_those_the_settings_say(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    model, data = save(tmp_path / "xl"), write_texts(tmp_path / "texts.txt")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        extract(ExtractOptions(str(model), (str(data),), tmp_path / "v", device="cpu"))
    assert not (tmp_path / "v").exists()


class _Opened:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize(
    ("vocabulary", "reason"),
    [
        (None, "list of its words as vocab.json: its vocab.pkl is a pickle, which is never"),
        ("not JSON", "as vocab.json"),
        (json.dumps({"a": 0, "b": 5}), "neither a list of words nor words with ids"),
        (json.dumps(["a", 3]), "neither a list of words nor words with ids"),
        (json.dumps(["a", "b"]), "lists no <unk>"),
    ],
)
def test_words_must_be_listed_and_are_never_unpickled(
    vocabulary: str | None, reason: str, tmp_path: Path
) -> None:
    model, data = save(tmp_path / "xl"), write_texts(tmp_path / "texts.txt")
    (model / "vocab.pkl").write_bytes(pickle.dumps(_Opened(tmp_path / "trace")))
    (model / "vocab.json").unlink()
    if vocabulary is not None:
        (model / "vocab.json").write_text(vocabulary, encoding="utf-8")
    with pytest.raises(InputError, match=reason):
        extract(ExtractOptions(str(model), (str(data),), tmp_path / "v", device="cpu"))
    assert not (tmp_path / "trace").exists()


def test_a_tokenizer_file_does_as_well(tmp_path: Path) -> None:
    from qkvault_extractor.word_tokenizer import load_words

    model, data = save(tmp_path / "xl"), write_texts(tmp_path / "texts.txt")
    listed = load_words(model)
    assert listed is not None
    listed.save_pretrained(model)
    (model / "vocab.json").unlink()
    extract(ExtractOptions(str(model), (str(data),), tmp_path / "v", device="cpu"))
    assert qkvault.open(tmp_path / "v")[0].tokens == tuple(
        data.read_text(encoding="utf-8").split("\n")[0].replace("unheard-of", "<unk>").split()
    )


def test_settings_have_the_names_that_others_ask_for() -> None:
    config = TransfoXLConfig(**SETTINGS)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 2, 2)
