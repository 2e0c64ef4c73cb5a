"""What a vault holds is what the model does: stored attention against ``output_attentions``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from extractor.fidelity import batches_of, extract_to, run_model
from extractor.models import (
    FAMILIES,
    minilm,
    stories260k,
    tiny_bert,
    tiny_family,
    tiny_gpt2,
    write_texts,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    import qkvault

LENGTHS = [3, 12, 12, 12, 5, 40, 66, 70, 12, 1, 129]
SENTENCES = [
    "Once upon a time there was a small red house by the lake.",
    "The cat sat on the mat.",
    "She was happy.",
    "Tom and his dog went to the park, and they played with a big ball until it was night.",
]


def compare(vault: qkvault.Vault, model: Path, class_name: str) -> float:
    """Largest difference of stored attention from the model's own, all examples and layers."""
    worst = 0.0
    for batch in batches_of(vault):
        own = run_model(model, class_name, batch, "eager").attentions
        for row, example in enumerate(batch):
            n = example.length
            stored = example.attention[:, :]  # (layer, head, query_token, key_token)
            assert stored.shape == (len(own), vault.spec.stacks[0].heads, n, n)
            theirs = torch.stack(own)[:, row, :, :n, :n].numpy()
            worst = max(worst, float(np.abs(stored - theirs).max()))
    return worst


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("data") / "texts.jsonl", LENGTHS)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "sentences.txt"
    path.write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
    return path


# Qwen2 is left to test_capture: its tokenizer class brings rules of its own.
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"qwen2"}))
def test_float32_keeps_every_bit(family: str, texts: Path, tmp_path: Path) -> None:
    model = tiny_family(tmp_path / family, family)
    vault = extract_to(tmp_path / "out.vault", model, texts, precision="float32")
    bare = {"roberta": "Roberta", "gpt2": "GPT2", "gpt_neox": "GPTNeoX", "opt": "OPT"}
    prefix = bare.get(family, FAMILIES[family][0])
    assert compare(vault, model, f"{prefix}Model") == 0.0


@pytest.mark.parametrize("precision", ["float16", "uint16", "uint8"])
def test_each_precision_keeps_its_bound(
    precision: qkvault.Precision, texts: Path, tmp_path: Path
) -> None:
    model = tiny_bert(tmp_path / "bert")
    vault = extract_to(tmp_path / "out.vault", model, texts, precision=precision)
    bound = vault[0].attention.max_error
    assert bound is not None
    assert 0.1 * bound < compare(vault, model, "BertModel") <= bound


def test_real_minilm(sentences: Path, tmp_path: Path) -> None:
    model = minilm()
    exact = extract_to(tmp_path / "exact.vault", model, sentences, precision="float32")
    assert compare(exact, model, "BertModel") == 0.0
    compact = extract_to(tmp_path / "compact.vault", model, sentences)
    bound = compact[0].attention.max_error
    assert bound is not None
    assert compare(compact, model, "BertModel") <= bound


def test_real_llama(sentences: Path, tmp_path: Path) -> None:
    model = stories260k()
    vault = extract_to(tmp_path / "out.vault", model, sentences, precision="float32")
    (stack,) = vault.spec.stacks
    assert (stack.name, stack.heads, stack.key_heads) == ("decoder", 8, 4)
    assert vault[0].tokens[0] == "<s>"
    assert compare(vault, model, "LlamaModel") == 0.0


def test_query_and_key_give_the_stored_attention(sentences: Path, tmp_path: Path) -> None:
    model = stories260k()
    vault = extract_to(tmp_path / "out.vault", model, sentences, precision="float32")
    (stack,) = vault.spec.stacks
    for example in vault:
        for depth, layer in enumerate(stack.layers):
            for head in range(stack.heads):
                key = example.key[layer, example.key_head(head)]
                scores = example.query[layer, head] @ key.T * stack.scaling[depth]
                derived = softmax(np.where(np.tri(example.length, dtype=bool), scores, -np.inf))
                assert np.abs(derived - example.attention[layer, head]).max() < 2e-6


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_a_classifiers_logits_and_prediction(kind: str, texts: Path, tmp_path: Path) -> None:
    make = {"bert": tiny_bert, "gpt2": tiny_gpt2}[kind]
    model = make(tmp_path / kind, labels=3)
    vault = extract_to(tmp_path / "out.vault", model, texts)
    assert vault.spec.label_names == ("class 0", "class 1", "class 2")
    class_name = {"bert": "Bert", "gpt2": "GPT2"}[kind] + "ForSequenceClassification"
    predicted = set()
    for batch in batches_of(vault):
        own = run_model(model, class_name, batch, "eager").logits.numpy()
        for row, example in enumerate(batch):
            assert np.array_equal(example.logits, own[row])
            assert example.prediction == own[row].argmax()
            predicted.add(example.prediction)
    assert len(predicted) > 1, "one class for all tells nothing"


def test_an_example_is_the_same_alone_and_among_others(texts: Path, tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "bert")
    among = extract_to(tmp_path / "among.vault", model, texts, precision="float32")
    alone = extract_to(tmp_path / "one.vault", model, texts, precision="float32", batch_tokens=1)
    for a, b in zip(among, alone, strict=True):
        assert a.tokens == b.tokens
        assert np.abs(a.attention[:, :] - b.attention[:, :]).max() < 2e-5
        assert np.abs(a.query[:, :] - b.query[:, :]).max() < 1e-4


def test_pairs_tell_the_model_which_text_is_which(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"a": "the cat sat", "b": "the dog lay on the mat"}\n', encoding="utf-8")
    model = tiny_bert(tmp_path / "bert")
    vault = extract_to(
        tmp_path / "out.vault", model, data, text_columns=("a", "b"), precision="float32"
    )
    assert list(vault[0].segments) == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert compare(vault, model, "BertModel") == 0.0
