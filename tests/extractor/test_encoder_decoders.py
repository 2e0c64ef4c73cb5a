"""Encoder-decoders: three stacks, captured exactly, from a target text to a finished vault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from models import (
    ENCODER_DECODERS,
    record_of,
    tiny_bert,
    tiny_encoder_decoder,
    write_pairs,
)

import qkvault
from qkvault import InputError, Lengths, Mask, head_metrics, token_roles
from qkvault_extractor import ExtractOptions, extract, repair
from qkvault_extractor.model import load_config, load_model, load_tokenizer
from qkvault_extractor.probe import Probe, probe
from qkvault_extractor.stacks import Sides, name_stacks
from qkvault_extractor.targets import find_start

if TYPE_CHECKING:
    from qkvault import Record
    from qkvault_extractor.model import LoadedModel

FAMILIES = sorted(ENCODER_DECODERS)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: str = request.param
    return tiny_encoder_decoder(tmp_path_factory.mktemp(family) / family, family)


def load(folder: Path) -> LoadedModel:
    name = str(folder)
    return load_model(name, load_config(name), load_tokenizer(name), "cpu")


def probed(loaded: LoadedModel, source: int = 20, target: int = 13) -> Probe:
    random = np.random.default_rng(0)
    ids = [random.integers(4, 40, n).tolist() for n in (source, target)]
    records = [record_of(ids[0], [0, 5, 6]), record_of([7, 8], ids[1])]
    return probe(loaded, records, ("float32", "float32"))


def test_three_stacks_are_captured_as_eager_has_them(folder: Path) -> None:
    loaded = load(folder)
    found = probed(loaded)
    assert found.difference == 0.0
    assert found.way == "interface"
    config = loaded.model.config
    encoder, decoder, cross = found.stacks
    assert [stack.name for stack in found.stacks] == ["encoder", "decoder", "cross"]
    deep = getattr(config, "decoder_layers", getattr(config, "num_decoder_layers", None))
    assert encoder.layers == tuple(range(config.num_hidden_layers))
    assert decoder.layers == cross.layers == tuple(range(deep))
    assert len(encoder.layers) != len(decoder.layers)
    assert encoder.heads == config.num_attention_heads
    assert decoder.heads == cross.heads
    assert [stack.causal for stack in found.stacks] == [False, True, False]


def test_positions_that_a_checkpoint_does_not_hold_are_sines(tmp_path: Path) -> None:
    model = load(tiny_encoder_decoder(tmp_path, "marian")).model
    for half in (model.get_encoder(), model.get_decoder()):
        table = half.embed_positions.weight
        assert torch.equal(table, half.embed_positions.create_weight())
        assert not table[0, 0].item()


def test_attention_of_all_three_follows_from_queries_and_keys(folder: Path) -> None:
    found = probed(load(folder))
    assert found.derived_error is not None
    assert found.derived_error < 5e-6
    recipes = {stack.name: set(stack.recipe) for stack in found.stacks}
    assert not any(recipe.unknown for known in recipes.values() for recipe in known)
    (cross,) = recipes["cross"]
    assert (cross.mask, cross.bias, cross.slopes) == (Mask(), None, None)
    assert all(recipe.mask == Mask(causal=True) for recipe in recipes["decoder"])
    relative = folder.name in ("t5", "mt5")
    for name in ("encoder", "decoder"):
        assert all((recipe.bias is not None) == relative for recipe in recipes[name])


LENGTHS = [(9, 4), (5, 12), (30, 7), (7, 7), (12, 40), (9, 9)]


def extract_pairs(folder: Path, tmp_path: Path, **changes: Any) -> qkvault.Vault:
    data = write_pairs(tmp_path / "pairs.jsonl", LENGTHS)
    given = {"target_column": "target", "device": "cpu", **changes}
    options = ExtractOptions(
        model=str(folder), data=(str(data),), out=tmp_path / "out.vault", **given
    )
    extract(options)
    return qkvault.open(options.out)


def own_attention(folder: Path, record: Record) -> dict[str, list[Any]]:
    """What the model reports of one example, alone and unpadded."""
    from transformers import AutoModel

    from qkvault_extractor.machine import quiet

    assert record.target is not None
    with quiet(), torch.inference_mode():
        model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
        output = model(
            input_ids=torch.tensor([record.token_ids]),
            decoder_input_ids=torch.tensor([record.target.token_ids]),
            output_attentions=True,
        )
    return {
        name: [layer[0].numpy() for layer in output[f"{name}_attentions"]]
        for name in ("encoder", "decoder", "cross")
    }


def test_a_vault_holds_what_the_model_reports(folder: Path, tmp_path: Path) -> None:
    with extract_pairs(folder, tmp_path, precision="float32") as vault:
        for e in vault:
            expected = own_attention(folder, e.record)
            for name in e.stacks:
                view = e.stack(name)
                for layer, weights in enumerate(expected[name]):
                    np.testing.assert_allclose(view.attention[layer], weights, atol=5e-6)
                np.testing.assert_allclose(view.derive(), view.attention[:, :], atol=1e-5)
            assert [e.target and len(e.target.tokens), e.length] == list(e.lengths)[::-1]
        assert vault.spec.target
        assert vault.spec.identity["data"]
        assert vault.info()["model"]["target_column"] == "target"  # type: ignore[index, call-overload]
    report = qkvault.verify(vault.path, full=True, derive=True)
    assert report.ok, report.damages


@pytest.mark.parametrize("precision", ["uint16", "float32"])
def test_metrics_are_those_of_the_stored_attention(tmp_path: Path, precision: Any) -> None:
    folder = tiny_encoder_decoder(tmp_path / "bart", "bart")
    with extract_pairs(folder, tmp_path, precision=precision) as vault:
        for e in vault:
            assert e.target is not None
            source, target = token_roles(e.record), token_roles(e.target)
            for name, roles in (
                ("encoder", (source, Mask())),
                ("decoder", (target, Mask(causal=True))),
                ("cross", (target, Mask(), source)),
            ):
                view = e.stack(name)
                expected = head_metrics(view.attention[:, :], *roles)
                np.testing.assert_allclose(view.metrics.array, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_attention_of_three_stacks_is_derived(tmp_path: Path, family: str) -> None:
    folder = tiny_encoder_decoder(tmp_path / family, family)
    stored = extract_pairs(folder, tmp_path, precision="float32")
    (tmp_path / "derived").mkdir()
    derived = extract_pairs(folder, tmp_path / "derived", precision="float32", attention="derive")
    assert derived.spec.attention == "derived"
    for one, other in zip(stored, derived, strict=True):
        for name in one.stacks:
            views = one.stack(name), other.stack(name)
            difference = views[0].attention[:, :] - views[1].attention[:, :]
            assert np.abs(difference).max() < 1e-5
            codes = [view.thumbnail.codes().astype(int) for view in views]
            assert np.abs(codes[0] - codes[1]).max() <= 1
            np.testing.assert_allclose(
                views[0].metrics.array, views[1].metrics.array, rtol=1e-3, atol=1e-4
            )
    report = qkvault.verify(derived.path, full=True, derive=True)
    assert report.ok, report.damages


def test_vectors_alone_need_no_map(tmp_path: Path) -> None:
    folder = tiny_encoder_decoder(tmp_path / "marian", "marian")
    whole = extract_pairs(folder, tmp_path, precision="float32")
    (tmp_path / "some").mkdir()
    arrays = ("query", "key")
    some = extract_pairs(folder, tmp_path / "some", precision="float32", arrays=arrays)
    for one, other in zip(whole, some, strict=True):
        for name in one.stacks:
            for array in arrays:
                values = [getattr(e.stack(name), array)[:, :] for e in (one, other)]
                np.testing.assert_allclose(*values, atol=2e-5)


def test_the_decoder_reads_labels_shifted_to_the_right(tmp_path: Path) -> None:
    found = {}
    for family in ("bart", "mbart", "t5"):
        (tmp_path / family).mkdir()
        folder = tiny_encoder_decoder(tmp_path / family / "model", family)
        with extract_pairs(folder, tmp_path / family) as vault:
            found[family] = vault[0]
    words = json.loads((tmp_path / "bart" / "pairs.jsonl").read_text().splitlines()[0])["target"]
    for family, start in (("bart", "</s>"), ("mbart", "</s>"), ("t5", "<pad>")):
        target = found[family].target
        assert target is not None
        assert target.text == words
        assert target.tokens == (start, *words.split())
        assert target.special == (1, 0, 0, 0, 0)
        assert [words[a:b] for a, b in target.offsets[1:]] == words.split()
        assert target.offsets[0] == (0, 0)
        assert target.words == (-1, 0, 1, 2, 3)


@pytest.mark.parametrize(
    ("name", "stack"),
    [
        ("encoder.layers.0.self_attn", "encoder"),
        ("decoder.bert.encoder.layer.0.attention.self", "decoder"),
        ("decoder.layers.0.encoder_attn", "cross"),
        ("text_encoder.layers.0.self_attn", "encoder"),
        ("text_decoder.layers.0.self_attn", "decoder"),
        ("text_decoder.layers.0.cross_attention", "cross"),
    ],
)
def test_a_module_tells_its_stack(name: str, stack: str) -> None:
    call: Any = SimpleNamespace(name=name)
    sides = Sides((Lengths(3, 2),))
    assert name_stacks([call], sides) == [stack]


def test_where_a_checkpoint_does_not_say_its_family_tells_how_decoders_start() -> None:
    from transformers import BartConfig, T5Config, T5GemmaConfig

    nobody = str(Path(__file__).parent)  # a folder without a generation_config.json
    assert find_start(nobody, T5Config(pad_token_id=7)) == 7
    assert find_start(nobody, T5GemmaConfig(decoder={"bos_token_id": 9})) == 9
    with pytest.raises(InputError, match="does not say which token its decoder starts with"):
        find_start(nobody, BartConfig(decoder_start_token_id=None))


def test_a_run_goes_on_and_repairs_what_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 60 << 10)
    folder = tiny_encoder_decoder(tmp_path / "bart", "bart")
    vault = extract_pairs(folder, tmp_path)
    digest = vault.digest
    assert len(list((vault.path / "commits").iterdir())) > 2
    for lost in ("manifest.json", "commits/00000001.json"):
        (vault.path / lost).unlink()
    assert extract_pairs(folder, tmp_path).digest == digest
    shard = next(vault.path.glob("b*/cross/attention/c.*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    report = repair(vault.path)
    assert (report.ok, report.units, report.same) == (True, 1, True)


def test_what_a_decoder_reads_has_to_be_said(tmp_path: Path) -> None:
    folder = tiny_encoder_decoder(tmp_path / "t5", "t5")
    with pytest.raises(InputError, match=r"type t5.*say with --target-column"):
        extract_pairs(folder, tmp_path, target_column=None, text_columns=("source",))
    with pytest.raises(InputError, match="'targets' is not in .* did you mean 'target'"):
        extract_pairs(folder, tmp_path, target_column="targets")
    with pytest.raises(InputError, match="'target' is named twice"):
        extract_pairs(folder, tmp_path, text_columns=("target",))
    bert = tiny_bert(tmp_path / "bert")
    with pytest.raises(InputError, match=r"--target-column target is for encoder-decoders"):
        extract_pairs(bert, tmp_path)
    assert not (tmp_path / "out.vault").exists()


def test_targets_that_cannot_be_used_are_skipped_and_told(tmp_path: Path) -> None:
    folder = tiny_encoder_decoder(tmp_path / "bart", "bart")
    data = tmp_path / "pairs.jsonl"
    rows = [("the cat", "the dog"), ("a dog", ""), ("a mat", "sat " * 200), ("a rug", "it")]
    data.write_text("".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in rows))
    options = ExtractOptions(
        model=str(folder),
        data=(str(data),),
        out=tmp_path / "v",
        target_column="target",
        on_bad="skip",
    )
    assert extract(options).rejected == 2
    lines = (tmp_path / "v/rejects.jsonl").read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in lines]
    assert reasons[0] == "empty text in column 'target'"
    assert reasons[1].startswith("the target has 201 tokens where 160 are taken at most")
    cut = extract(replace(options, out=tmp_path / "cut", truncate=True))
    assert cut.rejected == 1
    with qkvault.open(tmp_path / "cut") as vault:
        assert vault[1].lengths.target == 160


def sentence_pieces(path: Path, text: str) -> list[str]:
    """Train a small sentencepiece model on a text, save it; returns its pieces."""
    from io import BytesIO

    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split(". ")),
        model_writer=model,
        vocab_size=32,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    loaded = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [loaded.id_to_piece(i) for i in range(loaded.get_piece_size())]


def test_marians_own_tokenizer_cuts_sources_and_targets_by_two_models(tmp_path: Path) -> None:
    from transformers import MarianTokenizer

    from qkvault_extractor.machine import quiet

    english = "the cat sat on the mat. a dog barked in the night. rain fell on the river"
    german = "zwei zebras zogen zur quelle. jazz und quiz. zum zoo zogen zwei"
    folder = tiny_encoder_decoder(tmp_path / "marian", "marian")
    for file in folder.glob("*token*"):
        file.unlink()
    pieces = [
        *sentence_pieces(folder / "source.spm", english),
        *sentence_pieces(folder / "target.spm", german),
    ]
    own = [piece for piece in dict.fromkeys(pieces) if not piece.startswith("<")]
    vocabulary = {piece: n for n, piece in enumerate(["<pad>", "<unk>", "</s>", *own])}
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "vocab.json").write_text(json.dumps(dict(list(vocabulary.items())[:size])))
    files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
    with quiet():  # it would like sacremoses, too
        MarianTokenizer(*files).save_pretrained(folder)
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"source": "the cat", "target": "zwei zoo"}) + "\n")
    options = ExtractOptions(
        model=str(folder), data=(str(data),), out=tmp_path / "v", target_column="target"
    )
    extract(options)
    with qkvault.open(options.out) as vault:
        target = vault[0].target
        assert target is not None
        assert "".join(vault[0].tokens).replace("▁", " ") == " the cat</s>"
        assert "".join(target.tokens).replace("▁", " ") == "<pad> zwei zoo"
        assert target.special == (1, *(0 for _ in target.tokens[1:]))
        assert target.offsets == target.words == ()
