"""No byte of a damaged, missing or unfinished vault is shown as attention."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import qkvault
from qkvault import VaultError
from vaults import make_vault

LENGTHS = [5, 6, 9, 20, 70, 7]
Seen = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vaults") / "sound.vault"
    return make_vault(path, lengths=LENGTHS)


@pytest.fixture
def vault(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "v"))


def read_all(path: Path) -> Seen:
    """Every value a user can ask for, by name; a value that cannot be had is not in it."""
    seen: Seen = {}
    try:
        vault = qkvault.open(path)
    except VaultError:
        return seen
    with vault:
        for index in range(len(LENGTHS)):
            for name in ("attention", "query", "key", "value", "thumbnail", "logits", "record"):
                try:
                    part = getattr(vault[index], name)
                    whole = part[:, :].tobytes() if hasattr(part, "codes") else repr(part).encode()
                    seen[f"{index} {name}"] = whole
                except VaultError:
                    continue
    return seen


def test_no_damage_is_ever_served_and_verify_finds_all(sound: Path, vault: Path) -> None:
    truth = read_all(sound)
    assert len(truth) == 7 * len(LENGTHS)
    files = sorted(file for file in vault.rglob("*") if file.is_file())
    dice = random.Random(7)
    for _ in range(100):
        file = dice.choice(files)
        kind = dice.choice(["flip", "cut", "empty", "delete"])
        before = file.read_bytes()
        if kind == "delete":
            file.unlink()
        else:
            data = bytearray(before)
            if kind == "flip":
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            else:
                del data[0 if kind == "empty" else dice.randrange(len(data)) :]
            file.write_bytes(data)
        where = f"{kind} {file.relative_to(vault)}"
        wrong = [name for name, value in read_all(vault).items() if truth[name] != value]
        assert not wrong, where
        try:
            assert not qkvault.verify(vault, full=True).ok, where
        except VaultError:
            assert kind == "delete"
        file.write_bytes(before)
    assert qkvault.verify(vault, full=True).ok


def shard(vault: Path, array: str, example: int = 0) -> Path:
    e = qkvault.open(vault)[example]
    return vault / f"b{e.bucket:04d}" / array / "c.0.0.0.0.0"


def test_a_missing_shard_is_an_error(vault: Path) -> None:
    file = shard(vault, "encoder/attention")
    file.unlink()
    opened = qkvault.open(vault)
    with pytest.raises(VaultError, match=r"c\.0\.0\.0\.0\.0 is missing"):
        opened[0].attention[0]
    assert opened[0].query[0].shape == (4, 5, 8)
    (damage,) = qkvault.verify(vault).damages
    assert damage.path == str(file.relative_to(vault))
    assert damage.examples == (0, 1, 5)


def test_swapped_shards_of_equal_size_are_an_error(tmp_path: Path) -> None:
    vault = make_vault(tmp_path / "v", lengths=LENGTHS, compress=False)
    key, value = shard(vault, "encoder/key"), shard(vault, "encoder/value")
    assert key.stat().st_size == value.stat().st_size
    key_bytes, value_bytes = key.read_bytes(), value.read_bytes()
    key.write_bytes(value_bytes)
    value.write_bytes(key_bytes)
    opened = qkvault.open(vault)
    for name in ("key", "value"):
        with pytest.raises(VaultError, match="not the file that was committed"):
            getattr(opened[0], name)[0]
    assert len(qkvault.verify(vault).damages) == 2


def test_a_shard_of_another_vault_is_an_error(vault: Path, tmp_path: Path) -> None:
    other = make_vault(tmp_path / "other", lengths=LENGTHS, seed=3)
    relative = shard(vault, "encoder/query").relative_to(vault)
    shutil.copyfile(other / relative, vault / relative)
    with pytest.raises(VaultError):
        qkvault.open(vault)[0].query[0]


def test_an_inner_chunk_that_is_missing_is_an_error(vault: Path) -> None:
    """A shard rewritten with a hole, its commit forged to match: what plain Zarr would fill in."""
    from qkvault.commits import commit_bytes
    from qkvault.shards import ABSENT, ShardReceipt
    from qkvault.store import Store

    store = Store(vault)
    file = shard(vault, "encoder/attention", 4)
    relative = str(file.relative_to(vault))
    unit = next(u for u in range(store.plan.units) if relative in store.plan.unit_shards(u))
    chunks = store.rows(72, "encoder/attention").meta.chunks_per_shard
    data = bytearray(file.read_bytes())
    index = np.frombuffer(bytes(data[-4 - 16 * chunks : -4]), "<u8").copy()
    index[:2] = ABSENT
    data[-4 - 16 * chunks : -4] = index.tobytes()
    import hashlib

    import google_crc32c

    data[-4:] = google_crc32c.value(index.tobytes()).to_bytes(4, "little")
    file.write_bytes(data)
    files = dict(store.commit(unit).files)
    files[relative] = ShardReceipt(
        len(data),
        files[relative].xxh3_128,
        hashlib.sha256(data[-20 - 16 * chunks : -4]).hexdigest(),
    )
    (vault / f"commits/{unit:08d}.json").write_bytes(commit_bytes(store.plan, unit, files))
    with pytest.raises(VaultError, match="chunk 0 is missing"):
        qkvault.open(vault)[4].attention[:, :]


def test_a_map_of_nothing_is_an_error(tmp_path: Path) -> None:
    """Zeros that were really written: the writer refuses them, and so does the reader."""
    from qkvault.heads import HeadArray

    path = make_vault(tmp_path / "v", lengths=[5, 6])
    array = qkvault.open(path)[0].attention
    with pytest.raises(VaultError, match="holds nothing"):
        HeadArray._refuse_holes(array, np.zeros((1, 2, 5, 5), np.float32))


def test_an_unfinished_vault_is_refused(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", lengths=LENGTHS, finish=False)
    assert qkvault.vault_state(path) == "unfinished"
    with pytest.raises(VaultError, match="is unfinished"):
        qkvault.open(path)
    commit = path / "commits/00000000.json"
    commit.unlink()
    partial = qkvault.open(path, partial=True)
    assert not partial.complete
    assert partial[2].attention[0].shape == (4, 9, 9)
    with pytest.raises(VaultError, match="never extracted"):
        partial[0].attention[0]
    assert not qkvault.verify(path).ok


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (lambda p: None, "absent"),
        (lambda p: p.mkdir(), "empty"),
        (lambda p: p.write_text("hello"), "other"),
        (lambda p: (p.mkdir(), (p / "notes.txt").write_text("x")), "other"),
    ],
)
def test_what_is_not_a_vault_is_told(tmp_path: Path, make: object, state: str) -> None:
    path = tmp_path / "thing"
    make(path)  # type: ignore[operator]
    assert qkvault.vault_state(path) == state
    with pytest.raises(VaultError, match=r"does not exist|has no plan\.json|is not a vault"):
        qkvault.open(path)
    with pytest.raises(VaultError):
        qkvault.verify(path)


def test_a_vault_of_a_later_major_version_is_refused(vault: Path) -> None:
    from qkvault.documents import seal

    plan = json.loads((vault / "plan.json").read_bytes())
    del plan["hash"]
    plan["format"] = "3.0"
    (vault / "plan.json").write_bytes(seal(plan))
    with pytest.raises(VaultError, match=r"format '3\.0'.*update qkvault"):
        qkvault.open(vault)
    plan["format"] = "1.7"
    (vault / "plan.json").write_bytes(seal(plan))
    with pytest.raises(VaultError, match=r"thumbnails pooled in format 1\.7"):
        qkvault.open(vault)
    plan["format"] = "2.7"
    (vault / "plan.json").write_bytes(seal(plan))
    (vault / "manifest.json").unlink()
    assert len(qkvault.open(vault, partial=True)) == len(LENGTHS)
