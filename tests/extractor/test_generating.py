"""Prompts that a model goes on with: one sequence, the boundary kept, never generated twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qkvault
from extractor.models import (
    WORDS,
    llama_settings,
    record_of,
    save,
    stories260k,
    tiny_bert,
    tiny_gpt2,
    tiny_llama,
    write_texts,
)
from extractor.test_chat import TEMPLATE, chat_model, write_talks
from qkvault import InputError, PlanMismatch
from qkvault_extractor import ExtractOptions, extract, greedy
from qkvault_extractor.generating import _join
from qkvault_extractor.model import load_tokenizer
from qkvault_extractor.pack import Packer

LENGTHS = [3, 9, 3, 5, 3]
NEW = 6


def options_for(model: Path, tmp_path: Path, **changes: Any) -> ExtractOptions:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    given: dict[str, Any] = {"id_column": "id", "device": "cpu", "generate": NEW, **changes}
    return ExtractOptions(str(model), (str(data),), tmp_path / "out.vault", **given)


def tiny_llava(path: Path) -> Path:
    """A model of texts and images, which goes on with texts too."""
    sides = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    images = {**sides, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 8}
    texts = {**llama_settings(), "model_type": "llama", "vocab_size": len(WORDS) + 4}
    settings = {"vision_config": images, "text_config": {**texts, "eos_token_id": 3}}
    return save(path, "Llava", "ForConditionalGeneration", settings)


def one_by_one(model: Path, ids: list[int], tokens: int, end: int) -> list[int]:
    """The likeliest token, one after the other, without a cache."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    reads_images = AutoConfig.from_pretrained(model).model_type == "llava"
    factory = AutoModelForImageTextToText if reads_images else AutoModelForCausalLM
    network = factory.from_pretrained(model).eval()
    new: list[int] = []
    with torch.no_grad():
        while len(new) < tokens and (not new or new[-1] != end):
            logits = network(input_ids=torch.tensor([ids + new]), use_cache=False).logits
            new.append(int(logits[0, -1].argmax()))
    return new


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_llava])
def test_continuations_are_greedy(make: Any, tmp_path: Path) -> None:
    model = make(tmp_path / "model")
    options = options_for(model, tmp_path)
    extract(options)
    with qkvault.open(options.out) as vault:
        for example, words in zip(vault, LENGTHS, strict=True):
            ids, segments = list(example.record.token_ids), list(example.record.segments)
            prompt = segments.index(1)
            assert prompt == words + 1
            assert segments == [0] * prompt + [1] * (len(ids) - prompt)
            assert ids[prompt:] == one_by_one(model, ids[:prompt], NEW, 3)
            assert len(example.text) == 2


