"""The table's file: kept, found again, rebuilt when it is lost or damaged, shared, and bounded."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from table_source import SourceInMemory, make_record

from qkvault.errors import ResourceError, VaultError
from qkvault.table import Table
from qkvault.table.cache import cache_folder, remove_old_tables


def _source(count: int = 2000, **options) -> SourceInMemory:
    records = [
        make_record(f"id{n}", f"word{n % 7} text {n}", label=n % 2, columns={"k": n % 13})
        for n in range(count)
    ]
    return SourceInMemory(records, **options)


def _answers(table: Table) -> list:
    return [
        table.rows(query="word3", where={"label": 1}, sort="k", descending=True, limit=9),
        table.ids(sort="id").tolist(),
        table.columns(),
    ]


def test_table_is_kept_under_the_digest_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, again = _source(), _source()
    expected = _answers(Table(first))
    assert [path.name for path in (tmp_path / "qkvault").iterdir()] == ["0123456789abcdef.sqlite"]
    assert _answers(Table(again)) == expected
    assert (first.read, again.read) == (1, 0)


def test_home_is_used_where_no_cache_folder_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == Path.home() / ".cache" / "qkvault"


def test_a_digest_that_is_no_file_name_stays_in_the_folder(tmp_path: Path) -> None:
    source = _source(10, digest="../../escape")
    Table(source, folder=tmp_path / "cache").build()
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(os.urandom(4096))


def _other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()


def _other_vault(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE about SET value='other' WHERE key='digest'")
    connection.close()


def _zeroed_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(bytes(path.stat().st_size - 3 * 4096))


def _bad_order(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sorting SET rows=zeroblob(length(rows))")
    connection.close()


def _lost_rows(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM example WHERE n > 100")
    connection.close()


DAMAGES = [_truncate, _empty, _garbage, _other_version, _other_vault]
DAMAGES += [_zeroed_inside, _bad_order, _lost_rows, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_rebuilt(tmp_path: Path, damage) -> None:
    table = Table(_source(), folder=tmp_path)
    expected = _answers(table)
    table.close()
    (path,) = tmp_path.iterdir()
    damage(path)
    source = _source()
    assert _answers(Table(source, folder=tmp_path)) == expected
    assert source.read == 1
    assert [path.name for path in tmp_path.iterdir()] == ["0123456789abcdef.sqlite"]


def test_a_table_whose_file_is_removed_while_open_goes_on(tmp_path: Path) -> None:
    table = Table(_source(), folder=tmp_path)
    expected = _answers(table)
    for path in tmp_path.iterdir():
        path.unlink()
    assert _answers(table) == expected
    table.close()
    assert _answers(table) == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    _served_from_a_temporary_file(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    _served_from_a_temporary_file(tmp_path / "file" / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_unfinished_vault_leaves_nothing_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _served_from_a_temporary_file(tmp_path / "cache", complete=False)
    assert list(tmp_path.iterdir()) == []


def _served_from_a_temporary_file(folder: Path, **options) -> None:
    source = _source(**options)
    table = Table(source, folder=folder)
    assert table.rows(query="word3").total == 286
    assert table.rows(query="word3", sort="id").total == 286
    assert source.read == 1
    table.close()


def test_no_room_anywhere_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("qkvault.table.build._prepare", full)
    with pytest.raises(ResourceError, match="disk is full"):
        Table(_source(), folder=tmp_path / "cache").build()
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_sqlite_without_full_text_search_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise sqlite3.OperationalError("no such module: fts5")

    monkeypatch.setattr("qkvault.table.build._prepare", without)
    with pytest.raises(ResourceError, match="no full-text search"):
        Table(_source(), folder=tmp_path).build()


def test_a_vault_that_lies_about_its_records(tmp_path: Path) -> None:
    class Short(SourceInMemory):
        def __len__(self) -> int:
            return 2001

    with pytest.raises(VaultError, match="says 2001 examples, its records are 2000"):
        Table(Short(_source().records), folder=tmp_path).build()

    class Long(SourceInMemory):
        def __len__(self) -> int:
            return 1999

    with pytest.raises(VaultError, match="says 1999 examples"):
        Table(Long(_source().records), folder=tmp_path).build()
    assert list(tmp_path.iterdir()) == []


def test_hostile_values_are_kept_without_harm(tmp_path: Path) -> None:
    columns = {
        "inf": float("inf"),
        "nan": float("nan"),
        "big": 10**400,
        "large": 2**70,
        "quote\"'; DROP TABLE example;--": 1,
        "$[0]": {"a": [1, "\ud800"]},
        "surrogate \ud800": "\ud800",
        "nul\0": "a\0b",
        "index": "mine",
        "columns.index": "too",
        "": "blank",
        "long": "y" * 5000,
    }
    records = [make_record("\ud800", "text", label="<script>\0", columns=columns)]
    records += [make_record(f"{n}", "x", columns={f"c{n}": n}) for n in range(400)]
    table = Table(SourceInMemory(records), folder=tmp_path)
    row = table.rows().rows[0]
    assert row["id"] == "?"
    assert row["label"] == "<script>\0"
    assert row["columns"]["inf"] is None
    assert row["columns"]["big"] is None
    assert row["columns"]["large"] == float(2**70)
    assert row["columns"]["$[0]"] == {"a": [1, "?"]}
    assert row["columns"]["nul\0"] == "a\0b"
    names = [column.name for column in table.columns()]
    assert len(names) == 7 + 256
    for name in names[:30]:
        page = table.rows(sort=name, limit=401)
        assert page.total == 401
    for name in ("columns.index", "columns.columns.index", "", "quote\"'; DROP TABLE example;--"):
        assert table.ids(sort=name)[0] == 0
    assert table.ids(where={"columns.index": "mine"}).tolist() == [0]


def test_many_threads_share_a_table(tmp_path: Path) -> None:
    source = _source()
    table = Table(source, folder=tmp_path)
    expected = _answers(Table(_source(), folder=tmp_path / "other"))
    wrong: list[object] = []

    def ask() -> None:
        for _ in range(20):
            found = _answers(table)
            if found != expected:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert source.read == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_goes_on(tmp_path: Path) -> None:
    table = Table(_source(), folder=tmp_path)
    expected = _answers(table)
    held = threading.Thread(target=lambda: table._building.acquire())
    held.start()
    held.join()  # a thread of the parent holds the lock at the time of the fork
    for ask in (lambda: _answers(table), lambda: (table.close(), _answers(table))[1]):
        child = os.fork()
        if child == 0:
            os._exit(0 if ask() == expected else 1)
        for _ in range(200):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        assert (done, status) == (child, 0)
    table._building.release()
    assert _answers(table) == expected


def test_two_builders_at_once_leave_one_sound_file(tmp_path: Path) -> None:
    tables = [Table(_source(), folder=tmp_path) for _ in range(4)]
    threads = [threading.Thread(target=table.build) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["0123456789abcdef.sqlite"]
    assert len({str(_answers(table)) for table in tables}) == 1


def test_old_tables_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "older", "oldest"]):
        path = tmp_path / f"{name}.sqlite"
        path.write_bytes(bytes(1000))
        os.utime(path, (1e9 - age, 1e9 - age))
    dead = tmp_path / "x.sqlite.partial"
    dead.write_bytes(b"")
    os.utime(dead, (1e9, 1e9))
    alive = tmp_path / "y.sqlite.partial"
    alive.write_bytes(b"")
    remove_old_tables(tmp_path, keep=tmp_path / "oldest.sqlite", limit=2500)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"new.sqlite", "old.sqlite", "oldest.sqlite", "y.sqlite.partial"}


def test_progress_rises_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    table = Table(_source(), folder=tmp_path)
    assert not table.ready
    table.build(shares.append)
    assert table.ready
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)


def test_the_same_vault_gives_the_same_answers_from_any_build(tmp_path: Path) -> None:
    first = Table(_source(), folder=tmp_path / "a")
    second = Table(_source(), folder=tmp_path / "b")
    assert first.rows(sort="k", limit=5).next == second.rows(sort="k", limit=5).next
    assert np.array_equal(first.ids(sort="k"), second.ids(sort="k"))
