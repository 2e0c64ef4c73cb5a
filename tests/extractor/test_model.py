"""Loading models: what is refused, with one line that names it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from extractor.models import save, tiny_bert, tiny_gpt2
from qkvault import InputError, ResourceError
from qkvault_extractor.feeding import TextFeed
from qkvault_extractor.machine import resolve_device, tame_torch
from qkvault_extractor.model import (
    LoadedModel,
    load_config,
    load_model,
    load_tokenizer,
    name_model,
)


def load(path: Path) -> LoadedModel:
    name = str(path)
    return load_model(name, load_config(name), load_tokenizer(name), "cpu")


def change_config(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}), encoding="utf-8")


def test_a_classifier_keeps_its_head(tmp_path: Path) -> None:
    loaded = load(tiny_bert(tmp_path, labels=2))
    assert (loaded.logits, loaded.label_names) == (2, ("class 0", "class 1"))
    assert loaded.feed == TextFeed(0, takes_segments=True, takes_batches=True)
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32


def test_other_heads_are_left_out(tmp_path: Path) -> None:
    loaded = load(tiny_gpt2(tmp_path))
    assert type(loaded.model).__name__ == "GPT2Model"
    assert (loaded.logits, loaded.label_names, loaded.feed) == (0, (), TextFeed(0, False, True))


def test_made_up_class_names_are_no_names(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path, labels=2)
    change_config(path, id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id=None)
    assert load(path).label_names == ()


def test_a_decoder_without_padding_id_classifies_one_by_one(tmp_path: Path) -> None:
    path = tiny_gpt2(tmp_path, labels=3, pad_token_id=None)
    assert not load(path).feed.takes_batches


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_no_such_folder(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_config(name)


def test_a_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder has no config.json"):
        load_config(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "perceptron9"},
            "the model type .perceptron9.; supported: BERT, .*GPT-2, .*Llama",
        ),
        (
            {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}},
            "code of its own, which is never run",
        ),
    ],
)
def test_unsupported_types(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tiny_bert(tmp_path)
    (path / "evil.py").write_text("raise SystemExit('ran foreign code')\n")
    change_config(path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)


def test_broken_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        load_config(str(tmp_path))


def test_no_weights(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path)
    (path / "model.safetensors").unlink()
    with pytest.raises(InputError, match="its weights cannot be loaded"):
        load(path)


def test_damaged_weights(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path)
    (path / "model.safetensors").write_bytes(b"junk" * 50)
    with pytest.raises(InputError, match="its weights cannot be loaded"):
        load(path)


class _Payload:
    """Leaves a trace where it is unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._trace,)


def test_weights_that_are_code_are_never_unpickled(tmp_path: Path) -> None:
    path, trace = tiny_bert(tmp_path / "model"), tmp_path / "trace"
    (path / "model.safetensors").unlink()
    torch.save({"embeddings.weight": _Payload(trace)}, path / "pytorch_model.bin")
    with pytest.raises(InputError, match="its weights cannot be loaded"):
        load(path)
    assert not trace.exists()
    torch.load(path / "pytorch_model.bin", weights_only=False)
    assert trace.exists()  # so that the payload is one


def test_weights_that_lack_a_part(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path)  # saved without a head, announced as a classifier
    change_config(path, architectures=["BertForSequenceClassification"])
    with pytest.raises(InputError, match=r"lack classifier\.bias and 1 more"):
        load(path)


def test_weights_of_another_shape(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path)
    change_config(path, intermediate_size=64)
    with pytest.raises(InputError, match="weights"):
        load(path)


def test_no_tokenizer(tmp_path: Path) -> None:
    path = tiny_bert(tmp_path)
    (path / "tokenizer.json").unlink()
    (path / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match="tokenizer"):
        load_tokenizer(str(path))


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="unknown device 'gpu0'"):
        resolve_device("gpu0")
    with pytest.raises(ResourceError, match="no device cuda:77"):
        resolve_device("cuda:77")


def test_names(tmp_path: Path) -> None:
    tiny_bert(tmp_path / "my-bert" / "model")
    assert name_model(str(tmp_path / "my-bert" / "model")) == "my-bert"
    assert name_model(str(tmp_path / "my-bert")) == "my-bert"
    assert name_model("bert-base-uncased") == "bert-base-uncased"


def test_of_a_model_that_sees_too_the_half_for_texts_is_loaded(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    texts, images = {**sizes, "vocab_size": 48}, {**sizes, "image_size": 16, "patch_size": 8}
    loaded = load(
        save(tmp_path / "clip", "CLIP", "Model", {"text_config": texts, "vision_config": images})
    )
    assert type(loaded.model).__name__ == "CLIPTextModel"
    assert not loaded.model.training


def test_torch_is_tamed_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    tame_torch()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]) < 100