def test_penalties_of_the_checkpoint_are_not_used(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model")
    told = model / "generation_config.json"
    known = json.loads(told.read_text())
    penalties = {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1, "do_sample": True}
    told.write_text(json.dumps({**known, **penalties}))
    options = options_for(model, tmp_path)
    extract(options)
    with qkvault.open(options.out) as vault:
        for example in vault:
            ids = list(example.record.token_ids)
            prompt = list(example.record.segments).index(1)
            assert ids[prompt:] == one_by_one(model, ids[:prompt], NEW, 3)


def test_attention_is_that_of_the_whole_sequence(tmp_path: Path) -> None:
    from transformers import AutoModel

    model = tiny_llama(tmp_path / "model")
    options = options_for(model, tmp_path, precision="float32")
    extract(options)
    network = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    with qkvault.open(options.out) as vault, torch.no_grad():
        example = vault[1]
        ids = torch.tensor([example.record.token_ids])
        own = network(input_ids=ids, output_attentions=True).attentions[2][0].numpy()
        assert np.abs(example.attention[2] - own).max() < 1e-6


def test_a_real_model_tells_stories(tmp_path: Path) -> None:
    data = tmp_path / "begun.txt"
    data.write_text("Once upon a time\nLily had a red ball and\n")
    options = ExtractOptions(
        str(stories260k()), (str(data),), tmp_path / "out.vault", device="cpu", generate=24
    )
    extract(options)
    with qkvault.open(options.out) as vault:
        for example in vault:
            prompt, told = example.text
            assert told.startswith(" ") or told.startswith(","), "the blank between both is kept"
            record = example.record
            at = record.segments.index(1)
            assert at + 24 == example.length
            pieces = [told[a:b] for a, b in record.offsets[at:]]
            assert "".join(pieces) == told
            assert prompt in ("Once upon a time", "Lily had a red ball and")
            assert "metrics" not in record.columns


def test_going_on_generates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_for(tiny_llama(tmp_path / "model"), tmp_path)
    whole = replace(options, out=tmp_path / "whole.vault")
    extract(whole)
    with monkeypatch.context() as patch:
        patch.setattr(Packer, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract(options)
    monkeypatch.setattr(
        greedy.Generator, "write", lambda *_: pytest.fail("what was generated is in the plan")
    )
    report = extract(options)
    assert not report.already_complete
    assert qkvault.open(options.out).digest == qkvault.open(whole.out).digest
    with pytest.raises(PlanMismatch, match="generate"):
        extract(replace(options, generate=NEW + 1))


def test_chats_are_gone_on_with_behind_their_template(tmp_path: Path) -> None:
    model = chat_model(tmp_path / "model", TEMPLATE)
    data = write_talks(tmp_path / "talks.jsonl", [[("user", "the cat sat")]])
    out = tmp_path / "out.vault"
    extract(
        ExtractOptions(str(model), (str(data),), out, device="cpu", generate=4, chat_template=True)
    )
    with qkvault.open(out) as vault:
        (example,) = vault
        assert example.text[0] == "<|turn|> user the cat sat <|end|> <|turn|> assistant "
        at = example.record.segments.index(1)
        assert example.tokens[at - 2] == "<|turn|>"
        ids = list(example.record.token_ids)
        assert ids[at:] == one_by_one(model, ids[:at], 4, 3)


def test_special_tokens_at_a_prompts_end_go(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    model = tiny_llama(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="$A $B", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    tokenizer.save_pretrained(model)
    options = options_for(model, tmp_path)
    extract(options)
    with qkvault.open(options.out) as vault:
        at = vault[0].record.segments.index(1)
        assert at == LENGTHS[0] + 1
        assert vault[0].record.special[:at] == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (tiny_bert, {}, "has no head that goes on with a text"),
        (tiny_llama, {"generate": 160}, "leaves no room for a prompt"),
        (tiny_llama, {"generate": 155}, "7 tokens where|10 tokens where"),
    ],
)
def test_what_cannot_be_gone_on_with(
    make: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    options = options_for(make(tmp_path / "model"), tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        extract(options)
    assert not options.out.exists()


def test_a_model_that_sees_what_follows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertConfig, BertLMHeadModel

    model = tiny_bert(tmp_path / "model")
    size = BertConfig.from_pretrained(model).vocab_size
    config = BertConfig(
        vocab_size=size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.3,
    )
    BertLMHeadModel(config).save_pretrained(model)
    with pytest.raises(InputError, match="is not causal"):
        extract(options_for(model, tmp_path))


@pytest.mark.parametrize(
    ("kind", "saved", "factory"),
    [
        ("Llama", "LlamaForCausalLM", "AutoModelForCausalLM"),
        ("Llama", "LlamaModel", None),
        ("Llama4", "Llama4ForConditionalGeneration", "AutoModelForImageTextToText"),
        ("Gemma3", "Gemma3ForCausalLM", "AutoModelForCausalLM"),
        ("Gemma3", "Gemma3Model", None),
        ("T5", "T5ForConditionalGeneration", "AutoModelForSeq2SeqLM"),
        ("T5", "T5EncoderModel", None),
    ],
)
def test_what_writes_is_told_by_the_class_it_was_saved_as(
    kind: str, saved: str, factory: str | None
) -> None:
    import transformers

    config = getattr(transformers, f"{kind}Config")(architectures=[saved])
    found = greedy._find_factory(config)
    assert (found and found.__name__) == factory


def test_encoder_decoders_made_of_two_models_write() -> None:
    from transformers import BertConfig, EncoderDecoderConfig

    config = EncoderDecoderConfig.from_encoder_decoder_configs(BertConfig(), BertConfig())
    config.architectures = ["EncoderDecoderModel"]
    assert greedy._find_factory(config).__name__ == "AutoModelForSeq2SeqLM"


def test_what_the_tokenizer_has_no_token_for_is_told_by_its_number(tmp_path: Path) -> None:
    """Models have more entries than their tokenizers, for round numbers' sake."""
    tokenizer = load_tokenizer(str(tiny_llama(tmp_path / "model")))
    made = _join(record_of([2, 7, 9]), [11, 4000], frozenset(), tokenizer)
    assert made.tokens[3:] == (tokenizer.convert_ids_to_tokens(11), "4000")
    assert made.token_ids[3:] == (11, 4000)
