"""Which tokens of Longformer and LED are global: as their classes choose, or as the user says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import qkvault
from extractor.architecture import ENCODER
from extractor.encoder_decoder_rows import LED
from extractor.fidelity import extract_to
from extractor.models import record_of, save, tiny_bert, words, write_pairs, write_texts
from qkvault import InputError, PlanMismatch
from qkvault_extractor import run_vault
from qkvault_extractor.global_tokens import find_rule, mark_global
from qkvault_extractor.layouts.reports import read_band
from qkvault_extractor.machine import quiet

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGFORMER = {**ENCODER, "attention_window": 8, "sep_token_id": 3}


def own_attention(
    folder: Path, class_name: str, example: qkvault.Example, **inputs: Any
) -> NDArray[np.float32]:
    """What a class of transformers reports of an example alone, ``(layer, head, token, token)``."""
    import transformers

    with quiet(), torch.inference_mode():
        model = getattr(transformers, class_name).from_pretrained(folder).eval()
        ids = torch.tensor([example.record.token_ids])
        output = model(input_ids=ids, output_attentions=True, **inputs)
    side = "encoder_" if model.config.is_encoder_decoder else ""
    layers = zip(
        output[f"{side}attentions"],
        output.get(f"{side}global_attentions") or [None] * 3,
        strict=True,
    )
    found: NDArray[np.float32] = np.stack(
        [read_band(*layer, ids.shape[1])[0].numpy() for layer in layers]
    )
    return found


def qa(folder: Path) -> Path:
    """A Longformer that answers questions, and a tokenizer that joins pairs as RoBERTa's does."""
    model = save(folder, "Longformer", "ForQuestionAnswering", LONGFORMER)
    words(model, single="<s> $A </s>", pair="<s>:0 $A:0 </s>:0 </s>:1 $B:1 </s>:1")
    return model


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"question": "the cat sat", "context": " ".join(["the dog lay on a mat"] * 4)}]
    rows += [{"question": "who was it in the night", "context": "rain and snow"}]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_question_is_global_as_its_own_class_makes_it(questions: Path, tmp_path: Path) -> None:
    model, columns = qa(tmp_path / "m"), ("question", "context")
    vault = extract_to(tmp_path / "v", model, questions, text_columns=columns, precision="float32")
    assert vault.spec.identity["global_tokens"] == "question"
    for example in vault:
        own = own_attention(model, "LongformerForQuestionAnswering", example)
        assert np.abs(example.attention[:, :] - own).max() < 1e-5
        words_asked = len(example.text[0].split())
        seen = (example.attention[0, 0] > 0).all(axis=1)  # global tokens see all
        assert seen[: 1 + words_asked].all()
    local = extract_to(tmp_path / "w", model, questions, text_columns=columns, global_tokens="none")
    assert local.spec.stacks[0].recipe[0].mask.window == 4


def test_a_question_needs_two_texts(tmp_path: Path) -> None:
    model, texts = qa(tmp_path / "m"), write_texts(tmp_path / "t.jsonl", [9])
    with pytest.raises(InputError, match="those of the question, the first of two texts"):
        extract_to(tmp_path / "v", model, texts)
    assert not (tmp_path / "v").exists()


def test_led_has_no_global_tokens_where_none_are_asked_for() -> None:
    """Its class that answers questions makes none, unlike Longformer's."""
    from transformers import LEDConfig

    config = LEDConfig(architectures=["LEDForQuestionAnswering"])
    assert find_rule("led", config, None) is None
    assert find_rule("led", config, "first") == "first"


def test_the_first_token_of_led_is_global_where_asked(tmp_path: Path) -> None:
    model = save(tmp_path / "m", "LED", "ForConditionalGeneration", LED)
    words(model, single="<s> $A </s>", pair="<s> $A </s> $B </s>")
    pairs = write_pairs(tmp_path / "p.jsonl", [(26, 5), (30, 7), (9, 3)])
    options: dict[str, Any] = {"target_column": "target", "precision": "float32"}
    vault = extract_to(tmp_path / "v", model, pairs, global_tokens="first", **options)
    encoder, decoder, _ = vault.spec.stacks
    assert {(recipe.unknown or "")[:13] for recipe in encoder.recipe} == {"global tokens"}
    assert decoder.recipe[0].unknown is None
    for example in vault:
        marks = torch.zeros(1, len(example.tokens), dtype=torch.long)
        marks[0, 0] = 1
        target = example.record.target
        assert target is not None
        inputs = {
            "global_attention_mask": marks,
            "decoder_input_ids": torch.tensor([target.token_ids]),
        }
        own = own_attention(model, "LEDModel", example, **inputs)
        assert np.abs(example.stack("encoder").attention[:, :] - own).max() < 1e-5
    assert qkvault.verify(vault.path, full=True, derive=True).ok


