"""Targets that an encoder-decoder writes itself: greedily, once, and then like any other target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import qkvault
from extractor.models import ENCODER_DECODERS, tiny_encoder_decoder, write_pairs, write_texts
from qkvault import InputError, PlanMismatch
from qkvault_cli.main import main
from qkvault_extractor import ExtractOptions, Part, extract, generating, greedy, plan, run_vault

LENGTHS = [3, 9, 3, 5, 30]
NEW = 6
STARTS = {"mbart": 7}
FAMILIES = sorted(ENCODER_DECODERS)


def model_of(folder: Path, family: str, **told: Any) -> Path:
    """A tiny model; ``told`` is what its generation_config.json says besides."""
    changes = {"decoder_start_token_id": STARTS[family]} if family in STARTS else {}
    path = tiny_encoder_decoder(folder, family, **changes)
    if told:
        file = path / "generation_config.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**known, **told}))
    return path


def options_for(model: Path, tmp_path: Path, **changes: Any) -> ExtractOptions:
    given: dict[str, Any] = {"id_column": "id", "device": "cpu", "generate": NEW, **changes}
    data = given.pop("data", None) or (str(write_texts(tmp_path / "texts.jsonl", LENGTHS)),)
    return ExtractOptions(str(model), data, tmp_path / "out.vault", **given)


def one_by_one(
    model: Path, source: list[int], first: list[int], tokens: int, banned: tuple[int, ...] = ()
) -> list[int]:
    """What a decoder writes: the likeliest token, one after the other, without a cache."""
    from transformers import AutoModelForSeq2SeqLM

    from qkvault_extractor.machine import quiet

    with quiet(), torch.no_grad():
        network = AutoModelForSeq2SeqLM.from_pretrained(model).eval()
        read = list(first)
        for _ in range(tokens):
            logits = network(
                input_ids=torch.tensor([source]),
                decoder_input_ids=torch.tensor([read]),
                use_cache=False,
            ).logits[0, -1]
            logits[list(banned)] = -torch.inf
            read.append(int(logits.argmax()))
    return read


@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_what_the_decoder_read_while_it_wrote(family: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    from qkvault_extractor.machine import quiet

    model = model_of(tmp_path / family, family)
    options = options_for(model, tmp_path, precision="float32")
    extract(options)
    with quiet():
        network = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    start = STARTS.get(family, 3 if family == "bart" else 0)
    with qkvault.open(options.out) as vault, torch.no_grad():
        assert vault.info()["model"]["generate"] == NEW  # type: ignore[index, call-overload]
        for example, words in zip(vault, LENGTHS, strict=True):
            source, target = list(example.record.token_ids), example.target
            assert target is not None
            assert len(source) == words + 1, "the source is whole, with what ends it"
            written = one_by_one(model, source, [start], NEW)
            ends = [i for i, token in enumerate(written) if i and token == 3]
            assert list(target.token_ids) == written[: ends[0] if ends else NEW]
            assert target.special[0] == 1
            output = network(
                input_ids=torch.tensor([source]),
                decoder_input_ids=torch.tensor([target.token_ids]),
                output_attentions=True,
            )
            for name in ("encoder", "decoder", "cross"):
                for layer, own in enumerate(output[f"{name}_attentions"]):
                    kept = example.stack(name).attention[layer]
                    np.testing.assert_allclose(kept, own[0].numpy(), atol=5e-6)


def test_a_target_is_told_as_text_and_ends_where_the_model_ends_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = model_of(tmp_path / "bart", "bart")
    options = options_for(model, tmp_path)
    extract(options)
    with qkvault.open(options.out) as vault:
        first = vault[0].target
        assert first is not None
        source = list(vault[0].record.token_ids)
    written = one_by_one(model, source, [3], NEW)[1:]
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert first.text == tokenizer.decode(written, skip_special_tokens=True)
    spelled = [first.text[a:b].strip() for a, b in first.offsets]
    assert spelled == ["", *tokenizer.convert_ids_to_tokens(written[:-1])]
    end = next(i for i, token in enumerate(written) if token != written[0] or i == 2)
    model = model_of(tmp_path / "ends", "bart", eos_token_id=written[end])
    stopped = options_for(model, tmp_path / "ends")
    extract(stopped)
    with qkvault.open(stopped.out) as vault:
        target = vault[0].target
        assert target is not None
        stop = written.index(written[end])
        assert list(target.token_ids) == [3, *written[:stop]], "what ends it is only said"


def test_what_a_checkpoint_forces_and_forbids_holds_and_its_penalties_do_not(
    tmp_path: Path,
) -> None:
    plain = model_of(tmp_path / "plain", "bart")
    source = [*range(4, 8), 3]
    usual = one_by_one(plain, source, [3, 9], NEW)
    banned = next(token for token in usual[2:] if token != 9)
    model = model_of(
        tmp_path / "told",
        "bart",
        forced_bos_token_id=9,
        suppress_tokens=[banned],
        repetition_penalty=9.0,
        no_repeat_ngram_size=1,
        do_sample=True,
        num_beams=4,
        min_length=5,
    )
    options = options_for(model, tmp_path)
    extract(options)
    with qkvault.open(options.out) as vault:
        for example in vault:
            target = example.target
            assert target is not None
            given = list(example.record.token_ids)
            expected = one_by_one(model, given, [3, 9], NEW - 1, (banned,))
            assert list(target.token_ids) == expected[:NEW]
            assert len(set(expected)) < NEW, "penalties would have kept tokens from coming again"


def test_going_on_and_parts_generate_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", 60 << 10)
    model = model_of(tmp_path / "t5", "t5")
    whole = options_for(model, tmp_path)
    extract(whole)
    (tmp_path / "parts").mkdir()
    parted = options_for(model, tmp_path / "parts")
    assert plan(parted).units > 1
    monkeypatch.setattr(greedy.Generator, "write", lambda *_: pytest.fail("the vault has the text"))
    assert not run_vault(parted.out, part=Part(0, 2)).complete
    assert run_vault(parted.out, part=Part(1, 2)).complete
    assert qkvault.open(parted.out).digest == qkvault.open(whole.out).digest
    assert extract(whole).already_complete


@pytest.mark.parametrize("generates", [True, False])
def test_a_vault_is_of_what_the_checkpoint_says_of_writing(generates: bool, tmp_path: Path) -> None:
    """A decoder's first token may stand in a file that is neither config.json nor weights."""
    changes: dict[str, Any] = {}
    if not generates:
        rows = write_pairs(tmp_path / "pairs.jsonl", [(5, 4)])
        data = {"text_columns": ("source",), "target_column": "target", "id_column": None}
        changes = {**data, "data": (str(rows),), "generate": None}
    model = model_of(tmp_path / "m", "bart", decoder_start_token_id=5)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "decoder_start_token_id": None}))
    options = options_for(model, tmp_path, **changes)
    extract(options)
    assert extract(options).already_complete
    told = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**told, "decoder_start_token_id": 6}))
    with pytest.raises(PlanMismatch, match="generation_config" if generates else "decoder_start"):
        extract(options)


