"""``verify(derive=True)``: stored attention against what queries and keys give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from derived_vaults import make_derived_vault

import qkvault
from qkvault import Mask, MissingArray, Recipe, Sinks
from vaults import make_vault

if TYPE_CHECKING:
    from pathlib import Path

    from qkvault import Precision

STORED: dict[str, Any] = {"attention": "stored", "arrays": ("attention", "query", "key")}
RECIPES = (
    Recipe(Mask(causal=True, window=4)),
    Recipe(slopes=(0.5, 0.25, 0.1, 0.0)),
    Recipe(sinks=Sinks((0.0, 1.0, 2.0, 3.0), "softmax")),
)
ROUNDING = {"float32": 1e-6, "float16": 2.6e-4, "uint16": 9e-6, "uint8": 4e-3}


@pytest.mark.parametrize("precision", ["float32", "float16", "uint16", "uint8"])
def test_sound_vaults_agree(tmp_path: Path, precision: Precision) -> None:
    path = make_derived_vault(tmp_path / "v", RECIPES, precision=precision, **STORED)
    report = qkvault.verify(path, derive=True)
    assert report.ok, report.damages
    assert report.derived is not None
    assert 0 < report.derived < ROUNDING[precision]


def test_derived_vaults_are_compared_by_their_thumbnails(tmp_path: Path) -> None:
    report = qkvault.verify(make_derived_vault(tmp_path / "v", RECIPES), derive=True, full=True)
    assert report.ok, report.damages
    assert report.derived is not None
    assert report.derived < 8e-3


def test_it_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    assert qkvault.verify(make_derived_vault(tmp_path / "v", **STORED)).derived is None


@pytest.mark.parametrize(
    ("written", "stated"),
    [
        (Recipe(Mask(causal=True)), Recipe(Mask(causal=True, window=3))),
        (Recipe(), Recipe(softcap=2.0)),
        (Recipe(slopes=(0.5, 0.25, 0.1, 0.0)), Recipe(slopes=(0.5, 0.25, 0.1, 0.1))),
    ],
    ids=["mask", "softcap", "one slope"],
)
@pytest.mark.parametrize("kept", ["stored", "derived"])
def test_a_wrong_recipe_is_found(
    tmp_path: Path, written: Recipe, stated: Recipe, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import derived_vaults

    true = derived_vaults.attention_of

    def as_written(query: Any, key: Any, stack: Any) -> Any:
        from dataclasses import replace

        return true(query, key, replace(stack, recipe=(Recipe(), written)))

    monkeypatch.setattr(derived_vaults, "attention_of", as_written)
    settings = STORED if kept == "stored" else {}
    path = make_derived_vault(tmp_path / "v", (Recipe(), stated), **settings)
    report = qkvault.verify(path, derive=True)
    array = "attention" if kept == "stored" else "thumbnail"
    assert not report.ok
    assert {damage.path.partition("/")[2] for damage in report.damages} == {f"encoder/{array}"}
    assert all("layer 2 differs" in damage.reason for damage in report.damages)
    assert all(len(damage.examples) == 1 for damage in report.damages)
    assert qkvault.verify(path, full=True).ok


def test_one_changed_example_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import derived_vaults

    true = derived_vaults.vectors
    calls: list[int] = []

    def shaken(example: int, *rest: Any) -> Any:
        query, key = true(example, *rest)
        if example == 2 and not calls:
            calls.append(example)
            query[1, 3] = np.roll(query[1, 3], 1, axis=0)
        return query, key

    # What is written as query of example 2 is not what its attention was made of.
    fill = derived_vaults.fill_row

    def fill_shaken(
        buffer: Any, row: int, spec: Any, record: Any, example: int, *more: Any
    ) -> None:
        fill(buffer, row, spec, record, example, *more)
        if example == 2:
            query, _ = shaken(example, len(record.tokens), spec.stacks[0], spec.precision)
            buffer.arrays["encoder/query"][row, :, :, : len(record.tokens)] = query

    monkeypatch.setattr(derived_vaults, "fill_row", fill_shaken)
    path = make_derived_vault(tmp_path / "v", **STORED)
    (damage,) = qkvault.verify(path, derive=True).damages
    assert damage.examples == (2,)
    assert "layer 2 differs" in damage.reason


def test_layers_that_cannot_be_derived_are_left_out(tmp_path: Path) -> None:
    recipes = (Recipe(), Recipe(unknown="no formula"))
    report = qkvault.verify(make_derived_vault(tmp_path / "v", recipes, **STORED), derive=True)
    assert report.ok, report.damages


def test_damage_is_told_once_by_its_own_check(tmp_path: Path) -> None:
    path = make_derived_vault(tmp_path / "v", lengths=[9, 30], **STORED)
    (shard,) = (path / "b0032" / "encoder" / "key").glob("c.*")
    shard.unlink()
    report = qkvault.verify(path, derive=True)
    assert [damage.path for damage in report.damages] == [f"b0032/encoder/key/{shard.name}"]


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "a", examples=2, arrays=("attention", "value"))
    with pytest.raises(MissingArray, match="no query and no key"):
        qkvault.verify(path, derive=True)
    path = make_vault(tmp_path / "b", examples=2, arrays=("query", "key"))
    with pytest.raises(MissingArray, match="keeps no attention"):
        qkvault.verify(path, derive=True)
    path = make_derived_vault(tmp_path / "c", (Recipe(unknown="no formula"),), **STORED)
    with pytest.raises(MissingArray, match="no formula"):
        qkvault.verify(path, derive=True)
