"""What was never written is refused by every way of reading, whatever it is stored as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from derived_vaults import make_derived_vault

import qkvault
from qkvault import Precision, Recipe, UnitBuffer, VaultError
from qkvault.holes import find_holes

if TYPE_CHECKING:
    from pathlib import Path

BESIDE = (Recipe(unknown="part of it goes to summaries"),) * 2


@pytest.fixture
def make_holed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a vault by a writer that checks nothing: example 1 has ``hole`` for attention."""

    def make(precision: Precision, hole: float, beside: str | None) -> qkvault.Vault:
        def spoil(buffer: UnitBuffer, metas: Any) -> None:
            for row in np.flatnonzero(buffer.unit.examples == 1).tolist():
                for path, values in buffer.arrays.items():
                    if path.endswith(("attention", "thumbnail")):
                        values[row] = hole

        monkeypatch.setattr(UnitBuffer, "check", spoil)
        recipes = BESIDE if beside else (Recipe(), Recipe())
        made = make_derived_vault(
            tmp_path / "v",
            recipes,
            lengths=(5, 6, 70),
            attention="stored",
            arrays=("attention",),
            precision=precision,
            metrics=(),
            beside=beside,
        )
        return qkvault.open(made)

    return make


@pytest.mark.parametrize("beside", [None, "summaries"])
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_nothing_at_all_is_no_map_and_no_thumbnail(
    make_holed: Any, precision: Precision, beside: str | None
) -> None:
    refuse_example_1(make_holed(precision, np.nan, beside))


@pytest.mark.parametrize("precision", qkvault.PRECISIONS)
def test_a_map_of_zeros_is_none_where_all_weight_goes_to_tokens(
    make_holed: Any, precision: Precision
) -> None:
    refuse_example_1(make_holed(precision, 0, None))


def refuse_example_1(vault: qkvault.Vault) -> None:
    for name in ("attention", "thumbnail"):
        sound = [getattr(vault[index], name) for index in (0, 2)]
        assert all(np.isfinite(array[:]).all() for array in sound)
        array = getattr(vault[1], name)
        for read in (lambda a: a[:], lambda a: a[0, 1], lambda a: a.codes(0), lambda a: a[0, 1, 0]):
            with pytest.raises(VaultError, match="holds nothing"):
                read(array)
        with pytest.raises(VaultError, match="holds nothing"):
            list(vault.scan(None, None, arrays=(name,)))


def test_holes_are_told_from_small_numbers() -> None:
    nothing, row = [0.0, 0.0], [0.0, 0.5]
    maps = np.array([nothing, row, [np.nan, np.nan], [np.nan, 0.5]], np.float32)
    assert find_holes("attention", maps, may_be_empty=False).tolist() == [True, False, True, False]
    assert find_holes("thumbnail", maps, may_be_empty=True).tolist() == [False, False, True, False]
    assert find_holes("query", maps, may_be_empty=False).tolist() == [False, False, True, False]
    assert not find_holes("attention", np.zeros((2, 3), np.uint8), may_be_empty=True).any()
    assert find_holes("key", np.array([[0, 0, 0x7FC0]], np.int16), may_be_empty=False).all()
