"""Every address, its answer checked against the vault itself."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from asking import Asker

import qkvault
from qkvault_viewer import app as app_module
from qkvault_viewer import create_app, documents
from qkvault_viewer.cache import SizedCache
from vaults import make_vault

PLAIN = qkvault.VaultSpec((), (), "uint16", 2, ("different", "same"), {})


def where(**conditions: object) -> str:
    return quote(json.dumps(conditions))


def test_stores_lead_to_manifests(asker: Asker, vault: qkvault.Vault) -> None:
    listed = asker.json("/api/v1/stores")
    assert (listed["api"], listed["version"]) == (1, qkvault.__version__)
    (store,) = listed["stores"]
    assert store == {
        "name": "some-pairs",
        "title": "Some Pairs.vault",
        "examples": 12,
        "digest": vault.digest,
        "url": "/api/v1/s/some-pairs",
    }
    assert asker.json(store["url"])["base"] == asker.base


def test_manifest_says_what_is_kept(asker: Asker, vault: qkvault.Vault) -> None:
    found = asker.json("/api/v1/s/some-pairs")
    assert found["digest"] == vault.digest
    assert found["examples"] == len(vault)
    assert found["lengths"] == {"min": 5, "max": 70}
    (stack,) = found["stacks"]
    scaling = stack.pop("score")
    assert stack == {
        "name": "encoder",
        "layers": [1, 4],
        "heads": 4,
        "key_heads": 2,
        "head_dim": 8,
        "value_dim": 8,
        "beside": None,
    }
    plain = {"mask": {"causal": False, "window": None, "chunk": None}}
    plain |= dict.fromkeys(("softcap", "slopes", "bias", "sinks", "unknown"))
    assert scaling == {
        "causal": False,
        "scaling": [8**-0.5] * 2,
        "forms": [plain],
        "layers": [0, 0],
    }
    assert found["arrays"]["attention"]["precision"] == "uint16"
    assert 0 < found["arrays"]["attention"]["max_error"] < 1e-5
    assert found["arrays"]["thumbnail"]["precision"] == "uint8"
    assert {found["arrays"][name]["precision"] for name in ("query", "key", "value")} == {"float16"}
    assert found["label_names"] == ["different", "same"]
    assert found["logits"] == 2
    assert found["format"] == qkvault.FORMAT_VERSION
    assert found["limits"] == {"rows": 200, "body_bytes": 64 * 2**20}


def test_manifest_tells_of_the_model_but_not_where_it_lay() -> None:
    class Noted:
        spec = replace(
            PLAIN,
            provenance={
                "name": "/home/ann/models/tuned",
                "parameters": 12,
                "score_terms": ["sliding window"],
                "sources": ["/home/ann/data.csv"],
                "data_label_names": ["no", "yes"],
            },
        )

    assert documents._model(Noted) == {
        "name": "tuned",
        "parameters": 12,
        "score_terms": ["sliding window"],
    }
    assert documents.gold_names(Noted) == ["no", "yes"]


def test_manifest_lists_no_array_that_is_missing(tmp_path: Path) -> None:
    asker = Asker(create_app([make_vault(tmp_path / "v", examples=1, arrays=["query", "key"])]))
    assert set(asker.json("/api/v1/s/v")["arrays"]) == {"query", "key"}
    error = asker.refused(f"{asker.base}/ex/0/thumbnails/encoder", 404, "missing_array")
    assert "--arrays query,key,attention" in error["message"]
    assert str(tmp_path) not in error["message"]
    asker.refused(f"{asker.base}/ex/0/attention/encoder/0", 404, "missing_array")
    asker.refused(f"{asker.base}/ex/0/vectors/encoder/0/0?parts=value", 404, "missing_array")


def test_examples_page_through_the_corpus(asker: Asker, vault: qkvault.Vault) -> None:
    rows, cursor = [], ""
    while cursor is not None:
        page = asker.json(f"{asker.base}/examples?limit=5" + (cursor and f"&cursor={cursor}"))
        assert page["total"] == 12
        rows += page["rows"]
        cursor = page["next"]
    assert [row["index"] for row in rows] == list(range(12))
    for row, example in zip(rows, vault, strict=True):
        assert row == {
            "index": example.index,
            "id": example.id,
            "text": list(example.text),
            "length": example.length,
            "label": example.label,
            "prediction": example.prediction,
            "correct": example.label == example.prediction,
            "columns": dict(example.columns),
        }


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        (f"where={where(label=1)}", lambda e: e.label == 1),
        (f"where={where(label='1')}", lambda e: False),
        (f"where={where(correct=False)}", lambda e: e.label != e.prediction),
        (f"where={where(length={'min': 16, 'max': 28})}", lambda e: 16 <= e.length <= 28),
        (f"where={where(min_length=16, max_length=28)}", lambda e: 16 <= e.length <= 28),
        (f"where={where(source='made', label=[0, 1])}", lambda e: e.columns["source"] == "made"),
        (f"where={where(label=None)}", lambda e: False),
        ("q=rain", lambda e: "rain" in " ".join(e.text).split()),
    ],
)
def test_examples_are_filtered(
    asker: Asker, vault: qkvault.Vault, query: str, passes: object
) -> None:
    expected = [example.index for example in vault if passes(example)]
    page = asker.json(f"{asker.base}/examples?{query}&sort=length&order=desc")
    assert sorted(row["index"] for row in page["rows"]) == expected
    assert page["total"] == len(expected)
    lengths = [row["length"] for row in page["rows"]]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1e2",
        "limit=%D9%A1",
        "order=up",
        "sort=",
        "sort=nothing",
        "cursor=!",
        "cursor=AAAA",
        "where=[]",
        "where={",
        "where=NaN",
        f"where={where(label=[[1]])}",
        f"where={where(length={'least': 1})}",
        f"where={where(nothing=1)}",
        f"where={where(label=2**70)}",
        "where=%7B%22label%22:1e999%7D",
        "where=%7B%22label%22:%22%5Cud800%22%7D",
        "where=" + "[" * 1999,
        "where=" + "1" * 2001,
        "q=" + "x" * 501,
        "limit=5&limit=6",
        "page=2",
    ],
)
def test_malformed_questions_are_refused(asker: Asker, query: str) -> None:
    asker.refused(f"{asker.base}/examples?{query}", 400, "bad_request")


def test_long_cells_are_cut_and_named(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", examples=1, texts=[("word " * 100, "short")])
    asker = Asker(create_app([path]))
    (row,) = asker.json(f"{asker.base}/examples")["rows"]
    assert row["truncated"] == ["text"]
    assert [len(text) for text in row["text"]] == [400, 5]
    assert len(asker.json(f"{asker.base}/ex/0")["text"][0]) == 500


def test_columns_say_what_may_be_filtered(asker: Asker) -> None:
    columns = {each["name"]: each for each in asker.json(f"{asker.base}/columns")["columns"]}
    assert list(columns)[:7] == ["index", "id", "text", "length", "label", "prediction", "correct"]
    assert columns["length"]["type"] == "integer"
    assert (columns["length"]["min"], columns["length"]["max"]) == (5, 70)
    assert columns["length"]["own"]
    assert not columns["source"]["own"]
    assert columns["source"]["distinct"] == [["found", 4], ["made", 8]]


def test_position_finds_neighbours_in_a_filtered_list(asker: Asker) -> None:
    page = asker.json(f"{asker.base}/examples?where={where(label=1)}&sort=length")
    listed = [row["index"] for row in page["rows"]]
    for place, index in enumerate(listed):
        found = asker.json(f"{asker.base}/position/{index}?where={where(label=1)}&sort=length")
        assert found == {
            "index": index,
            "place": place,
            "total": len(listed),
            "previous": listed[place - 1] if place else None,
            "next": listed[place + 1] if place + 1 < len(listed) else None,
        }
    asker.refused(f"{asker.base}/position/12", 404, "out_of_range")


def test_find_turns_an_id_into_a_number(asker: Asker, vault: qkvault.Vault) -> None:
    assert asker.json(f"{asker.base}/find?id={vault[7].id}") == {"index": 7}
    error = asker.refused(f"{asker.base}/find?id=nobody", 404, "unknown_example")
    assert "nobody" in error["message"]
    assert str(vault.path.parent) not in error["message"]
    asker.refused(f"{asker.base}/find", 404, "unknown_example")


@pytest.mark.parametrize("index", [0, 5, 11])
def test_one_example(asker: Asker, vault: qkvault.Vault, index: int) -> None:
    found, example = asker.json(f"{asker.base}/ex/{index}"), vault[index]
    names = vault.spec.label_names
    logits = found.pop("logits")
    assert np.array(logits, np.float32).tobytes() == example.logits.tobytes()
    assert found == {
        "index": index,
        "id": example.id,
        "length": example.length,
        "previous": index - 1 if index else None,
        "next": index + 1 if index < 11 else None,
        "text": list(example.text),
        "tokens": list(example.tokens),
        "token_ids": example.token_ids.tolist(),
        "segments": example.segments.tolist(),
        "special": [int(flag) for flag in example.special],
        "offsets": [list(pair) for pair in example.offsets],
        "words": list(example.words),
        "target": None,
        "label": example.label,
        "label_name": names[example.label],
        "prediction": example.prediction,
        "prediction_name": names[example.prediction],
        "correct": example.label == example.prediction,
        "columns": dict(example.columns),
    }
    row = asker.json(f"{asker.base}/examples?limit=12")["rows"][index]
    assert {name: found[name] for name in row} == row


def test_frames_are_the_arrays_of_the_vault(asker: Asker, vault: qkvault.Vault) -> None:
    example, at = vault[0], "/ex/0"
    exact = example.attention[4]
    (thumbnails,) = asker.frames(f"{at}/thumbnails/encoder")
    assert thumbnails.data.tobytes() == example.thumbnail.codes().tobytes()
    assert (thumbnails.part, thumbnails.encoding, thumbnails.head) == ("thumbnail", "sqrt", None)
    (layer,) = asker.frames(f"{at}/attention/encoder/4")
    assert layer.data.shape == (4, 70, 70)
    assert np.abs((layer.data / 255.0) ** 2 - exact).max() < 0.004
    (whole,) = asker.frames(f"{at}/attention/encoder/4?as=f32")
    assert whole.data.tobytes() == exact.tobytes()
    (head,) = asker.frames(f"{at}/attention/encoder/4/3?as=f32&rows=10:20")
    assert head.head == 3
    assert head.data.tobytes() == np.ascontiguousarray(exact[3, 10:20]).tobytes()
    (row,) = asker.frames(f"{at}/row/encoder/4/69")
    assert row.data.tobytes() == np.ascontiguousarray(exact[:, 69]).tobytes()
    (column,) = asker.frames(f"{at}/column/encoder/4/2")
    assert column.data.tobytes() == np.ascontiguousarray(exact[:, :, 2]).tobytes()
    query, key = asker.frames(f"{at}/vectors/encoder/4/3")
    assert query.data.astype(np.float32).tobytes() == example.query[4, 3].tobytes()
    assert (key.part, key.head) == ("key", 1)
    assert key.data.astype(np.float32).tobytes() == example.key[4, 1].tobytes()
    (value,) = asker.frames(f"{at}/vectors/encoder/1/0?parts=value")
    assert value.data.astype(np.float32).tobytes() == example.value[1, 0].tobytes()


def test_head_metrics_are_the_vaults(asker: Asker, vault: qkvault.Vault, tmp_path: Path) -> None:
    assert asker.json("/api/v1/s/some-pairs")["metrics"] == list(qkvault.METRICS)
    for example in vault:
        (frame,) = asker.frames(f"/ex/{example.index}/metrics/encoder")
        assert (frame.part, frame.encoding, frame.head) == ("metrics", "value", None)
        assert frame.data.shape == (2, 4, len(qkvault.METRICS))
        assert frame.data.tobytes() == example.metrics.array.tobytes()
    bare = Asker(create_app([make_vault(tmp_path / "v", examples=1)]))
    assert bare.json("/api/v1/s/v")["metrics"] == []
    bare.refused(f"{bare.base}/ex/0/metrics/encoder", 404, "missing_array")


def test_examples_are_sorted_and_filtered_by_a_head_metric(
    asker: Asker, vault: qkvault.Vault
) -> None:
    values = {e.index: float(e.metrics["a_to_b"][1, 3]) for e in vault}
    column = quote("a_to_b[4,3]")
    page = asker.json(f"{asker.base}/examples?sort={column}&order=desc")
    listed = [row["index"] for row in page["rows"]]
    assert listed == sorted(values, key=lambda index: -values[index])
    for row in page["rows"]:
        assert row["metrics"] == {"a_to_b[4,3]": pytest.approx(values[row["index"]], abs=1e-7)}
    least = sorted(values.values())[6]
    above = where(**{"a_to_b[4,3]": {"min": least}})
    page = asker.json(f"{asker.base}/examples?where={above}")
    assert {r["index"] for r in page["rows"]} == {n for n, v in values.items() if v >= least}
    middle = asker.json(f"{asker.base}/position/{listed[5]}?sort={column}&order=desc")
    assert (middle["place"], middle["previous"], middle["next"]) == (5, listed[4], listed[6])
    asker.refused(f"{asker.base}/examples?sort=entropy%5B0,0%5D", 404, "out_of_range")


@pytest.mark.parametrize(
    "path",
    [
        "/ex/12",
        "/ex/0/metrics/decoder",
        "/ex/999999999",
        "/ex/0/thumbnails/decoder",
        "/ex/0/thumbnails/%3Cimg%3E",
        "/ex/0/thumbnails/encoder?layers=0:3",
        "/ex/0/attention/encoder/0",
        "/ex/0/attention/encoder/1/4",
        "/ex/1/row/encoder/1/5",
        "/ex/1/column/encoder/1/5",
        "/ex/1/attention/encoder/1?rows=0:6",
        "/ex/0/vectors/encoder/1/4",
    ],
)
def test_what_is_not_there_is_out_of_range(asker: Asker, path: str) -> None:
    asker.refused(asker.base + path, 404, "out_of_range")


@pytest.mark.parametrize(
    "path",
    [
        "/ex/0/attention/encoder/1?as=png",
        "/ex/0/attention/encoder/1?rows=0",
        "/ex/0/attention/encoder/1?rows=-1:3",
        "/ex/0/row/encoder/1/0?as=f32",
        "/ex/0/vectors/encoder/1/0?parts=query,query",
        "/ex/0/vectors/encoder/1/0?parts=",
        "/ex/0/vectors/encoder/1/0?parts=attention",
    ],
)
def test_malformed_parameters_are_refused(asker: Asker, path: str) -> None:
    asker.refused(asker.base + path, 400, "bad_request")


def test_too_large_an_answer_is_refused_before_it_is_read(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "BODY_LIMIT", 4 * 70 * 70)
    monkeypatch.setattr(app_module.Api, "_lasting", lambda *_: pytest.fail("it was read"))
    asker.refused(f"{asker.base}/ex/0/attention/encoder/1", 413, "too_large")


def test_answers_below_base_are_kept_for_ever(asker: Asker) -> None:
    first = asker.get(f"{asker.base}/ex/3")
    assert first.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    again = asker.get(f"{asker.base}/ex/3", If_None_Match=first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    other = asker.get(f"{asker.base}/ex/4", If_None_Match=first.headers["ETag"])
    assert other.status_code == 200


def test_what_may_change_is_asked_for_each_time(asker: Asker) -> None:
    for path in ("/api/v1/stores", "/api/v1/s/some-pairs"):
        first = asker.get(path)
        assert first.headers["Cache-Control"] == "no-cache"
        again = asker.get(path, If_None_Match=first.headers["ETag"])
        assert (again.status_code, again.data) == (304, b"")


def test_a_vault_of_other_content_is_another_address(asker: Asker) -> None:
    error = asker.refused("/api/v1/s/some-pairs/0123456789abcdef-1/ex/0", 409, "stale")
    assert error["base"] == asker.base
    asker.refused("/api/v1/s/nobody", 404, "not_found")
    asker.refused(asker.base.replace("some-pairs", "nobody") + "/ex/0", 404, "not_found")


def test_vaults_of_equal_names_are_told_apart(tmp_path: Path) -> None:
    for side in "xy":
        (tmp_path / side).mkdir()
    paths = [make_vault(tmp_path / s / "a.vault", examples=2, seed=n) for n, s in enumerate("xy")]
    asker = Asker(create_app(paths))
    names = [store["name"] for store in asker.json("/api/v1/stores")["stores"]]
    assert names == ["a", "a-2"]
    first, second = (asker.json(f"/api/v1/s/{name}")["base"] for name in names)
    assert first != second
    asker.refused(first.replace("/a/", "/a-2/") + "/ex/0", 409, "stale")


def test_no_vault_and_no_such_vault_are_errors(tmp_path: Path) -> None:
    with pytest.raises(qkvault.InputError, match="no vault was given"):
        create_app([])
    with pytest.raises(qkvault.VaultError):
        create_app([tmp_path / "absent"])


def test_damage_is_said_without_saying_where_the_vault_lies(tmp_path: Path) -> None:
    folder = tmp_path / "my secret folder"
    folder.mkdir()
    path = make_vault(folder / "v.vault", examples=1)
    asker = Asker(create_app([path]))
    (damaged,) = path.glob("b*/encoder/attention/c*")
    damaged.unlink()
    error = asker.refused(f"{asker.base}/ex/0/attention/encoder/0", 500, "vault")
    assert "encoder/attention" in error["message"]
    assert "secret" not in error["message"]
    assert "folder" not in error["message"]


def test_a_defect_is_reported_by_reference(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: object) -> None:
        raise RuntimeError("/home/ann/private")

    monkeypatch.setattr(documents, "manifest", defect)
    error = asker.refused("/api/v1/s/some-pairs", 500, "internal")
    assert "private" not in json.dumps(error)
    assert error["reference"] in caplog.text
    assert "private" in caplog.text


def test_concurrent_equal_questions_are_answered_once() -> None:
    cache: SizedCache[bytes] = SizedCache(100, len)
    asked, go, answers = [], threading.Event(), []

    def make() -> bytes:
        asked.append(1)
        assert go.wait(10)
        return b"answer"

    threads = [
        threading.Thread(target=lambda: answers.append(cache.get("key", make))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    while not asked:
        threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [b"answer"] * 8
    assert len(asked) == 1


def test_cache_keeps_what_was_used_last_up_to_its_size() -> None:
    cache: SizedCache[bytes] = SizedCache(100, len)
    for key in "abcd":
        cache.get(key, lambda: bytes(25))
    cache.get("a", lambda: pytest.fail("a was held"))
    cache.get("e", lambda: bytes(25))
    cache.get("large", lambda: bytes(26))
    assert cache.bytes == 100
    assert cache.get("a", lambda: b"") == bytes(25)
    assert cache.get("b", lambda: b"again") == b"again"
    with pytest.raises(ZeroDivisionError):
        cache.get("f", lambda: bytes(1 // 0))
    assert cache.get("f", lambda: b"x") == b"x"
