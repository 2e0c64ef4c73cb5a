"""Vaults joined into a new one: every code as it was, what does not fit refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derived_vaults import make_derived_vault

import qkvault
from qkvault import InputError, PlanMismatch, Record, VaultError, VaultSpec, append
from qkvault.precision import MAX_ERROR
from vaults import make_vault

LENGTHS = [3, 30, 17, 9, 70, 24]
NAMES = ("attention", "query", "key", "value", "thumbnail")


def altered(
    path: Path,
    prefix: str = "",
    change: Callable[[VaultSpec], VaultSpec] = lambda spec: spec,
    make: Callable[..., Path] = make_vault,
    **options: Any,
) -> Path:
    """A small vault whose ids start with ``prefix``, its spec changed before it was planned."""
    planned = qkvault.create

    def create(
        target: Path, spec: VaultSpec, records: Iterable[Record], **more: Any
    ) -> qkvault.VaultWriter:
        named = [replace(record, id=prefix + record.id) for record in records]
        return planned(target, change(spec), named, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qkvault, "create", create)
        return make(path, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("append")
    make_vault(folder / "a", lengths=LENGTHS, layers=(1, 4, 9))
    altered(folder / "b", "b-", lengths=[9, 130, 8, 17], layers=(1, 4, 9), seed=1)
    altered(folder / "c", "c-", lengths=[5], layers=(1, 4, 9), seed=2, compress=False)
    return folder


def assert_same_codes(found: qkvault.Example, example: qkvault.Example) -> None:
    assert found.record == example.record
    assert np.array_equal(found.logits, example.logits)
    for name in NAMES:
        ours, theirs = getattr(found, name).codes(), getattr(example, name).codes()
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes()


def test_examples_follow_each_other_code_by_code(folder: Path, tmp_path: Path) -> None:
    shares: list[tuple[int, int]] = []
    parts = [qkvault.open(folder / name) for name in "abc"]
    made = append(
        parts[0], parts[1:], tmp_path / "new", progress=lambda *share: shares.append(share)
    )
    examples = [example for part in parts for example in part]
    assert len(made) == len(examples) == 11
    for found, example in zip(made, examples, strict=True):
        assert_same_codes(found, example)
    assert made.by_id("b-r00001").index == 7
    assert shares[-1] == (len(shares) - 1,) * 2
    assert qkvault.verify(made.path, full=True).ok


def test_the_new_vault_names_what_it_was_made_of(folder: Path, tmp_path: Path) -> None:
    digests = [qkvault.open(folder / name).digest for name in "abc"]
    two = append(folder / "a", folder / "b", tmp_path / "two")
    three = append(two, folder / "c", tmp_path / "three")
    told = three.spec.provenance["append"]
    assert [part["vault"] for part in told] == [two.digest, digests[2]]
    assert [part["examples"] for part in told] == [10, 1]
    assert told[0]["append"] == digests[:2]
    assert three.spec.provenance["library"] == "numpy"
    assert three.digest not in {*digests, two.digest}
    for name, digest in zip("abc", digests, strict=True):
        assert qkvault.open(folder / name).digest == digest


def test_provenance_that_differs_is_kept_beside(folder: Path, tmp_path: Path) -> None:
    other = altered(
        tmp_path / "other",
        change=lambda spec: replace(spec, provenance={"model": "random", "library": "other"}),
        lengths=[4, 5],
        layers=(1, 4, 9),
    )
    made = append(folder / "b", other, tmp_path / "new")
    assert made.spec.provenance["library"] == "numpy"
    assert "library" not in made.spec.provenance["append"][0]
    assert made.spec.provenance["append"][1]["library"] == "other"
    assert "seed" not in made.spec.identity
    assert made.spec.identity["model"] == "random"


def test_it_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(folder / "a", [folder / "b"], tmp_path / "new", stop)
    assert qkvault.vault_state(tmp_path / "new") == "unfinished"
    with pytest.raises(PlanMismatch, match="append"):
        append(folder / "a", [folder / "c"], tmp_path / "new")
    shares: list[tuple[int, int]] = []
    made = append(folder / "a", [folder / "b"], tmp_path / "new", lambda *s: shares.append(s))
    assert shares[0][0] == 2
    whole = append(folder / "a", [folder / "b"], tmp_path / "whole")
    assert made.digest == whole.digest


def test_never_in_place(folder: Path) -> None:
    with pytest.raises(InputError, match="already holds a vault"):
        append(folder / "a", folder / "b", folder / "a")
    with pytest.raises(InputError, match="already holds a vault"):
        append(folder / "a", folder / "b", folder / "b")


def test_nothing_to_append(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to append"):
        append(folder / "a", [], tmp_path / "new")


def test_an_id_that_stands_twice_is_named(folder: Path, tmp_path: Path) -> None:
    twin = make_vault(tmp_path / "twin", lengths=[6, 7], layers=(1, 4, 9))
    with pytest.raises(InputError, match=r"2 ids stand in more than one vault: 'r0000[01]' \(of "):
        append(folder / "b", [folder / "a", twin], tmp_path / "new")
    with pytest.raises(InputError, match="6 ids .* and 1 more;"):
        append(folder / "a", folder / "a", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "change", "match"),
    [
        ({"precision": "float16"}, None, r'precision \("float16", not "uint16"\)'),
        ({"layers": (1, 4)}, None, r"encoder layers \(\[1,4\], not \[1,4,9\]\)"),
        ({"heads": 2, "arrays": ("query", "key")}, None, r"arrays .*; encoder heads "),
        ({"causal": True}, None, "decoder .*stacks"),
        ({"logits": 3}, None, "label_names .*; logits"),
        ({}, {"model": "other"}, r'model \("other", not "random"\)'),
        ({}, {"model": "random", "tokenizer": "t"}, r'tokenizer \("t", not null\)'),
    ],
)
def test_another_kind_is_refused(
    folder: Path, tmp_path: Path, options: dict, change: dict | None, match: str
) -> None:
    settings = {"layers": (1, 4, 9), **options}
    other = altered(
        tmp_path / "other",
        change=lambda spec: spec if change is None else replace(spec, identity=change),
        lengths=[4, 5],
        **settings,
    )
    with pytest.raises(PlanMismatch, match=match):
        append(folder / "b", [folder / "c", other], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_copies_of_other_heads_do_not_mix(folder: Path, tmp_path: Path) -> None:
    ours = qkvault.copy(folder / "a", tmp_path / "ours", heads=[2, 3])
    turned = qkvault.copy(folder / "b", tmp_path / "turned", heads=[3, 2])
    same = qkvault.copy(turned, tmp_path / "same", heads=[1, 0])
    others = qkvault.copy(folder / "b", tmp_path / "others", heads=[0, 1])
    with pytest.raises(PlanMismatch, match=r"encoder heads \(\[0,1\], not \[2,3\]\)"):
        append(ours, others, tmp_path / "new")
    made = append(ours, same, tmp_path / "new")
    assert made.spec.provenance["copy"]["heads"] == {"encoder": [2, 3]}
    assert np.array_equal(
        made.by_id("b-r00000").query[4, 1], qkvault.open(folder / "b")[0].query[4, 3]
    )


def test_a_derived_vault_keeps_the_larger_error(tmp_path: Path) -> None:
    for name, error in (("a", 1e-3), ("b", 2e-3), ("c", None)):
        altered(
            tmp_path / name,
            name,
            lambda spec, error=error: replace(spec, derived_error=error),
            make=make_derived_vault,
            lengths=(4, 9),
        )
    made = append(tmp_path / "a", tmp_path / "b", tmp_path / "ab")
    assert made.spec.derived_error == 2e-3
    assert append(made, tmp_path / "c", tmp_path / "abc").spec.derived_error is None
    source = qkvault.open(tmp_path / "b")[1]
    assert np.array_equal(made[3].attention[:, :], source.attention[:, :])
    assert np.array_equal(made[3].thumbnail.codes(), source.thumbnail.codes())
    assert np.array_equal(
        made.metrics("entropy")[2:], qkvault.open(tmp_path / "b").metrics("entropy")
    )


def test_precision_lost_on_the_way_is_told(folder: Path, tmp_path: Path) -> None:
    exact = altered(tmp_path / "exact", "x-", lengths=[6, 9], precision="float32")
    coded = altered(tmp_path / "coded", "y-", lengths=[6, 9], precision="uint8")
    cut = qkvault.copy(
        qkvault.copy(exact, tmp_path / "cut16", precision="uint16"),
        tmp_path / "cut",
        precision="uint8",
    )
    made = append(coded, cut, tmp_path / "new")
    bound = made.spec.provenance["copy"]["max_error"]
    assert bound == MAX_ERROR["uint16"] + MAX_ERROR["uint8"]
    before = qkvault.open(exact)[1].attention[:, :]
    assert np.abs(made.by_id("x-r00001").attention[:, :] - before).max() <= bound


def test_damage_is_not_copied(folder: Path, tmp_path: Path) -> None:
    path = altered(tmp_path / "v", "v-", lengths=[17, 18], layers=(1, 4, 9))
    shard = next((path / "b0024" / "encoder" / "attention").glob("c.*"))
    data = bytearray(shard.read_bytes())
    data[100] ^= 4
    shard.write_bytes(data)
    with pytest.raises(VaultError, match="damaged"):
        append(folder / "a", path, tmp_path / "new")
    assert qkvault.vault_state(tmp_path / "new") == "unfinished"
