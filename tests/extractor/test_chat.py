"""Conversations: checked, written out by the tokenizer's template, told apart by role."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import qkvault
from extractor.models import tiny_llama, write_texts
from qkvault import InputError, PlanMismatch
from qkvault_extractor import ExtractOptions, extract
from qkvault_extractor.checks import messages_flaw

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'judge' %}{{ raise_exception('no judges') }}{% endif %}"
    "<|turn|> {{ m.role }} {{ m.content | trim }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|turn|> assistant {% endif %}"
)
TALKS = [
    [("user", "the cat sat"), ("assistant", "on the mat")],
    [("system", "rain"), ("user", "  the cat sat  "), ("assistant", "the cat sat on a rug")],
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_model(tmp_path_factory.mktemp("model") / "llama", TEMPLATE)


def chat_model(path: Path, template: str | None) -> Path:
    """A tiny Llama whose tokenizer has a chat template with special tokens of its own."""
    from transformers import AutoTokenizer

    tiny_llama(path, vocab_size=80)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|end|>"]})
    if template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(path)
    return path


def write_talks(path: Path, talks: Any) -> Path:
    rows = [
        {"messages": [{"role": r, "content": c} for r, c in talk], "id": f"t{i}", "topic": "pets"}
        for i, talk in enumerate(talks)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def options_for(model: Path, tmp_path: Path, talks: Any = TALKS, **changes: Any) -> ExtractOptions:
    data = write_talks(tmp_path / "talks.jsonl", talks)
    return ExtractOptions(
        str(model),
        (str(data),),
        tmp_path / "out.vault",
        id_column="id",
        device="cpu",
        chat_template=True,
        **changes,
    )


def test_messages_keep_their_roles(model: Path, tmp_path: Path) -> None:
    options = options_for(model, tmp_path)
    extract(options)
    with qkvault.open(options.out) as vault:
        for example, talk in zip(vault, TALKS, strict=True):
            told = example.columns["messages"]
            assert [m["role"] for m in told] == [role for role, _ in talk]
            for message, (_, content) in zip(told, talk, strict=True):
                start, end = message["characters"]
                assert example.text[0][start:end] == content.strip()
                first, last = message["tokens"]
                assert list(example.tokens[first:last]) == content.split()
            assert example.columns["topic"] == "pets"
        first = vault[0]
        assert first.text[0].startswith("<|turn|> user the cat sat <|end|>")
        assert first.tokens[0] == "<|turn|>", (
            "the template writes all special tokens: none is added"
        )
        marks = [
            t for t, special in zip(first.tokens, first.record.special, strict=True) if special
        ]
        assert marks == ["<|turn|>", "<|end|>"] * 2


def test_the_same_tokens_as_transformers_own(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    options = options_for(model, tmp_path)
    extract(options)
    tokenizer = AutoTokenizer.from_pretrained(model)
    with qkvault.open(options.out) as vault:
        for example, talk in zip(vault, TALKS, strict=True):
            messages = [{"role": r, "content": c} for r, c in talk]
            own = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
            assert list(example.record.token_ids) == list(own)


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        ([("user", "the cat <|end|> <|turn|> system")], "spells the special token '<|end|>'"),
        ([("<|turn|>", "the cat")], "spells the special token '<|turn|>'"),
        ([("judge", "the cat")], "the chat template refuses the messages (no judges)"),
    ],
)
def test_what_is_refused_and_listed(talk: Any, reason: str, model: Path, tmp_path: Path) -> None:
    options = options_for(model, tmp_path, [*TALKS, talk])
    with pytest.raises(InputError, match="line 3") as caught:
        extract(options)
    assert reason in str(caught.value)
    assert not options.out.exists()
    report = extract(options_for(model, tmp_path, [*TALKS, talk], on_bad="skip"))
    assert (report.examples, report.rejected) == (2, 1)


@pytest.mark.parametrize(
    ("found", "flaw"),
    [
        (None, "holds nothing where a list of messages is expected"),
        ("hello", "holds a text where a list"),
        ([], "no message in column"),
        (["hello"], "message 1 is a text"),
        ([{"role": "user"}], "message 1 has no content"),
        ([{"role": " ", "content": "a"}], "message 1 has no role"),
        ([{"role": "user", "content": ["a"]}], "message 1 has no content"),
        ([{"role": "user", "content": "a\ud800"}], "message 1: a lone surrogate"),
        ([{"role": "user", "content": " "}], "all messages are empty"),
        ([{"role": "user", "content": "a", "more": 1}], ""),
    ],
)
def test_what_makes_a_conversation(found: object, flaw: str) -> None:
    told = messages_flaw({"messages": found}, "messages")
    assert flaw in told if flaw else told == ""


def test_models_without_a_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        extract(options_for(chat_model(tmp_path / "model", None), tmp_path))


def test_the_template_is_part_of_the_identity(model: Path, tmp_path: Path) -> None:
    extract(options_for(model, tmp_path))
    other = chat_model(tmp_path / "other", TEMPLATE.replace("assistant", "bot"))
    with pytest.raises(PlanMismatch, match="chat_template"):
        extract(options_for(other, tmp_path))


def test_plain_texts_are_no_conversations(model: Path, tmp_path: Path) -> None:
    data = write_texts(tmp_path / "texts.jsonl", [3])
    with pytest.raises(InputError, match="which column of texts.jsonl holds the messages"):
        extract(ExtractOptions(str(model), (str(data),), tmp_path / "o.vault", chat_template=True))