def test_a_decoder_that_reads_otherwise_than_it_writes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(tmp_path / "bart", "bart")
    original = greedy.Generator.generate

    def mirrored(self: Any, ids: Any, tokens: int, **more: Any) -> Any:
        return original(self, ids.flip(1) if more else ids, tokens, **more)

    monkeypatch.setattr(generating.Generator, "generate", mirrored)
    options = options_for(model, tmp_path)
    with pytest.raises(InputError, match="other scores where it reads a text at once"):
        extract(options)
    assert not options.out.exists()


def test_what_cannot_be_generated_is_told_in_one_line(tmp_path: Path) -> None:
    data = write_texts(tmp_path / "texts.jsonl", LENGTHS)
    given = ["--model", "no/such", "--data", str(data), "--out", str(tmp_path / "v")]
    done = CliRunner().invoke(main, ["extract", *given, "--target-column", "t", "--generate", "5"])
    assert done.exit_code == 2
    assert "--target-column t gives the decoder a text and --generate lets" in done.output
    assert len(done.output.strip().splitlines()) == 1
    model = model_of(tmp_path / "bart", "bart")
    with pytest.raises(InputError, match="more than the 160 tokens that the decoder"):
        extract(options_for(model, tmp_path, generate=161))
    silent = tiny_encoder_decoder(tmp_path / "mbart", "mbart")
    with pytest.raises(InputError, match="does not say which token its decoder starts with"):
        extract(options_for(silent, tmp_path))
