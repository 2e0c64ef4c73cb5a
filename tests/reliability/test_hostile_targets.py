"""Vaults of two sequences made to do harm, with all hashes right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forging import Forger
from guard import guarded
from hostile import SECONDS, refuses, use
from stand_in import World, make_units_small

import qkvault

if TYPE_CHECKING:
    from collections.abc import Callable

WORLD = World(stacks=("encoder", "decoder", "cross"), lengths=(5, 9, 8, 12, 3, 70))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound vault with targets; not to be changed."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_units_small(monkeypatch, folder)
        return WORLD.write(folder / "v")


@pytest.fixture
def forger(two: Path, tmp_path: Path) -> Forger:
    """A forger at work on a copy of it."""
    return Forger(Path(shutil.copytree(two, tmp_path / "v")))


def test_the_forger_leaves_it_sound(forger: Forger) -> None:
    forger.sign()
    told = guarded(lambda: use(forger.path), SECONDS)
    assert (told["refused"], told["damages"]) == (0, 0)


@pytest.mark.parametrize("tokens", [0, -3, 25, 2**31 - 1])
def test_hostile_target_lengths_of_examples(forger: Forger, tokens: int) -> None:
    places = forger.column("place")
    assert places.shape == (6, 4)
    places[0, 3] = tokens
    forger.put_column("place", places)
    forger.sign()
    refuses(forger.path)


@pytest.mark.parametrize("target", [0, -8, 8, 2**20, 2**31, 2**63, 1.5, "24", None, [24]])
def test_hostile_target_lengths_of_buckets(forger: Forger, target: Any) -> None:
    forger.plan["buckets"][0]["target_length"] = target
    forger.sign()
    refuses(forger.path)


SPECS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no target": lambda plan: plan["spec"].pop("target"),
    "a target that is false": lambda plan: plan["spec"].update(target=False),
    "a target of text": lambda plan: plan["spec"].update(target="yes"),
    "buckets without targets": lambda plan: [b.pop("target_length") for b in plan["buckets"]],
    "one sequence": lambda plan: [
        plan["spec"].pop("target"),
        *(b.pop("target_length") for b in plan["buckets"]),
    ],
    "the encoder alone": lambda plan: [
        plan["spec"].pop("target"),
        plan["spec"].update(stacks=plan["spec"]["stacks"][:1]),
        *(b.pop("target_length") for b in plan["buckets"]),
    ],
    "causal cross-attention": lambda plan: plan["spec"]["stacks"][2].update(causal=True),
    "masked cross-attention": lambda plan: plan["spec"]["stacks"][2]["recipe"]["forms"][0].update(
        mask={"causal": False, "window": 3, "chunk": None}
    ),
    "stacks in another order": lambda plan: plan["spec"]["stacks"].reverse(),
    "a stack twice": lambda plan: plan["spec"]["stacks"].append(plan["spec"]["stacks"][2]),
}


@pytest.mark.parametrize("change", SPECS.values(), ids=SPECS)
def test_hostile_specs(forger: Forger, change: Callable[[dict[str, Any]], Any]) -> None:
    change(forger.plan)
    forger.sign()
    refuses(forger.path)


RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "none": lambda record: record.pop("target"),
    "null": lambda record: record.update(target=None),
    "a text": lambda record: record.update(target="text"),
    "a list": lambda record: record.update(target=[1]),
    "nothing in it": lambda record: record.update(target={}),
    "a text of two": lambda record: record["target"].update(text=["a", "b"]),
    "half a character": lambda record: record["target"].update(text="\ud800"),
    "no tokens": lambda record: record["target"].update(tokens=[]),
    "a token of none": lambda record: record["target"]["tokens"].__setitem__(0, None),
    "ids beyond number": lambda record: record["target"]["token_ids"].__setitem__(0, 10**100),
    "too few marks": lambda record: record["target"]["special"].pop(),
    "offsets backwards": lambda record: record["target"]["offsets"].__setitem__(0, [5, 2]),
    "words of text": lambda record: record["target"]["words"].__setitem__(0, "a"),
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_hostile_targets(forger: Forger, change: Callable[[dict[str, Any]], Any]) -> None:
    lines = forger.records()
    record = json.loads(lines[0])
    change(record)
    lines[0] = json.dumps(record).encode() + b"\n"
    forger.put_records(lines)
    forger.sign()
    refuses(forger.path)


def test_a_target_in_a_vault_of_one_sequence(tmp_path: Path) -> None:
    forger = Forger(World(lengths=(5, 9)).write(tmp_path / "one"))
    lines = forger.records()
    record = json.loads(lines[0])
    own = {name: record[name] for name in ("tokens", "token_ids", "special", "offsets", "words")}
    record["target"] = {"text": "x", **own}
    lines[0] = json.dumps(record).encode() + b"\n"
    forger.put_records(lines)
    forger.sign()
    refuses(forger.path)


def test_a_target_of_other_length_than_its_place_is_told(forger: Forger) -> None:
    lines = forger.records()
    record = json.loads(lines[0])
    for name in ("tokens", "token_ids", "special", "offsets", "words"):
        record["target"][name].append(record["target"][name][-1])
    lines[0] = json.dumps(record).encode() + b"\n"
    forger.put_records(lines)
    forger.sign()
    damages = qkvault.verify(forger.path, full=True).damages
    assert [(damage.path, damage.examples) for damage in damages] == [("examples/records", (0,))]
