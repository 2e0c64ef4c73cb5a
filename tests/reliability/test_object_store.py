"""Vaults on an object store: the same bytes, few requests, one winner, nothing lost."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from faulty_proxy import FaultyProxy
from object_store import give_access, serve_objects
from stand_in import World, reads, tree

import qkvault
from qkvault import claims
from qkvault.remote import Bucket
from vaults import make_vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from qkvault.remote import RemotePath

__all__ = ["give_access", "serve_objects"]  # fixtures

WORLD = World()
TESTS = Path(__file__).parent.parent


@pytest.fixture
def place(bucket: str, tmp_path: Path) -> str:
    """A URL where nothing stands."""
    return f"{bucket}/{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}.vault"


def located(url: str) -> RemotePath:
    place = qkvault.locate(url)
    assert not isinstance(place, Path)
    return place


def objects(url: str) -> dict[str, str]:
    """SHA-256 of every object below a URL, by its name there."""
    place = located(url)
    found = {}
    for key, info in place.bucket.objects(place.key):
        data = place.bucket.read(key, info.st_size)
        assert data is not None
        found[key[len(place.key) + 1 :]] = hashlib.sha256(data).hexdigest()
    return found


def test_a_vault_has_the_same_bytes_wherever_it_is_written(place: str, tmp_path: Path) -> None:
    WORLD.write(tmp_path / "local.vault")
    WORLD.write(place)
    assert objects(place) == tree(tmp_path / "local.vault")
    report = qkvault.verify(place, full=True)
    assert (report.damages, report.units > 3) == ((), True)
    with qkvault.open(place) as there, qkvault.open(tmp_path / "local.vault") as here:
        assert there.digest == here.digest
        pairs = zip(reads(there, len(here)), reads(here, len(here)), strict=True)
        for (name, found), (_, expected) in pairs:
            np.testing.assert_equal(found(), expected(), err_msg=name)


def test_encoder_decoders_too(place: str, tmp_path: Path) -> None:
    world = replace(WORLD, stacks=("encoder", "decoder", "cross"))
    world.write(tmp_path / "local.vault")
    world.write(place)
    assert objects(place) == tree(tmp_path / "local.vault")


def test_few_requests_are_made(place: str) -> None:
    WORLD.write(place)
    vault = qkvault.open(place)
    requests = vault.path.bucket
    assert requests.requests == 2  # plan and manifest
    vault[0].attention[0]
    vault[0].query[0, 0]
    vault[0].key[0, 0]
    assert vault[0].tokens

    def count(act: Callable[[qkvault.Example], object]) -> int:
        before = requests.requests
        act(vault[1])  # another example of the same shards: their indexes are known
        return requests.requests - before

    assert count(lambda e: (e.tokens, e.attention[0])) <= 2
    assert count(lambda e: (e.query[0, 1], e.key[0, 0])) <= 2
    assert count(lambda e: (e.query[0, 1], e.key[0, 0], e.attention[0])) == 0  # kept in memory


@pytest.mark.parametrize(("length", "more"), [(40, 1), (64, 1), (120, 2)])
def test_thumbnails_of_an_example_take_few_requests(place: str, length: int, more: int) -> None:
    """Stored ones take their index and one run of chunks; those read off the attention that was
    shown take one run, since its maps of all layers lie behind one another."""
    make_vault(place, lengths=[length] * 2, layers=6, heads=6, key_heads=6)
    vault = qkvault.open(place)
    assert vault[0].tokens
    bucket = vault.path.bucket
    before = bucket.requests
    assert vault[0].attention[0].any()
    assert bucket.requests - before <= 3  # commit, index, chunk
    before = bucket.requests
    assert vault[0].thumbnail.codes().any()
    assert bucket.requests - before <= more


def test_one_of_many_gets_a_unit(place: str) -> None:
    with WORLD.open_writer(place) as planned:
        unit = planned.units[0]
        one_of_many_gets(place, unit.id, rounds=4)


@pytest.mark.slow
def test_one_of_many_gets_a_unit_every_time(place: str) -> None:
    with WORLD.open_writer(place) as planned:
        one_of_many_gets(place, planned.units[0].id, rounds=50)


def one_of_many_gets(place: str, unit: int, rounds: int) -> None:
    """16 ask for a unit at once, and put an object at once."""
    for number in range(rounds):
        start = threading.Barrier(16)
        claimed: list[claims.UnitClaim] = []
        put: list[int] = []
        lost: list[str] = []

        def race(who: int) -> None:
            mine = located(place)
            start.wait(60)  # noqa: B023 - joined before the next round
            try:
                claimed.append(claims.take_claim(mine, unit))  # noqa: B023
            except qkvault.UnitTaken as error:
                lost.append(str(error))  # noqa: B023
            try:
                mine.bucket.put(f"{mine.key}/race-{number}", str(who).encode(), None)  # noqa: B023
                put.append(who)  # noqa: B023
            except Exception as error:
                lost.append(type(error).__name__)  # noqa: B023

        threads = [threading.Thread(target=race, args=(who,)) for who in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert (len(claimed), len(put), len(lost)) == (1, 1, 30)
        target = located(place)
        assert target.bucket.read(f"{target.key}/race-{number}", 99) == str(put[0]).encode()
        claimed[0].release()


def test_who_was_given_up_for_dead_changes_nothing(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 3600.0)
    monkeypatch.setattr(claims, "LEASE_S", 1.0)
    monkeypatch.setattr(claims, "_heart", claims._Heart())  # other tests' may be about to beat
    late, other = WORLD.open_writer(place), WORLD.other_run()
    stopped = late.begin(late.units[0])
    WORLD.fill(late, stopped)
    time.sleep(3.1)  # times are told in whole seconds
    with other.open_writer(place) as writer:
        other.write_pending(writer)
    kept = objects(place)
    with pytest.raises(qkvault.UnitTaken):
        late.commit(stopped)
    assert {n: d for n, d in objects(place).items() if not n.startswith(".")} == {
        n: d for n, d in kept.items() if not n.startswith(".")
    }
    late.finish()
    assert not qkvault.verify(place, full=True).damages


CHILD = """
import sys
from stand_in import World
import qkvault.chunks, qkvault.claims, stand_in, os, time
qkvault.chunks.UNIT_BYTES = stand_in.UNIT_BYTES
qkvault.claims.LEASE_S = 1.0
world = World()
with world.open_writer(sys.argv[1]) as writer:
    for unit in writer.pending():
        buffer = writer.begin(unit)
        world.fill(writer, buffer)
        print(unit.id, flush=True)
        writer.commit(buffer)
    writer.finish()
