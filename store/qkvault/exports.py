"""Taking part of a vault elsewhere: HDF5, numpy archives, tables of comma-separated values."""

from __future__ import annotations

import csv
import json
import secrets
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from . import disk
from .chunks import row_dims
from .corpus import CorpusReader, chosen_stack, head_places, layer_places
from .encodings import max_error
from .errors import InputError
from .parts import choose_part
from .selection import example_indices
from .table.terms import storable
from .vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from .corpus import ScanArray, ScanItem
    from .selection import Examples
    from .spec import Record

FORMATS: Final = (".h5", ".hdf5", ".npz", ".csv")
_AT_ONCE: Final = 32
Progress = Callable[[int, int], None]
_Choice = tuple[Any, Any, Any, Any, str | None]
"""Examples, layers, heads, arrays, stack; as :func:`export` takes them."""


def export(
    source: Vault | Path | str,
    path: Path | str,
    *,
    examples: Examples = None,
    stack: str | None = None,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    arrays: Sequence[ScanArray] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write part of a vault to a file, whole or not at all; its name says the format.

    ``.h5`` keeps everything, as stored: ``qkvault.open`` opens it like a vault, any HDF5 reader
    reads it. ``.npz`` holds per example ``0/attention``, ``0/tokens`` and so on (by the example's
    place in the vault), float32, ``(layer, head, query_token, key_token)``. ``.csv`` has one weight
    per line, or one vector. The latter two are of one stack; keys and values in them stand once for
    each chosen query head that uses them.

    Args:
        source: a vault, or its path.
        path: a file that does not exist yet.
        examples: a selection, numbers, ids or a mask; all if not given.
        stack: ``.h5``: the only one to keep, all if not given; ``.npz``, ``.csv``: the first if not
            given.
        layers: the model's own numbers; all if not given.
        heads: query heads; all if not given.
        arrays: all that are kept if not given (``.csv``: attention, and only one).
        progress: called with parts done and parts in all.

    Returns:
        The path.

    Raises:
        InputError, OutOfRange, MissingArray: what is asked for is not there; the path is taken, or
            of no known format.
        VaultError: the vault is damaged.
        ResourceError: the disk refuses.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise InputError(
            f"{target} names no known format; end it in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        )
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} already exists; choose another name or remove it")
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be made: {target.parent} is not a folder")
    vault = source if isinstance(source, Vault) else Vault(source)
    if target.suffix.lower() in (".npz", ".csv"):
        _export_flat(vault, target, (examples, layers, heads, arrays, stack), progress)
        return target
    from .hdf5_export import write_hdf5

    names: Any = None if arrays is None else [name for name in arrays if name != "thumbnail"]
    write_hdf5(choose_part(vault, examples, layers, heads, names, stack=stack), target, progress)
    return target


class _Flat:
    """What a flat format gets: chosen examples one by one, with the numbers of layers and heads."""

    def __init__(self, vault: Vault, choice: _Choice, csv_only: bool) -> None:
        examples, layers, heads, arrays, stack_name = choice
        if arrays is None:
            arrays = ("attention",) if csv_only else vault.spec.arrays
        stack = chosen_stack(vault, stack_name)
        self.layers = [stack.layers[place] for place in layer_places(stack, layers)[0]]
        self.heads = list(head_places(stack, heads)[0])
        self.examples = example_indices(vault, examples)
        # One number would take its axis away; here every array has all of its axes.
        self.reader = CorpusReader(vault, self.layers, self.heads, arrays, stack.name)
        self.vault = vault

    def items(self, progress: Progress | None) -> Iterator[tuple[ScanItem, Record]]:
        """The examples, in the order chosen."""
        total = len(self.examples)
        for first in range(0, total, _AT_ONCE):
            if progress is not None:
                progress(first, total)
            for item in self.reader.read_items(self.examples[first : first + _AT_ONCE]):
                yield item, self.vault.record(item.index)
        if progress is not None:
            progress(total, total)

    def about(self) -> dict[str, Any]:
        """What the numbers are, JSON-ready."""
        return {
            "format": "qkvault npz 1",
            "vault": self.vault.digest,
            "stack": self.reader.stack.name,
            "axes": {name: row_dims(name) for name in self.reader.names},
            "max_error": {name: self._max_error(name) for name in self.reader.names},
            "provenance": dict(self.vault.spec.provenance),
        }

    def _max_error(self, name: str) -> float | None:
        spec = self.vault.spec
        derived = name == "attention" and spec.attention == "derived"
        return spec.derived_error if derived else max_error(spec, name)


def _export_flat(vault: Vault, target: Path, choice: _Choice, progress: Progress | None) -> None:
    as_csv = target.suffix.lower() == ".csv"
    flat = _Flat(vault, choice, as_csv)
    if as_csv and (len(flat.reader.names) > 1 or flat.reader.names[0] == "thumbnail"):
        raise InputError(
            f"a .csv file holds one of attention, query, key, value;"
            f" {', '.join(flat.reader.names)} were asked for: choose one, or write .npz or .h5"
        )
    partial = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    with disk.writing(target):
        try:
            (_write_csv if as_csv else _write_npz)(flat, partial, progress)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _write_npz(flat: _Flat, path: Path, progress: Progress | None) -> None:
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        ids = []
        for item, record in flat.items(progress):
            ids.append(record.id)
            arrays = {
                **item.arrays,
                "tokens": np.array(record.tokens),
                "text": np.array(record.text),
                "segments": np.array(record.segments, np.int8),
                "special": np.array(record.special, np.bool_),
            }
            if record.target is not None:
                arrays["target_tokens"] = np.array(record.target.tokens)
                arrays["target_text"] = np.array(record.target.text)
                arrays["target_special"] = np.array(record.target.special, np.bool_)
            logits = flat.vault[item.index].logits
            if logits is not None:
                arrays["logits"] = logits
            for name, values in arrays.items():
                _put(archive, f"{item.index}/{name}", values)
        _put(archive, "examples", flat.examples)
        _put(archive, "ids", np.array(ids))
        _put(archive, "layers", np.array(flat.layers))
        _put(archive, "heads", np.array(flat.heads))
        _put(archive, "about", np.array(json.dumps(flat.about())))


def _put(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    # numpy.savez would need all arrays at once; an archive is a zip file of .npy files.
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def _write_csv(flat: _Flat, path: Path, progress: Progress | None) -> None:
    (name,) = flat.reader.names
    with path.open("x", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        for count, (item, record) in enumerate(flat.items(progress)):
            values = item.arrays[name]
            if not count:
                lines.writerow(_header(name, values.shape[-1]))
            view = flat.vault[item.index].stack(flat.reader.stack.name)
            texts = [[storable(t) for t in side] for side in (view.query_tokens, view.key_tokens)]
            for layer, maps in zip(flat.layers, values, strict=True):
                for head, rows in zip(flat.heads, maps, strict=True):
                    start = [item.index, storable(record.id), layer, head]
                    lines.writerows(_lines(name, start, rows, *texts))


def _header(name: str, width: int) -> list[str]:
    common = ["example", "id", "layer", "head"]
    if name == "attention":
        return [*common, "query", "query_text", "key", "key_text", "weight"]
    return [*common, "token", "token_text", *(f"{name}_{place}" for place in range(width))]


def _lines(
    name: str,
    start: list[Any],
    rows: NDArray[np.float32],
    queries: Sequence[str],
    keys: Sequence[str],
) -> Iterator[list[Any]]:
    texts = keys if name in ("key", "value") else queries
    for place, (text, row) in enumerate(zip(texts, rows.tolist(), strict=True)):
        if name != "attention":
            yield [*start, place, text, *(f"{value:.9g}" for value in row)]
            continue
        for key, (key_text, weight) in enumerate(zip(keys, row, strict=True)):
            yield [*start, place, text, key, key_text, f"{weight:.9g}"]
