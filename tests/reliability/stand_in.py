"""What the reliability harnesses share: a vault from a stand-in for the model, read back whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import qkvault
from qkvault import (
    ArrayName,
    AttentionSource,
    Precision,
    Record,
    Stack,
    StackName,
    UnitBuffer,
    VaultSpec,
    VaultWriter,
)
from vaults import fill, make_record, make_target, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from qkvault import Place

LENGTHS = (5, 7, 8, 11, 12, 14, 15, 16, 6, 13, 5, 9, 70, 66)
"""Tokens of each example: three buckets, the last with thumbnails smaller than the maps."""

UNIT_BYTES = 12 << 10
"""Makes several units of each bucket (the store's own choice would make one of all)."""


@dataclass(frozen=True)
class World:
    """All that fixes a vault's bytes."""

    precision: Precision = "uint16"
    compress: bool = True
    seed: int = 0
    stacks: tuple[StackName, ...] = ("encoder",)
    causal: bool = False
    arrays: tuple[ArrayName, ...] = ("attention", "query", "key", "value")
    lengths: Sequence[int] = LENGTHS
    attention: AttentionSource = "stored"
    metrics: bool = False
    beside: str | None = None
    widths: tuple[tuple[int, int], ...] = ()

    @property
    def spec(self) -> VaultSpec:
        """The spec; the seed is no part of it, so that two runs of one plan may differ."""
        stacks = tuple(
            Stack(
                *(name, (0, 2), 4, 2, 4, 4, self.causal, (0.5, 0.5)),
                beside=self.beside,
                widths=self.widths,
            )
            for name in self.stacks
        )
        return VaultSpec(
            stacks=stacks,
            arrays=self.arrays,
            precision=self.precision,
            logits=2,
            label_names=("different", "same"),
            identity={"model": "stand-in", "stacks": list(self.stacks)},
            attention=self.attention,
            metrics=qkvault.METRICS if self.metrics else (),
            target=self.has_target,
        )

    @property
    def has_target(self) -> bool:
        """Whether examples have a target sequence too: stacks of an encoder-decoder need one."""
        return "cross" in self.stacks

    @property
    def records(self) -> list[Record]:
        """The examples."""
        random = np.random.default_rng(5)
        records = [make_record(i, n, random=random) for i, n in enumerate(self.lengths)]
        if not self.has_target:
            return records
        targets = [make_target(1 + n * 7 % 19, i) for i, n in enumerate(self.lengths)]
        return [replace(r, target=t) for r, t in zip(records, targets, strict=True)]

    def other_run(self) -> World:
        """The same plan, but a model that gives other values."""
        return replace(self, seed=self.seed + 1)

    def write(self, path: Place | str) -> Place | str:
        """Plan or resume the vault, write what is pending, finish it."""
        with self.open_writer(path) as writer:
            self.write_pending(writer)
            writer.finish()
        return path

    def open_writer(self, path: Place | str) -> VaultWriter:
        """Create the vault, or go on with the one that is there."""
        if qkvault.vault_state(path) in ("absent", "empty"):
            return qkvault.create(
                path,
                self.spec,
                self.records,
                rejects=[{"id": "x1", "reason": "no text"}],
                compress=self.compress,
            )
        return qkvault.resume(path, self.spec.identity)

    def write_pending(self, writer: VaultWriter) -> None:
        """Fill and commit every pending unit."""
        for unit in writer.pending():
            buffer = writer.begin(unit)
            self.fill(writer, buffer)
            writer.commit(buffer)

    def fill(self, writer: VaultWriter, buffer: UnitBuffer) -> None:
        """Fill a unit with what the stand-in for the model gives."""
        fill(buffer, writer.spec, self.seed)
        if self.metrics:
            measure(buffer, writer.spec, writer.records(buffer.unit), self.seed)


def make_units_small(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Several units of each bucket; a cache of derived tables that starts empty."""
    monkeypatch.setattr("qkvault.chunks.UNIT_BYTES", UNIT_BYTES)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def tree(path: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file() or file.is_symlink()
    }


def reads(vault: qkvault.Vault, count: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Everything that the public interface tells of a vault of ``count`` examples, piece by piece.

    Each piece is a call of its own: that one raises does not keep the others from being served.
    """
    yield "len", lambda: len(vault)
    yield "lengths", lambda: vault.lengths.tolist()
    yield "iter_records", lambda: list(vault.iter_records())
    yield "ids", lambda: [example.id for example in vault]
    yield "table", lambda: vault.table.rows(limit=count).rows
    yield "search", lambda: [row["id"] for row in vault.table.rows("rain", limit=count).rows]
    yield "select", lambda: [example.index for example in vault.select(label=1)]
    for stack in vault.spec.stacks:
        for name in readable(vault.spec):
            yield (
                f"scan {stack.name}/{name}",
                lambda stack=stack, name=name: _scanned(vault, stack.name, name),
            )
        for name in vault.spec.metrics[:2]:
            yield (
                f"metrics {stack.name}/{name}",
                lambda stack=stack, name=name: vault.metrics(name, layer=0, stack=stack.name),
            )
    for index in range(count):
        yield from _example_reads(vault, index)


def readable(spec: VaultSpec) -> list[str]:
    """Names of the arrays that can be read of a stack."""
    derived = spec.attention == "derived"
    return [*(["attention"] if derived else []), *spec.arrays, "thumbnail"]


def _scanned(vault: qkvault.Vault, stack: str, name: Any) -> Any:
    return [
        (item.index, np.array(item[name]))
        for item in vault.scan(layer=2, head=1, arrays=(name,), stack=stack)
    ]


def _example_reads(vault: qkvault.Vault, index: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield f"[{index}].record", lambda: vault[index].record
    yield f"[{index}].lengths", lambda: tuple(vault[index].lengths)
    yield f"by_id {index}", lambda: vault.by_id(f"r{index:05d}").index
    yield f"[{index}].logits", lambda: vault[index].logits
    yield f"[{index}].prediction", lambda: vault[index].prediction
    for stack in vault.spec.stacks:
        for name in vault.spec.metrics:
            yield (
                f"[{index}].{stack.name}.metrics {name}",
                lambda stack=stack, name=name: vault[index].stack(stack.name).metrics[name],
            )
        for name in readable(vault.spec):

            def array(stack: Stack = stack, name: str = name) -> qkvault.HeadArray:
                found: qkvault.HeadArray = getattr(vault[index].stack(stack.name), name)
                return found

            yield f"[{index}].{stack.name}.{name}", lambda array=array: array()[:, :]
            yield f"[{index}].{stack.name}.{name} head", lambda array=array: array()[2, -1]
            yield f"[{index}].{stack.name}.{name} rows", lambda array=array: array()[0, :, 2:4]
            yield f"[{index}].{stack.name}.{name} codes", lambda array=array: array().codes(2)


def read_all(path: Path, count: int) -> dict[str, Any]:
    """All that a sound vault tells."""
    with qkvault.open(path) as vault:
        return {name: read() for name, read in reads(vault, count)}


@dataclass
class Served:
    """What reading a damaged vault came to: pieces right, pieces refused, and which are wrong."""

    right: int = 0
    refused: int = 0
    wrong: tuple[str, ...] = ()

    def refuse(self, name: str, error: qkvault.VaultError, pieces: int = 1) -> None:
        """Count a refusal; one of several lines is wrong."""
        self.refused += pieces
        if "\n" in str(error):
            self.wrong += (f"{name}: told in several lines: {error}",)


def read_damaged(path: Path, truth: dict[str, Any], count: int, *, partial: bool = False) -> Served:
    """Read everything of a vault that may be damaged; every piece is right, refused or wrong.

    Only a :class:`qkvault.VaultError` of one line is a refusal; any other error is wrong.
    """
    served = Served()
    try:
        vault = qkvault.open(path, partial=partial)
    except qkvault.VaultError as error:
        served.refuse("open", error, len(truth))
        return served
    with vault:
        for name, read in reads(vault, count):
            try:
                found = read()
                if partial and name == "table":
                    found = _with_predictions(found, truth[name])
                right = equal(found, truth[name])
            except qkvault.VaultError as error:
                served.refuse(name, error)
            except Exception as error:
                served.wrong += (f"{name}: {type(error).__name__}: {error}",)
            else:
                served.right += right
                if not right:
                    served.wrong += (name,)
    return served


def _with_predictions(found: Any, truth: Any) -> Any:
    """Rows of a table, with the truth where an unfinished vault says that it does not know."""
    return [
        {**row, "prediction": true["prediction"], "correct": true["correct"]}
        if row["prediction"] is None and row["correct"] is None
        else row
        for row, true in zip(found, truth, strict=True)
    ]


def equal(found: Any, expected: Any) -> bool:
    """Whether two answers are the same to the last bit."""
    if isinstance(expected, np.ndarray):
        return (
            isinstance(found, np.ndarray)
            and found.dtype == expected.dtype
            and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
        )
    if isinstance(expected, list | tuple):
        return (
            type(found) is type(expected)
            and len(found) == len(expected)
            and all(map(equal, found, expected))
        )
    return type(found) is type(expected) and bool(found == expected)
