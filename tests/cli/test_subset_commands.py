"""``copy``, ``export``, ``append`` and ``repair`` as a user types them."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import qkvault
from extractor.models import tiny_bert, write_texts
from qkvault import Record, VaultSpec
from qkvault_cli.main import main
from qkvault_cli.progress import Meter
from vaults import make_vault

LENGTHS = [3, 30, 17, 17, 9, 70, 24, 5, 8]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("subset") / "v.vault"
    return make_vault(path, lengths=LENGTHS, layers=(1, 4, 9))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def copied(vault: Path, out: Path, *options: str) -> list[int]:
    """Numbers, in the source, of the examples of a copy made with some options."""
    result = run("copy", vault, "--out", out, *options)
    assert result.exit_code == 0, result.output
    with qkvault.open(out) as made:
        assert f"{len(made)} examples" in result.output
        return [int(example.id.removeprefix("r")) for example in made]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (["--examples", "2:4,0"], [2, 3, 0]),
        (["--examples", "-1,:2, r00005"], [8, 0, 1, 5]),
        (["--examples", "7:,7,8"], [7, 8]),
        (["--limit", "3"], [0, 1, 2]),
        (["--label", "1", "--limit", "2"], [1, 3]),
        (["--label", "same"], [1, 3, 5, 7]),
        (["--label", "0", "--label", "1"], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (["--where", '{"length": {"max": 9}}'], [0, 4, 7, 8]),
        (["--where", '{"source": "found"}', "--label", "0"], [0, 6]),
        (["--examples", "8,4:0:x,4", "--label", "0"], None),
        (["--examples", "8,4", "--where", '{"length": [9, 8, 3]}'], [8, 4]),
    ],
)
def test_examples_are_chosen(
    vault: Path, tmp_path: Path, options: list[str], expected: list[int] | None
) -> None:
    if expected is None:
        result = run("copy", vault, "--out", tmp_path / "c", *options)
        assert result.exit_code == 2
        assert "'4:0:x'" in result.stderr
    else:
        assert copied(vault, tmp_path / "c", *options) == expected


def test_a_copy_keeps_vectors_as_told(tmp_path: Path) -> None:
    exact = make_vault(tmp_path / "exact", examples=3, precision="float32")
    copied(exact, tmp_path / "one", "--precision", "uint16", "--vectors", "int16, value=float16")
    with qkvault.open(tmp_path / "one") as made:
        kept = {name: getattr(made[0], name).precision for name in ("query", "key", "value")}
    assert kept == {"query": "int16", "key": "int16", "value": "float16"}
    assert "of the vector's largest value" in run("info", tmp_path / "one").output
    for wrong in ("int8", "attention=int16", "query=uint16"):
        result = run("copy", exact, "--out", tmp_path / "no", "--vectors", wrong)
        assert result.exit_code == 2, result.output
        assert wrong in result.output


def test_a_copy_of_layers_heads_arrays_and_precision(vault: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    choice = ["--layers", "4:10", "--heads", "1,2:4", "--arrays", "attention,query"]
    result = run(
        "copy", vault, "--out", out, "--layers", "4,9", *choice[2:], "--precision", "uint8"
    )
    assert result.exit_code == 0, result.output
    assert run("verify", out, "--full").exit_code == 0
    with qkvault.open(out) as made, qkvault.open(vault) as source:
        assert made.spec.arrays == ("attention", "query")
        assert made.spec.precision == "uint8"
        assert made.spec.stacks[0].layers == (4, 9)
        assert np.array_equal(made[3].query[9, 0], source[3].query[9, 1])
        assert np.abs(made[3].attention[4] - source[3].attention[4, [1, 2, 3]]).max() < 4e-3
    missing = run("copy", vault, "--out", tmp_path / "d", *choice)
    assert missing.exit_code == 2  # 4:10 is every number from 4 to 9
    assert "layer 5" in missing.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", "{"], "--where is not JSON"),
        (["--where", "[1]"], "--where is an object"),
        (["--where", '{"lable": 1}'], "did you mean 'label'"),
        (["--where", '{"label": 1}', "--label", "1"], "given twice"),
        (["--label", "7"], "no example"),
        (["--examples", "9:"], "no example"),
        (["--examples", "9"], "example 9"),
        (["--layers", "a"], "--layers takes numbers"),
        (["--heads", "1:"], "--heads takes numbers"),
        (["--heads", "7"], "head 7"),
        (["--arrays", "keys"], "keys"),
    ],
)
@pytest.mark.parametrize("command", ["copy", "export"])
def test_a_wrong_choice_is_one_line(
    vault: Path, tmp_path: Path, command: str, options: list[str], message: str
) -> None:
    where = ("--out", tmp_path / "c") if command == "copy" else ("--to", tmp_path / "c.npz")
    result = run(command, vault, *where, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("c*")) or list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_export_to_hdf5(vault: Path, tmp_path: Path) -> None:
    target = tmp_path / "part.h5"
    result = run("export", vault, "--to", target, "--examples", "4,1", "--layers", "9")
    assert result.exit_code == 0, result.output
    assert f"{target}: 2 examples, " in result.output
    with qkvault.open(target) as made, qkvault.open(vault) as source:
        assert [example.id for example in made] == ["r00004", "r00001"]
        assert np.array_equal(made[1].attention[9], source[1].attention[9])


def test_export_to_numpy(vault: Path, tmp_path: Path) -> None:
    target = tmp_path / "part.npz"
    result = run("export", vault, "--to", target, "--label", 1, "--arrays", "query", "--heads", 2)
    assert result.exit_code == 0, result.output
    with np.load(target) as archive, qkvault.open(vault) as source:
        assert archive["examples"].tolist() == [1, 3, 5, 7]
        assert np.array_equal(archive["3/query"][0], source[3].query[1, [2]])
        assert "3/attention" not in archive


def test_export_to_csv(vault: Path, tmp_path: Path) -> None:
    target = tmp_path / "head.csv"
    options = ["--limit", 1, "--layers", 4, "--heads", 0]
    assert run("export", vault, "--to", target, *options).exit_code == 0
    with target.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == LENGTHS[0] ** 2
    assert {row["id"] for row in rows} == {"r00000"}


def test_export_never_writes_over_a_file(vault: Path, tmp_path: Path) -> None:
    target = tmp_path / "mine.npz"
    target.write_text("mine")
    assert run("export", vault, "--to", target).exit_code == 2
    assert target.read_text() == "mine"
    assert run("export", vault, "--to", tmp_path / "x.mat").exit_code == 2


def test_append(vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = qkvault.create

    def create(path: Path, spec: VaultSpec, records: list[Record], **more: bool) -> object:
        named = [replace(record, id=f"b-{record.id}") for record in records]
        return planned(path, spec, named, **more)

    with monkeypatch.context() as patch:
        patch.setattr(qkvault, "create", create)
        more = make_vault(tmp_path / "more", lengths=[6, 9], layers=(1, 4, 9))
    result = run("append", vault, more, "--out", tmp_path / "all.vault")
    assert result.exit_code == 0, result.output
    assert "11 examples" in result.output
    with qkvault.open(tmp_path / "all.vault") as made:
        assert [example.id for example in made][8:] == ["r00008", "b-r00000", "b-r00001"]
    twice = run("append", vault, vault, "--out", tmp_path / "twice")
    assert twice.exit_code == 2
    assert "'r00000'" in twice.stderr
    taken = run("append", vault, more, "--out", vault)
    assert taken.exit_code == 2
    other = make_vault(tmp_path / "other", lengths=[6], layers=(1, 4))
    unlike = run("append", vault, other, "--out", tmp_path / "unlike")
    assert unlike.exit_code == 2
    assert "encoder layers" in unlike.stderr


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extracted")
    model = tiny_bert(folder / "model")
    data = write_texts(folder / "texts.jsonl", [3, 12, 30])
    out = folder / "x.vault"
    result = run("extract", "--model", model, "--data", data, "--out", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    return out


def test_repair(extracted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(extracted, tmp_path / "x.vault"))
    sound = run("repair", path)
    assert (sound.exit_code, sound.stdout) == (0, "x.vault: nothing is damaged\n")
    shard = next((path / "b0016" / "encoder" / "key").glob("c.*"))
    before = shard.read_bytes()
    shard.unlink()
    result = run("repair", path, "--device", "cpu")
    assert result.exit_code == 0, result.output
    first, last = result.stdout.splitlines()
    assert first == f"{shard.relative_to(path)}: is missing (examples 1)"
    assert "1 units run again (1 examples" in last
    assert last.endswith("the same digest as before")
    assert shard.read_bytes() == before
    assert run("verify", path, "--full").exit_code == 0


def test_what_cannot_be_repaired(extracted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(extracted, tmp_path / "x.vault"))
    (path / "examples" / "id_row" / "c.0").unlink()
    result = run("repair", path)
    assert result.exit_code == 3
    assert "still damaged: examples/id_row/c.0: is missing" in result.stdout
    (path / "plan.json").write_text(json.dumps({}))
    ended = run("repair", path)
    assert ended.exit_code == 3
    assert "plan.json" in ended.stderr
    assert run("repair", tmp_path / "none").exit_code == 3


def test_repair_asks_for_the_model(extracted: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(extracted, tmp_path / "x.vault"))
    (path / "commits" / "00000000.json").unlink()
    wrong = run("repair", path, "--model", tmp_path / "nowhere")
    assert wrong.exit_code == 2
    assert "nowhere" in wrong.stderr


def test_a_line_of_progress_has_no_empty_parts(capsys: pytest.CaptureFixture[str]) -> None:
    with Meter("copy", "units") as meter:
        meter.update(2, 2, "")
    assert capsys.readouterr().err == "copy: 2/2 units\n"
