"""Plain Zarr readers open every array, and agree with ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import qkvault
from qkvault import PRECISIONS, Precision
from vaults import make_vault

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = [5, 9, 70, 12, 8, 21, 6]


def own(vault: qkvault.Vault, path: str) -> dict[int, Any]:
    """Codes of an array by row, through our own reader."""
    group, _, rest = path.partition("/")
    found = {}
    for e in vault:
        if f"b{e.bucket:04d}" != group:
            continue
        if rest == "logits":
            found[e.row] = e.logits
        else:
            stack, _, name = rest.partition("/")
            found[e.row] = getattr(e.stack(stack), name).codes()
    return found


def arrays(vault: Path) -> list[str]:
    found = []
    for file in sorted(vault.rglob("zarr.json")):
        if json.loads(file.read_bytes())["node_type"] == "array":
            found.append(str(file.parent.relative_to(vault)))
    return found


def agree(vault: qkvault.Vault, path: str, values: Any) -> None:
    if path.startswith("examples/"):
        mine = vault.store.examples(path.partition("/")[2]).rows(0, len(values))
        np.testing.assert_array_equal(values, mine)
        return
    rows = own(vault, path)
    assert len(rows) == len(values)
    for row, codes in rows.items():
        window = tuple(slice(size) for size in codes.shape)
        np.testing.assert_array_equal(values[row][window], codes)
        beyond = np.ones(values[row].shape, bool)
        beyond[window] = False
        padding = values[row][beyond]
        assert (np.isnan(padding) if padding.dtype.kind == "f" else padding == 0).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_zarr_python_agrees(tmp_path: Path, precision: Precision) -> None:
    import zarr

    path = make_vault(tmp_path / "v", lengths=LENGTHS, precision=precision)
    vault = qkvault.open(path)
    group: Any = zarr.open_group(path, mode="r")
    names = {name for name, _ in group.members(max_depth=None)}
    for array in arrays(path):
        assert array in names
        agree(vault, array, group[array][...])
    attention = group["b0072/encoder/attention"]
    assert attention.metadata.dimension_names == (
        "example",
        "layer",
        "head",
        "query_token",
        "key_token",
    )
    encoding = attention.attrs["encoding"]
    if precision == "uint16":
        decoded = attention[0, :, :, :70, :70] * np.float32(encoding["scale"])
        np.testing.assert_allclose(decoded, vault[2].attention[:, :], atol=1e-9)


@pytest.mark.parametrize("compress", [True, False], ids=["packed", "plain"])
def test_tensorstore_agrees(tmp_path: Path, compress: bool) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    for precision in ("uint16", "float32"):
        path = make_vault(
            tmp_path / precision,
            lengths=LENGTHS,
            precision=precision,
            compress=compress,  # type: ignore[arg-type]
        )
        vault = qkvault.open(path)
        for array in arrays(path):
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path / array}/"}}
            opened = tensorstore.open(spec, open=True, read=True).result()
            agree(vault, array, opened.read().result())


def test_the_root_group_tells_what_it_is(tmp_path: Path) -> None:
    import zarr

    path = make_vault(tmp_path / "v", examples=2)
    group: Any = zarr.open_group(path, mode="r")
    assert group.attrs["qkvault"] == {"format": qkvault.FORMAT_VERSION, "plan": "plan.json"}