def test_led_writes_with_the_global_tokens_that_it_then_reads_with(tmp_path: Path) -> None:
    import transformers

    model = save(tmp_path / "m", "LED", "ForConditionalGeneration", {**LED, "eos_token_id": 3})
    words(model, single="<s> $A </s>", pair="<s> $A </s> $B </s>")
    texts = write_texts(tmp_path / "t.jsonl", [26, 9])
    vault = extract_to(tmp_path / "v", model, texts, global_tokens="first", generate=6)
    with quiet(), torch.inference_mode():
        network = transformers.LEDForConditionalGeneration.from_pretrained(model).eval()
    for example in vault:
        ids = torch.tensor([example.record.token_ids])
        marks = torch.zeros_like(ids)
        marks[:, 0] = 1
        settings = {"max_new_tokens": 6, "do_sample": False, "num_beams": 1, "use_cache": False}
        with quiet(), torch.inference_mode():
            written = network.generate(ids, global_attention_mask=marks, **settings)
        target = example.record.target
        assert target is not None
        assert list(target.token_ids) == written[0, : len(target.token_ids)].tolist()


def test_a_run_goes_on_with_the_global_tokens_it_was_planned_for(tmp_path: Path) -> None:
    from qkvault_extractor import ExtractOptions, plan

    model = save(tmp_path / "m", "Longformer", "Model", LONGFORMER)
    texts = write_texts(tmp_path / "t.jsonl", [20, 30])
    first = ExtractOptions(
        str(model), (str(texts),), tmp_path / "v", device="cpu", global_tokens="first"
    )
    plan(first)
    with pytest.raises(PlanMismatch, match="global_tokens"):
        plan(replace(first, global_tokens=None))
    run_vault(tmp_path / "v", device="cpu")
    whole = extract_to(tmp_path / "w", model, texts, global_tokens="first")
    assert qkvault.open(tmp_path / "v").digest == whole.digest
    assert (whole[0].attention[0, 0, 0] > 0).all(), "the first token sees all"


def test_other_models_know_no_global_tokens(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "t.jsonl", [9])
    with pytest.raises(InputError, match=r"type bert. knows no global tokens"):
        extract_to(tmp_path / "v", tiny_bert(tmp_path / "m"), texts, global_tokens="first")
    with pytest.raises(InputError, match="unknown global tokens 'last'"):
        extract_to(tmp_path / "v", tmp_path / "m", texts, global_tokens="last")


def test_choices_are_no_texts(tmp_path: Path) -> None:
    model = save(tmp_path / "m", "Longformer", "ForMultipleChoice", LONGFORMER)
    texts = write_texts(tmp_path / "t.jsonl", [9])
    with pytest.raises(InputError, match="makes the tokens of its choices global"):
        extract_to(tmp_path / "v", model, texts)


def test_marks() -> None:
    record = replace(
        record_of([2, 9, 8, 3, 3, 7, 3]),
        segments=(0, 0, 0, 0, 1, 1, 1),
        special=(1, 0, 0, 1, 1, 0, 1),
    )
    assert mark_global(record, "none") == [0] * 7
    assert mark_global(record, "first") == [1, 0, 0, 0, 0, 0, 0]
    assert mark_global(record, "question") == [1, 1, 1, 0, 0, 0, 0]


def test_targets_are_held_to_what_the_decoder_takes(tmp_path: Path) -> None:
    model = save(
        tmp_path / "m",
        "LED",
        "ForConditionalGeneration",
        {**LED, "max_decoder_position_embeddings": 16},
    )
    words(model, single="$A </s>", pair="$A </s> $B </s>")
    pairs = write_pairs(tmp_path / "p.jsonl", [(40, 15), (30, 20)])
    with pytest.raises(InputError, match="the target has 21 tokens where 16 are taken"):
        extract_to(tmp_path / "v", model, pairs, target_column="target")
    cut = extract_to(tmp_path / "v", model, pairs, target_column="target", truncate=True)
    assert [example.record.lengths for example in cut] == [(41, 16), (31, 16)]
    texts = write_texts(tmp_path / "t.jsonl", [9])
    with pytest.raises(InputError, match="more than the 16 tokens that the decoder"):
        extract_to(tmp_path / "w", model, texts, generate=17)
