"""Documents made to do harm: JSON of every kind, plans, paths, links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hostile import refuses, shard_of

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forging import Forger

RAW = {
    "deep lists": b"[" * 500_000,
    "deep objects": b'{"a":' * 150_000,
    "an unending number": b'{"shape": ' + b"9" * 900_000 + b"}",
    "an unending fraction": b'{"shape": 0.' + b"9" * 900_000 + b"e999999999}",
    "two of every key": b"{" + b'"shape":[1],' * 80_000 + b'"x":1}',
    "empty lists": b"[" + b"[]," * 60_000 + b"[]]",
    "lone surrogates": b'{"shape": "\\ud800"}',
    "not UTF-8": b'{"shape": "\xff\xfe"}',
    "UTF-32": '{"shape": []}'.encode("utf-32"),
    "NaN": b'{"shape": [NaN, Infinity]}',
    "more than is read": b" " * (2 << 20),
}


@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_hostile_json(forger: Forger, data: bytes) -> None:
    forger.put_metadata("b0008/encoder/attention", data)
    forger.sign()
    refuses(forger.path)


@pytest.mark.parametrize("name", ["plan.json", "manifest.json", "commits/00000000.json"])
@pytest.mark.parametrize("data", RAW.values(), ids=RAW)
def test_hostile_documents(forger: Forger, name: str, data: bytes) -> None:
    (forger.path / name).write_bytes(data)
    refuses(forger.path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plan.json", "manifest.json", "b0008/encoder/query/zarr.json"])
@pytest.mark.parametrize("size", [1, 2, 8, 15])
def test_documents_that_swell(forger: Forger, name: str, size: int) -> None:
    """Megabytes of the shortest lists, of which each takes thirty times its text when read."""
    data = b'{"a":[' + b"[]," * ((size << 20) // 3 - 10) + b"[]]}"
    if name.endswith("zarr.json"):
        forger.put_metadata("b0008/encoder/query", data)
        forger.sign()
    else:
        (forger.path / name).write_bytes(data)
    refuses(forger.path)


def _one_bucket(rows: int, per_unit: int) -> Callable[[dict[str, Any]], None]:
    def change(plan: dict[str, Any]) -> None:
        plan["buckets"] = [{"length": 8, "rows": rows, "rows_per_unit": per_unit}]
        plan["examples"] = rows

    return change


def _stack(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plan: plan["spec"]["stacks"][0].update(changes)


PLAN_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "2^31 units": _one_bucket(2**31 - 1, 1),
    "2^31 rows": _one_bucket(2**31 - 1, 2**31 - 1),
    "rows without number": _one_bucket(10**100, 1),
    "a bucket for every length": lambda p: p.update(
        buckets=[{"length": n, "rows": 1, "rows_per_unit": 1} for n in range(1, 60_001)],
        examples=60_000,
    ),
    "2^24 heads": _stack(heads=2**24, key_heads=2**24),
    "2^24 wide vectors": _stack(head_dim=2**24, value_dim=2**24),
    "a million layers": _stack(layers=list(range(10**6)), scaling=[1] * 10**6),
    "a scaling beyond number": _stack(scaling=[10**400, 1]),
    "widths of other layers": _stack(widths=[[1, 1]] * 7),
    "widths above the stack's": _stack(widths=[[2**20, 1]] * 2),
    "widths of nothing": _stack(widths=[[0, 1]] * 2),
    "widths that are true": _stack(widths=[[True, True]] * 2),
    "widths that are text": _stack(widths="ab"),
    "widths that are numbers": _stack(widths=[4, 4]),
    "widths that do not differ": _stack(widths=[[4, 4]] * 2),
    "widths below the stack's": _stack(widths=[[2, 4], [3, 4]]),
    "three widths a layer": _stack(widths=[[1, 1, 1]] * 2),
    "pages beside the tokens": _stack(beside="x" * 100_000),
    "what turns a line beside the tokens": _stack(beside="summaries \u202e"),
    "what speaks to a terminal beside the tokens": _stack(beside="\x1b[31m"),
    "what the arrays do not tell of beside the tokens": _stack(beside="summaries"),
    "a list beside the tokens": _stack(beside=["summaries"]),
    "nothing beside the tokens": _stack(beside=""),
    "a stack named like a path": _stack(name="../../../etc"),
    "a stack of no name": _stack(name=None),
    "2^24 logits": lambda p: p["spec"].update(logits=2**24, label_names=[]),
    "arrays that are text": lambda p: p["spec"].update(arrays="attention"),
    "precision that is a list": lambda p: p["spec"].update(precision=["uint16"]),
    "no examples": lambda p: p.update(buckets=[], examples=0),
    "sizes that are true": lambda p: p.update(
        buckets=[{"length": True, "rows": True, "rows_per_unit": True}], examples=True
    ),
    "rejects without number": lambda p: p.update(rejects={"count": 10**4000, "sha256": ""}),
    "rejects that are none": lambda p: p.update(rejects={"count": float("1e300"), "sha256": ""}),
    "a later format": lambda p: p.update(format="3.0"),
    "an earlier format": lambda p: p.update(format="1.0"),
    "no thumbnail rule": lambda p: p["spec"].pop("thumbnails"),
    "another thumbnail rule": lambda p: p["spec"].update(thumbnails=["pooled"]),
    "a format of pages": lambda p: p.update(format="9" * 100_000),
}


@pytest.mark.parametrize("change", PLAN_CHANGES.values(), ids=PLAN_CHANGES)
def test_hostile_plans(forger: Forger, change: Callable[[dict[str, Any]], None]) -> None:
    change(forger.plan)
    forger.sign()
    refuses(forger.path)


def test_a_vault_does_not_speak_to_the_terminal(forger: Forger) -> None:
    forger.plan["format"] = "\x1b[31m\n\u202e2"
    forger.sign()
    with pytest.raises(qkvault.VaultError) as caught:
        qkvault.open(forger.path)
    assert str(caught.value).isprintable()
    made = qkvault.InputError("a\nb\x1b]0;\u202e\ud800é漢")
    assert str(made) == "a\\nb\\x1b]0;\\u202e\\ud800é漢"


def test_names_that_hdf5_cannot_hold(forger: Forger, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    forger.plan["spec"]["label_names"] = ["no\0ne", "\x1b\u202e"]
    forger.sign()
    with qkvault.open(qkvault.export(forger.path, tmp_path / "v.h5")) as exported:
        assert exported.spec.label_names == ("no\0ne", "\x1b\u202e")


def test_paths_that_leave_the_vault(forger: Forger, tmp_path: Path) -> None:
    """A plan that names files elsewhere has none of them read, nor told whether they exist."""
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    for name in ("../secret", str(secret), "examples/../../secret", "/etc/passwd", "\0", ".", ""):
        forger.plan["metadata"][name] = "0" * 64
        forger.plan["shards"][name] = {"size": 8, "xxh3_128": "0", "tail_sha256": "0"}
    forger.sign()
    report = qkvault.verify(forger.path, full=True)
    there = {d.reason for d in report.damages if "secret" in d.path}
    secret.unlink()
    report = qkvault.verify(forger.path, full=True)
    assert {d.reason for d in report.damages if "secret" in d.path} == there
    assert not report.ok


def test_links_to_other_places_are_held_to_their_hashes(forger: Forger, tmp_path: Path) -> None:
    """Files may be links, as in the caches of hubs; what they lead to must be what is named."""
    shard = forger.path / shard_of(forger, 0, "attention")
    other = tmp_path / "elsewhere"
    shard.rename(other)
    shard.symlink_to(other)
    assert qkvault.verify(forger.path, full=True).ok
    for target in ("/etc/passwd", "/dev/zero", "/proc/self/mem", str(shard), str(tmp_path)):
        shard.unlink()
        shard.symlink_to(target)
        refuses(forger.path)
