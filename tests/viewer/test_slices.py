"""Cuts hold what the vault holds, and are as large as they said before they were read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault import MissingArray, OutOfRange, Precision
from qkvault_viewer import slices
from qkvault_viewer.slices import Cut, Slicer
from qkvault_viewer.wire import Frame, encode
from vaults import make_vault

GOLDEN = Path(__file__).parents[1] / "golden"
CODE_ERROR = 2 / 255 * 0.5 + (0.5 / 255) ** 2
"""Half a step of the square-root code, where it is widest: at a weight of one."""


def read(cut: Cut) -> Frame:
    frames = cut.read()
    assert len(encode(*frames)) == cut.size
    return frames[0]


def weights(frame: Frame) -> np.ndarray:
    assert frame.encoding == "sqrt"
    return (frame.data / np.float64(255)) ** 2


@pytest.mark.parametrize("precision", ["float32", "float16", "uint16", "uint8"])
def test_maps_of_every_precision(tmp_path: Path, precision: Precision) -> None:
    path = make_vault(tmp_path / "v", lengths=[11, 70], precision=precision)
    with qkvault.open(path) as vault:
        for example in vault:
            exact = example.attention[1]
            drawn = read(Slicer().layer_maps(example, "encoder", 1, "u8"))
            assert np.abs(weights(drawn) - exact).max() <= CODE_ERROR
            sent = read(Slicer().layer_maps(example, "encoder", 1, "f32"))
            assert sent.data.tobytes() == exact.tobytes()
            one = read(Slicer().head_map(example, "encoder", 1, 2, "u8"))
            assert one.head == 2
            assert one.data.tobytes() == drawn.data[2].tobytes()


def test_no_weight_is_lost_by_the_table_of_codes() -> None:
    codes = np.arange(65536, dtype=np.uint16)
    exact = np.rint(255 * np.sqrt(codes / np.float64(65535)))
    found = slices._square_root_codes(codes, "uint16").astype(int)
    assert np.abs(found - exact).max() <= 1  # rounding in float32 at the edge of a step
    assert (found != exact).mean() < 1e-3


@pytest.mark.parametrize("index", [0, 3])
def test_rows_and_columns_are_exact(vault: qkvault.Vault, index: int) -> None:
    example, slicer = vault[index], Slicer()
    exact = example.attention[4]  # (head, query_token, key_token)
    for token in (0, example.length - 1):
        row = read(slicer.row(example, "encoder", 4, token))
        assert row.data.tobytes() == np.ascontiguousarray(exact[:, token]).tobytes()
        column = read(slicer.column(example, "encoder", 4, token))
        assert column.data.tobytes() == np.ascontiguousarray(exact[:, :, token]).tobytes()


def test_what_is_too_large_to_keep_is_read_by_itself(
    vault: qkvault.Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "KEPT_LAYER", 0)
    example, slicer = vault[0], Slicer()
    exact = example.attention[4]
    row = read(slicer.row(example, "encoder", 4, 69))
    assert row.data.tobytes() == np.ascontiguousarray(exact[:, 69]).tobytes()
    column = read(slicer.column(example, "encoder", 4, 69))
    assert column.data.tobytes() == np.ascontiguousarray(exact[:, :, 69]).tobytes()
    assert slicer._kept.bytes == 0


def test_ranges_of_rows_are_parts_of_the_whole(vault: qkvault.Vault) -> None:
    example, slicer = vault[0], Slicer()
    for form in ("u8", "f32"):
        whole = read(slicer.layer_maps(example, "encoder", 1, form)).data
        part = read(slicer.layer_maps(example, "encoder", 1, form, (32, 70))).data
        assert part.tolist() == whole[:, 32:].tolist()
        head = read(slicer.head_map(example, "encoder", 1, 3, form, (0, 1))).data
        assert head.tolist() == whole[3, :1].tolist()


def test_thumbnails_are_those_that_are_kept(vault: qkvault.Vault) -> None:
    pooled = read(Slicer().thumbnails(vault[0], "encoder"))
    assert pooled.data.shape == (2, 4, 64, 64)
    assert pooled.data.tobytes() == vault[0].thumbnail.codes().tobytes()
    again = qkvault.make_thumbnail(vault[0].attention[:, :])  # from rounded weights
    assert np.abs(pooled.data.astype(int) - again).max() <= 1
    small = read(Slicer().thumbnails(vault[3], "encoder"))
    assert small.data.shape == (2, 4, 12, 12)
    assert np.abs(weights(small) - vault[3].attention[:, :]).max() <= CODE_ERROR
    one = read(Slicer().thumbnails(vault[3], "encoder", (1, 2)))
    assert one.data.tobytes() == small.data[1:].tobytes()


def test_vectors_name_the_key_head_they_are_of(vault: qkvault.Vault) -> None:
    example = vault[5]
    cut = Slicer().vectors(example, "encoder", 4, 3, ["value", "query", "key"])
    frames = cut.read()
    assert len(encode(*frames)) == cut.size
    assert [(frame.part, frame.head) for frame in frames] == [
        ("value", 1),
        ("query", 3),
        ("key", 1),
    ]
    value, query, key = (frame.data for frame in frames)
    assert {data.dtype for data in (value, query, key)} == {np.dtype("<f2")}
    assert query.astype(np.float32).tobytes() == example.query[4, 3].tobytes()
    assert key.astype(np.float32).tobytes() == example.key[4, 1].tobytes()
    assert value.astype(np.float32).tobytes() == example.value[4, 1].tobytes()


def test_vectors_recompute_the_attention_that_is_shown(vault: qkvault.Vault) -> None:
    example, stack = vault[7], vault.spec.stacks[0]
    for head in range(stack.heads):
        query, key = Slicer().vectors(example, "encoder", 1, head, ["query", "key"]).read()
        scores = query.data.astype(np.float64) @ key.data.astype(np.float64).T * stack.scaling[0]
        softmax = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        shown = read(Slicer().head_map(example, "encoder", 1, head, "f32")).data
        assert np.abs(softmax - shown).max() < 1e-5


def test_vectors_of_a_narrow_layer_are_as_wide_as_they_are() -> None:
    with qkvault.open(GOLDEN / "v2.0" / "widths.vault") as vault:
        for layer, (width, of_values) in zip((1, 3, 4), vault.spec.stacks[0].widths, strict=True):
            cut = Slicer().vectors(vault[0], "decoder", layer, 3, ["query", "key", "value"])
            frames = cut.read()
            assert len(encode(*frames)) == cut.size
            assert [frame.data.shape for frame in frames] == [
                (9, width),
                (9, width),
                (9, of_values),
            ]


def test_float32_vectors_are_sent_as_they_are(tmp_path: Path) -> None:
    with qkvault.open(make_vault(tmp_path / "v", examples=1, precision="float32")) as vault:
        (query,) = Slicer().vectors(vault[0], "encoder", 0, 0, ["query"]).read()
        assert query.data.dtype == np.dtype("<f4")
        assert query.data.tobytes() == vault[0].query[0, 0].tobytes()


def test_what_is_not_there_is_out_of_range(vault: qkvault.Vault) -> None:
    example, slicer = vault[3], Slicer()
    for ask in (
        lambda: slicer.thumbnails(example, "cross"),
        lambda: slicer.thumbnails(example, "encoder", (0, 3)),
        lambda: slicer.layer_maps(example, "encoder", 0, "u8"),
        lambda: slicer.layer_maps(example, "encoder", 1, "u8", (0, 13)),
        lambda: slicer.layer_maps(example, "encoder", 1, "u8", (5, 5)),
        lambda: slicer.head_map(example, "encoder", 1, 4, "u8"),
        lambda: slicer.row(example, "encoder", 1, 12),
        lambda: slicer.column(example, "encoder", 1, 12),
        lambda: slicer.vectors(example, "encoder", 2, 0, ["query"]),
        lambda: slicer.vectors(example, "encoder", 1, 4, ["query"]),
    ):
        with pytest.raises(OutOfRange):
            ask()


def test_what_was_not_kept_is_missing(tmp_path: Path) -> None:
    with qkvault.open(make_vault(tmp_path / "v", examples=1, arrays=["attention"])) as vault:
        assert read(Slicer().thumbnails(vault[0], "encoder")).data.any()
        with pytest.raises(MissingArray):
            Slicer().vectors(vault[0], "encoder", 0, 0, ["query"])
    with qkvault.open(make_vault(tmp_path / "w", examples=1, arrays=["query", "key"])) as vault:
        with pytest.raises(MissingArray):
            Slicer().layer_maps(vault[0], "encoder", 0, "u8")
        with pytest.raises(MissingArray):
            Slicer().thumbnails(vault[0], "encoder")


@pytest.mark.parametrize("precision", ["uint16", "uint8", "float32"])
def test_layers_too_large_to_be_kept_are_answered_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: qkvault.Precision
) -> None:
    monkeypatch.setattr(slices, "KEPT_LAYER", 0)
    monkeypatch.setattr(slices, "TILE_ROWS", 8)
    with qkvault.open(make_vault(tmp_path / "v", lengths=[21], precision=precision)) as vault:
        example, slicer = vault[0], Slicer()
        layer = example.attention[1]
        assert read(slicer.row(example, "encoder", 1, 17)).data.tobytes() == layer[:, 17].tobytes()
        column = read(slicer.column(example, "encoder", 1, 5)).data
        assert column.tobytes() == np.ascontiguousarray(layer[:, :, 5]).tobytes()
        tile = read(slicer.layer_maps(example, "encoder", 1, "f32", (3, 20))).data
        assert tile.tobytes() == np.ascontiguousarray(layer[:, 3:20]).tobytes()
        whole = read(slicer.head_map(example, "encoder", 1, 2, "u8")).data
        part = read(slicer.head_map(example, "encoder", 1, 2, "u8", (3, 20))).data
        assert (part == whole[3:20]).all()