"""


@pytest.mark.parametrize("units", [1, 3])
def test_a_killed_run_goes_on(
    place: str, tmp_path: Path, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    WORLD.write(tmp_path / "local.vault")
    paths = f"{TESTS}:{TESTS / 'reliability'}:" + ":".join(sys.path)
    monkeypatch.setenv("PYTHONPATH", paths)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, place], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    with child:
        for _ in range(units):
            assert child.stdout.readline().strip().isdecimal()
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert qkvault.vault_state(place) == "unfinished"
    with pytest.raises(qkvault.VaultError, match="unfinished"):
        qkvault.open(place)
    time.sleep(3.1)
    monkeypatch.setattr(claims, "LEASE_S", 1.0)
    WORLD.write(place)
    assert objects(place) == tree(tmp_path / "local.vault")


def test_nothing_is_lost_to_failing_requests(
    place: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WORLD.write(tmp_path / "local.vault")
    with FaultyProxy(endpoint, share=0.05, seed=4) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        WORLD.write(place)
        assert not qkvault.verify(place, full=True).damages
        assert objects(place) == tree(tmp_path / "local.vault")
        assert sum(proxy.counts.values()) > 150
        assert min(proxy.counts.values()) > 0, proxy.counts


def test_what_is_missing_or_changed_is_never_shown(place: str) -> None:
    WORLD.write(place)
    target = located(place)
    shard = next(name for name in objects(place) if "/attention/c.0" in name)
    data = target.bucket.read(f"{target.key}/{shard}", 1 << 30)
    info = target.bucket.look(f"{target.key}/{shard}")
    assert data is not None
    assert info is not None
    flipped = bytes([data[0] ^ 1]) + data[1:]
    target.bucket.put(f"{target.key}/{shard}", flipped, info.e_tag)
    (damage,) = qkvault.verify(place, full=True).damages
    assert damage.path == shard
    target.bucket.remove([f"{target.key}/{shard}"])
    vault = qkvault.open(place)
    touched = [e for e in vault if f"b{e.bucket:04d}/" in shard]
    with pytest.raises(qkvault.VaultError, match="missing"):
        touched[0].attention[:, :]
    assert qkvault.verify(place).damages


def test_a_store_that_overlooks_conditions_is_refused(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Bucket.put

    def careless(self: Bucket, key: str, data: bytes, over: str | None) -> str | None:
        self.remove([key])
        return put(self, key, data, None)

    monkeypatch.setattr(Bucket, "put", careless)
    with pytest.raises(qkvault.ResourceError, match="If-None-Match"):
        WORLD.open_writer(place)
    assert objects(place) == {}


def test_status_and_a_taken_name(place: str) -> None:
    with WORLD.open_writer(place) as writer:
        unit = writer.units[0]
        buffer = writer.begin(unit)
        told = qkvault.status(place)
        assert (told.done, told.running, told.units) == (0, 1, len(writer.units))
        WORLD.fill(writer, buffer)
        writer.commit(buffer)
    assert qkvault.status(place).done == 1
    with pytest.raises(qkvault.InputError, match="already holds a vault"):
        qkvault.create(place, WORLD.spec, WORLD.records)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://bucket", "no vault's place"),
        ("s3://bucket/", "no vault's place"),
        ("ftp://host/x.vault", "no vault's place"),
    ],
)
def test_urls_that_name_no_place(url: str, said: str) -> None:
    with pytest.raises(qkvault.InputError, match=said):
        qkvault.open(url)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(qkvault.ResourceError, match=r"pip install 'qkvault\[s3\]'"):
        qkvault.open("s3://bucket/x.vault")
