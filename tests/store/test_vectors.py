"""Queries, keys and values as int16 with a scale per vector: exact within the stated bound, and
read, copied, exported and checked like any other type."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import make_golden
import qkvault
from qkvault import InputError, Lengths, PlanMismatch, VaultError, decode_vectors, encode_vectors
from qkvault.vectors import VECTOR_ERROR, VECTOR_FILL

LENGTHS = (5, 38, 9, 7, 40)
TYPES: dict[Any, Any] = {"query": "int16", "key": "int16", "value": "int16"}


def write(path: Path, *, seed: float = 0.0, **changes: Any) -> Path:
    """A decoder whose vectors are waves; its heads share keys."""
    spec = replace(make_golden.BASE, stacks=(make_golden.DECODER,), logits=0, label_names=())
    spec = replace(spec, **{"vectors": TYPES, **changes})
    records = [make_golden.make_record(i, n) for i, n in enumerate(LENGTHS)]
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            for row, (example, n) in enumerate(zip(unit.examples, unit.lengths, strict=True)):
                make_golden.fill_row(buffer.arrays, row, int(example), Lengths(int(n)), spec)
            writer.commit(buffer)
        writer.finish()
    return path


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scaled") / "v")


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("exact") / "v", precision="float32", vectors={})


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 3e4, 1e30])
def test_values_stay_within_the_bound(size: float) -> None:
    random = np.random.default_rng(0)
    vectors = (random.standard_t(2, (500, 64)) * size).astype(np.float32)
    codes = encode_vectors(vectors, "int16")
    assert (codes.dtype, codes.shape) == (np.dtype(np.int16), (500, 65))
    errors = np.abs(decode_vectors(codes).astype(np.float64) - vectors)
    largest = np.abs(vectors).max(-1, keepdims=True)
    assert (errors <= VECTOR_ERROR["int16"] * largest).all()
    assert errors.max() > 0
    assert np.abs(codes[:, :-1].astype(int)).max(-1).min() >= 32000  # all of the range is used


def test_scales_and_products_are_exact_in_float32() -> None:
    codes = encode_vectors(np.random.default_rng(1).normal(0, 3, (200, 16)), "int16")
    scales = (codes[:, -1].astype(np.int32) << 16).view(np.float32)
    products = codes[:, :-1].astype(np.float64) * scales.astype(np.float64)[:, None]
    assert np.array_equal(decode_vectors(codes), products)


def test_zeros_stay_zeros_and_what_is_not_finite_is_never_a_number() -> None:
    vectors = np.zeros((4, 3), np.float32)
    vectors[1, 2], vectors[2, 0], vectors[3, 1] = np.nan, np.inf, -np.inf
    found = decode_vectors(encode_vectors(vectors, "int16"))
    assert not found[0].any()
    assert np.isnan(found[1:]).all()
    assert np.isnan(decode_vectors(np.full(5, VECTOR_FILL, np.int16))).all()


def test_every_way_of_reading_gives_the_same_values(scaled: Path, exact: Path) -> None:
    with qkvault.open(scaled) as vault, qkvault.open(exact) as other:
        for e, true in zip(vault, other, strict=True):
            for name in ("query", "key", "value"):
                array, values = getattr(e, name), getattr(true, name)[:, :]
                assert (array.precision, array.max_error) == ("int16", VECTOR_ERROR["int16"])
                assert array.shape == values.shape
                found = array[:, :]
                largest = np.abs(values).max(-1, keepdims=True)
                assert (np.abs(found - values) <= VECTOR_ERROR["int16"] * largest).all()
                assert np.array_equal(decode_vectors(array.codes()), found)
                assert np.array_equal(array[3, [1, 0], 2:4, -2:], found[1, [1, 0], 2:4, -2:])
        for item in vault.scan(3, 2, arrays=("query", "key", "value")):
            e = vault[item.index]
            assert np.array_equal(item.query, e.query[3, 2])
            assert np.array_equal(item.key, e.key[3, e.key_head(2)])
            assert np.array_equal(item.value, e.value[3, e.key_head(2)])
        sample = vault.to_torch(layer=1, arrays=("key",))[1]
        assert np.array_equal(sample["key"], vault[1].key[1, [0, 0, 1, 1]])
        found = vault[1].to_xarray()
        assert found["query"].attrs["precision"] == "int16"
        assert np.array_equal(found["query"].values, vault[1].query[:, :])


def test_a_plain_zarr_reader_follows_the_rule(scaled: Path) -> None:
    with qkvault.open(scaled) as vault:
        e = vault[1]
        array: Any = zarr.open_array(scaled / f"b{e.bucket:04d}/decoder/query", mode="r")
        assert array.metadata.dimension_names[-1] == "head_dim_and_scale"
        assert "upper 16 bits" in array.attrs["encoding"]["rule"]
        codes = array[e.row, :, :, : e.length]
        values = codes[..., :-1] * (codes[..., -1:].astype(np.int32) << 16).view(np.float32)
        assert np.array_equal(values, e.query[:, :])
        beyond = array[e.row, :, :, e.length :]
        assert beyond.size
        assert (beyond == VECTOR_FILL).all()


def test_tensorstore_reads_the_same_codes(scaled: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    with qkvault.open(scaled) as vault:
        e = vault[1]
        folder = scaled / f"b{e.bucket:04d}/decoder/key"
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}}
        codes = tensorstore.open(spec, open=True, read=True).result()[e.row].read().result()
        assert np.array_equal(codes[:, :, : e.length], e.key.codes())


def test_derived_attention_is_within_what_verify_allows(tmp_path: Path) -> None:
    derived = write(
        tmp_path / "d",
        arrays=("query", "key"),
        attention="derived",
        vectors={"query": "int16", "key": "int16"},
    )
    stored = write(tmp_path / "s")
    for path, largest in ((derived, 4e-3), (stored, 5e-5)):  # thumbnails are uint8 codes
        report = qkvault.verify(path, full=True, derive=True)
        assert report.ok, report.damages
        assert report.derived is not None
        assert 0 < report.derived < largest


def test_info_states_the_bound(scaled: Path) -> None:
    with qkvault.open(scaled) as vault:
        arrays: Any = vault.info()["arrays"]
        bounds = {array["name"]: array["bound"] for array in arrays}
        assert json.dumps(vault.info())
    assert bounds["query"] == "1.55e-05 of the vector's largest value"
    assert bounds["attention"] == "7.70e-06"


def test_exports_give_the_same_values(scaled: Path, tmp_path: Path) -> None:
    path = qkvault.export(scaled, tmp_path / "all.h5")
    part = qkvault.export(scaled, tmp_path / "part.h5", layers=[3], heads=[2], examples=[1, 3])
    flat = np.load(qkvault.export(scaled, tmp_path / "part.npz", layers=[3], examples=[1]))
    with qkvault.open(scaled) as vault, qkvault.open(path) as one, qkvault.open(part) as other:
        for e, found in zip(vault, one, strict=True):
            assert found.query.precision == "int16"
            assert np.array_equal(found.key[:, :], e.key[:, :])
        assert np.array_equal(other[1].value[3, 0], vault[3].value[3, 1])
        assert np.array_equal(flat["1/query"], vault[1].query[[3]])
    assert qkvault.verify(path, full=True).ok


def test_copies_keep_or_make_it(scaled: Path, exact: Path, tmp_path: Path) -> None:
    with (
        qkvault.copy(scaled, tmp_path / "same", heads=[3, 1]) as same,
        qkvault.copy(exact, tmp_path / "made", precision="uint16", vectors=TYPES) as made,
        qkvault.copy(exact, tmp_path / "usual", precision="uint16") as usual,
        qkvault.open(scaled) as vault,
    ):
        for e, other, copied in zip(vault, same, made, strict=True):
            assert np.array_equal(other.query[:, :], e.query[:, [3, 1]])
            assert np.array_equal(copied.key[:, :], e.key[:, :])
        assert usual[0].query.precision == "float16"
    with pytest.raises(InputError, match="cannot be regained as float32"):
        qkvault.copy(scaled, tmp_path / "x", vectors={"query": "float32"})
    with pytest.raises(InputError, match="vectors are kept as one of"):
        qkvault.copy(exact, tmp_path / "x", vectors={"attention": "int16"})
    assert not (tmp_path / "x").exists()


def test_a_copy_is_gone_on_with_only_in_its_own_types(exact: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qkvault.copy(exact, tmp_path / "c", precision="uint16", progress=stop)
    for other in ({"precision": "uint8"}, {"precision": "uint16", "vectors": TYPES}):
        with pytest.raises(PlanMismatch, match="unfinished copy that differs in"):
            qkvault.copy(exact, tmp_path / "c", **other)  # type: ignore[arg-type]
    with qkvault.copy(exact, tmp_path / "c", precision="uint16") as done:
        assert done.complete


def test_appending_needs_the_same_types(scaled: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", vectors={})
    with pytest.raises(PlanMismatch, match="vectors"):
        qkvault.append(scaled, other, tmp_path / "both")


def test_a_vector_that_was_never_written_is_refused(tmp_path: Path) -> None:
    spec = replace(make_golden.BASE, vectors=TYPES, arrays=("query", "key", "value"), logits=0)
    spec = replace(spec, label_names=())
    with qkvault.create(tmp_path / "v", spec, [make_golden.make_record(0, 5)]) as writer:
        (unit,) = writer.pending()
        buffer = writer.begin(unit)
        make_golden.fill_row(buffer.arrays, 0, 0, Lengths(5), spec)
        buffer.arrays["encoder/key"][0, 1, 0, 0] = VECTOR_FILL
        with pytest.raises(InputError, match="key of unit 0 was not filled"):
            writer.commit(buffer)
        buffer = writer.begin(unit)
        make_golden.fill_row(buffer.arrays, 0, 0, Lengths(5), spec)
        buffer.arrays["encoder/key"][0, 1, 0, 3, -1] = 0x7F80  # an infinite scale
        buffer.arrays["encoder/value"][0, 1, 0, 1] = VECTOR_FILL
        writer.commit(buffer)
        writer.finish()
    report = qkvault.verify(tmp_path / "v", full=True)
    damages = {damage.path: damage.reason for damage in report.damages}
    assert set(damages.values()) == {"a value is not finite"}
    assert {path.split("/")[2] for path in damages} == {"key", "value"}
    with qkvault.open(tmp_path / "v") as vault:
        assert np.isnan(vault[0].value[1, 0][1]).all()


def test_a_hole_is_refused_as_codes_and_as_values(scaled: Path) -> None:
    with qkvault.open(scaled) as vault:
        array = vault[0].query
        hole = np.full((1, 1, 3, 5), VECTOR_FILL, np.int16)
        for values in (hole, decode_vectors(hole)):
            with pytest.raises(VaultError, match="holds nothing"):
                array._refuse_holes(values)


def test_a_spec_names_types_of_vectors_that_are_kept(tmp_path: Path) -> None:
    for wrong in ({"query": "uint16"}, {"attention": "int16"}, {"logits": "int16"}):
        with pytest.raises(InputError, match="is not kept as"):
            write(tmp_path / "v", vectors=wrong)


@pytest.mark.parametrize("error", ["1e-3", {"a": 1}, -1.0, [0.1]])
def test_a_derived_error_is_a_number(tmp_path: Path, error: Any) -> None:
    with pytest.raises(InputError, match="derived error that is no number"):
        write(tmp_path / "v", derived_error=error)
