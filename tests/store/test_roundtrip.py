"""What is written is read back, within the bound that its precision states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import qkvault
from qkvault import PRECISIONS, MissingArray, OutOfRange, Precision, UnknownExample
from vaults import forward, make_record, make_vault, outputs

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = [5, 9, 70, 130, 12, 8, 8, 3, 1, 2, 66, 300]


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> qkvault.Vault:
    path = tmp_path_factory.mktemp("vaults") / "small.vault"
    return qkvault.open(make_vault(path, lengths=LENGTHS, layers=(1, 4, 9)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compress", [True, False], ids=["packed", "plain"])
def test_every_value_within_the_stated_bound(
    tmp_path: Path, precision: Precision, compress: bool
) -> None:
    path = make_vault(tmp_path / "v", lengths=LENGTHS, precision=precision, compress=compress)
    with qkvault.open(path) as vault:
        stack = vault.spec.stacks[0]
        worst = 0.0
        for e in vault:
            made = forward(e.index, e.length, stack, precision)
            attention = e.attention[:, :]
            assert attention.dtype == np.float32
            assert attention.shape == made["attention"].shape == e.attention.shape
            worst = max(worst, float(np.abs(attention - made["attention"]).max()))
            for name in ("query", "key", "value"):
                np.testing.assert_array_equal(getattr(e, name)[:, :], made[name])
        assert (
            worst
            <= {"float32": 0, "float16": 2**-12, "uint16": 7.7e-6, "uint8": 3.93e-3}[precision]
        )
        assert vault[0].attention.max_error >= worst
        assert vault[0].attention.precision == precision


def test_worst_case_errors_stay_within_the_bound() -> None:
    weights = np.linspace(0, 1, 200_001, dtype=np.float32)
    for precision, bound in (("uint16", 7.7e-6), ("uint8", 3.93e-3), ("float16", 2**-12)):
        codes = qkvault.encode_attention(weights, precision)
        error = np.abs(qkvault.decode_attention(codes, precision) - weights).max()
        assert bound / 2 < error <= bound


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 1.5])
def test_what_is_no_weight_is_not_encoded(bad: float) -> None:
    with pytest.raises(qkvault.InputError, match="must lie in"):
        qkvault.encode_attention(np.array([0.5, bad], np.float32), "uint16")


def test_records_come_back_whole(vault: qkvault.Vault) -> None:
    random = np.random.default_rng(0)
    for index, length in enumerate(LENGTHS):
        record = make_record(index, length, random=random)
        e = vault[index]
        assert e.record == record
        assert e.tokens == record.tokens
        assert e.text == record.text
        assert e.segments.tolist() == list(record.segments)
        assert e.special.tolist() == [bool(s) for s in record.special]
        assert e.offsets.shape == (length, 2)
        assert e.columns == record.columns
    assert [r.id for r in vault.iter_records()] == [e.id for e in vault]
    assert [r.id for r in vault.iter_records(7)] == [e.id for e in vault][7:]


def test_logits_and_prediction(vault: qkvault.Vault) -> None:
    for e in vault:
        expected = outputs(e.index, 2)
        np.testing.assert_array_equal(e.logits, expected)
        assert e.prediction == int(expected.argmax())
    seen = {int(i): row for rows in vault.iter_outcomes() for i, row in zip(*rows, strict=True)}
    assert sorted(seen) == list(range(len(vault)))
    np.testing.assert_array_equal(seen[3], outputs(3, 2))


def test_one_output_is_a_number_and_none_is_none(tmp_path: Path) -> None:
    one = qkvault.open(make_vault(tmp_path / "one", logits=1, examples=3))
    assert one[1].prediction == pytest.approx(float(outputs(1, 1)[0]))
    none = qkvault.open(make_vault(tmp_path / "none", logits=0, examples=3))
    assert none[1].logits is None
    assert none[1].prediction is None
    assert list(none.iter_outcomes()) == []


def test_examples_are_found_by_number_and_by_id(vault: qkvault.Vault) -> None:
    assert len(vault) == len(LENGTHS)
    assert vault.lengths.tolist() == LENGTHS
    assert [e.length for e in vault] == LENGTHS
    assert vault[-1].index == len(LENGTHS) - 1
    for e in vault:
        assert vault.by_id(e.id).index == e.index
    for number in (len(LENGTHS), -len(LENGTHS) - 1):
        with pytest.raises(OutOfRange, match=r"there are 12, 0 to 11"):
            vault[number]
        with pytest.raises(IndexError):
            vault[number]
    with pytest.raises(UnknownExample, match="no example"):
        vault.by_id("nobody")
    with pytest.raises(qkvault.InputError, match="by its number"):
        vault["r00001"]  # type: ignore[index]


def test_a_vault_of_one_example_of_one_token(tmp_path: Path) -> None:
    with qkvault.open(make_vault(tmp_path / "v", lengths=[1])) as vault:
        assert vault.by_id("r00000").index == 0
        assert vault[0].attention[0, 0].tolist() == [[1.0]]
    assert qkvault.verify(tmp_path / "v", full=True).ok


def test_layers_by_their_own_numbers(vault: qkvault.Vault) -> None:
    e = vault[2]
    whole = np.asarray(e.attention)
    assert e.attention.layers == (1, 4, 9)
    np.testing.assert_array_equal(e.attention[4], whole[1])
    np.testing.assert_array_equal(e.attention[-1], whole[2])
    np.testing.assert_array_equal(e.attention[9, 2], whole[2, 2])
    np.testing.assert_array_equal(e.attention[[9, 1], [3, 0]], whole[[2, 0]][:, [3, 0]])
    np.testing.assert_array_equal(e.attention[2:9], whole[1:2])
    np.testing.assert_array_equal(e.attention[-2:], whole[1:])
    np.testing.assert_array_equal(e.attention[::-1], whole[::-1])
    for layer in (0, 2, 10, -4):
        with pytest.raises(OutOfRange, match=r"keeps layers 1, 4, 9"):
            e.attention[layer]


def test_indices_beyond_layer_and_head_are_numpy_s(vault: qkvault.Vault) -> None:
    e = vault[3]
    whole = np.asarray(e.attention)
    n = e.length
    for index in (
        np.s_[1, 2, 7],
        np.s_[1, 2, -1],
        np.s_[1, :, 5:40:3],
        np.s_[1, :, 40:5:-3],
        np.s_[1, 1:3, :, 4],
        np.s_[..., 0],
        np.s_[1, ...],
        np.s_[1, 2, [3, 4], [5, 6]],
        np.s_[1, 0, 500:600],
    ):
        key = index if isinstance(index, tuple) else (index,)
        positions = tuple(
            0 if k == 1 and at == 0 and k is not True else k for at, k in enumerate(key)
        )
        np.testing.assert_array_equal(e.attention[index], whole[positions])
    with pytest.raises(OutOfRange, match=f"this example has {n} tokens"):
        e.attention[1, 0, n]
    with pytest.raises(OutOfRange, match="there are 4 heads, 0 to 3"):
        e.attention[1, 4]
    with pytest.raises(OutOfRange, match="has no part"):
        e.attention[1, 0, 0, n]
    with pytest.raises(OutOfRange, match="4 axes"):
        e.attention[1, 0, 0, 0, 0]
    with pytest.raises(qkvault.InputError, match="by number"):
        e.attention["first"]


def test_grouped_query_attention(vault: qkvault.Vault) -> None:
    e = vault[10]
    assert e.query.shape == (3, 4, 66, 8)
    assert e.key.shape == e.value.shape == (3, 2, 66, 8)
    assert [e.key_head(h) for h in range(4)] == [0, 0, 1, 1]
    scaling = vault.spec.stacks[0].scaling[0]
    for head in range(4):
        scores = scaling * e.query[4, head] @ e.key[4, e.key_head(head)].T
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        np.testing.assert_allclose(e.attention[4, head], weights, atol=1e-5)
    with pytest.raises(OutOfRange, match="key/value heads"):
        e.key[4, 2]


def test_thumbnails_pool_mean_over_queries_and_sum_over_keys(vault: qkvault.Vault) -> None:
    stack = vault.spec.stacks[0]
    for e in vault:
        attention = forward(e.index, e.length, stack, "uint16")["attention"].astype(np.float64)
        n = e.length
        side = min(n, 64)
        edges = [i * n // side for i in range(side + 1)]
        pooled = np.empty((*attention.shape[:2], side, side))
        for i in range(side):
            for j in range(side):
                block = attention[:, :, edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
                pooled[:, :, i, j] = block.sum(-1).mean(-1)
        assert np.abs(e.thumbnail[:, :] - pooled).max() <= 3.93e-3
        assert e.thumbnail.shape == (3, 4, side, side)
        assert e.thumbnail.dims == ("layer", "head", "query_bin", "key_bin")


def test_codes_are_as_stored(vault: qkvault.Vault) -> None:
    e = vault[2]
    codes = e.attention.codes()
    assert codes.dtype == np.uint16
    assert codes.shape == e.attention.shape
    np.testing.assert_array_equal(qkvault.decode_attention(codes, "uint16"), e.attention[:, :])
    assert e.attention.codes(4, 1).shape == (70, 70)
    assert e.thumbnail.codes(9).dtype == np.uint8
    assert e.query.codes(1, [0, 2]).dtype == np.float16


def test_an_array_that_was_not_kept_says_how_to_get_it(tmp_path: Path) -> None:
    vault = qkvault.open(make_vault(tmp_path / "v", arrays=("query", "key"), examples=2))
    assert vault[0].query[0].shape[0] == 4
    for name in ("attention", "value", "thumbnail"):
        with pytest.raises(MissingArray, match="re-extract with --arrays query,key,"):
            getattr(vault[0], name)


def test_split_chunks_of_long_examples(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", lengths=[900], layers=1, heads=3, key_heads=3, logits=0)
    e = qkvault.open(path)[0]
    made = forward(0, 900, e.vault.spec.stacks[0], "uint16")["attention"]
    assert e.vault.store.rows(e.bucket, "encoder/attention").meta.chunk[3] < e.bucket
    assert np.abs(e.attention[0] - made[0]).max() <= 7.7e-6
    assert np.abs(e.attention[0, 1, 850] - made[0, 1, 850]).max() <= 7.7e-6
    assert np.abs(e.attention[0, :, 700:899] - made[0, :, 700:899]).max() <= 7.7e-6


def test_many_units_and_grouped_rows(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", lengths=[12, 14, 20] * 40, heads=2, head_dim=4)
    vault = qkvault.open(path)
    assert qkvault.verify(path, full=True).ok
    for index in (0, 1, 2, 60, 119):
        made = forward(index, vault[index].length, vault.spec.stacks[0], "uint16")
        np.testing.assert_array_equal(vault[index].value[:, :], made["value"])


def test_info_is_json_ready_and_tells_the_bounds(vault: qkvault.Vault) -> None:
    import json

    info = json.loads(json.dumps(vault.info()))
    assert info["examples"] == 12
    assert info["complete"] is True
    arrays = {a["name"]: a for a in info["arrays"]}
    assert arrays["attention"]["max_error"] == 7.7e-6
    assert arrays["query"]["max_relative_error"] == 2**-11
    assert arrays["key"]["bytes"] > 0
    assert info["digest"] == vault.digest


def test_equal_vaults_have_equal_digests(tmp_path: Path) -> None:
    first = qkvault.open(make_vault(tmp_path / "a", examples=4))
    second = qkvault.open(make_vault(tmp_path / "b", examples=4))
    other = qkvault.open(make_vault(tmp_path / "c", examples=4, seed=1))
    assert first.digest == second.digest != other.digest
