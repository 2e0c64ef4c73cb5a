"""The server with real sockets: where it listens, how it ends, how it bears a crowd."""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import qkvault
from bench_load import LONG, crowd, make_vault, memory_bars, served, small_slices, stalled
from qkvault_viewer import make_server, serve
from qkvault_viewer import server as server_module
from qkvault_viewer.security import CONTENT_SECURITY_POLICY

if TYPE_CHECKING:
    from qkvault_viewer.server import Server


@contextmanager
def running(server: Server) -> Iterator[tuple[str, int]]:
    """Host and port of a server that answers inside the block."""
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        address = urlsplit(server.url)
        assert address.hostname
        assert address.port
        yield address.hostname, address.port
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def get(
    at: tuple[str, int], path: str, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(*at, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_it_answers_and_lets_go(vault_path: Path) -> None:
    server = make_server([vault_path])
    with running(server) as at:
        status, headers, body = get(at, "/api/v1/stores")
        assert status == 200
        assert b"some-pairs" in body
        assert "Server" not in headers
        assert get(at, "/", Host="evil.com")[0] == 400
        base = next(iter(server._app.extensions["qkvault"].values())).base
        assert get(at, f"{base}/ex/0/thumbnails/encoder")[2][:4] == b"QKVW"
        page = get(at, "/")
        assert page[0] == 200
        assert page[1]["Content-Security-Policy"]
        assert page[2].lstrip().lower().startswith(b"<!doctype html>")
    with pytest.raises(OSError, match="refused"):
        get(at, "/api/v1/stores")


def test_each_server_takes_the_next_free_port(vault_path: Path) -> None:
    first, second = make_server([vault_path]), make_server([vault_path])
    with running(first) as (_, one), running(second) as (_, other):
        assert server_module.FIRST_PORT <= one < other
        with pytest.raises(qkvault.ResourceError, match=f"port {one} of 127.0.0.1 is taken"):
            make_server([vault_path], port=one)


def test_serve_says_where_it_is(vault_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, opened, servers = [], threading.Event(), []
    monkeypatch.setattr(server_module.webbrowser, "open", lambda url: opened.set())
    make = server_module.make_server
    monkeypatch.setattr(
        server_module, "make_server", lambda *args: servers.append(make(*args)) or servers[0]
    )
    thread = threading.Thread(
        target=lambda: serve([vault_path], on_ready=said.append, open_browser=True)
    )
    thread.start()
    assert opened.wait(30)
    (url,) = said
    address = urlsplit(url)
    assert get((address.hostname, address.port), "/api/v1/stores")[0] == 200
    servers[0].stop()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_the_network_is_not_served_without_a_token(vault_path: Path, host: str) -> None:
    with pytest.raises(qkvault.InputError, match="--token"):
        make_server([vault_path], host=host)
    with pytest.raises(qkvault.InputError, match="--token"):
        make_server([vault_path], host=host, token="")


def test_a_token_must_have_some_length(vault_path: Path) -> None:
    with pytest.raises(qkvault.InputError, match="7 characters"):
        make_server([vault_path], host="0.0.0.0", token="1234567")


def test_an_unknown_host_is_an_error(vault_path: Path) -> None:
    with pytest.raises(qkvault.QKVaultError, match="cannot listen on"):
        make_server([vault_path], host="no.such.host.invalid", token="long enough")


def test_the_network_is_served_with_a_token(vault_path: Path) -> None:
    server = make_server([vault_path], host="0.0.0.0", token="long & enough")
    address = urlsplit(server.url)
    assert address.query == "token=long%20%26%20enough"
    with running(server):
        at = ("127.0.0.1", address.port)
        assert get(at, "/api/v1/stores")[0] == 401
        status, headers, _ = get(at, f"/?{address.query}")
        assert (status, headers["Location"]) == (303, "/")
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert get(at, "/api/v1/stores", Cookie=cookie, Host="any.name")[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status", "kind"),
    [
        (b"GARBAGE\r\n\r\n", 400, "bad_request"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n",
            413,
            "too_large",
        ),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431, "too_large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 40_000, 431, "too_large"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: zip\r\n\r\n",
            413,
            "too_large",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000,
            413,
            "too_large",
        ),
    ],
)
def test_broken_requests_are_refused_and_forgotten(
    vault_path: Path, request_bytes: bytes, status: int, kind: str
) -> None:
    with running(make_server([vault_path])) as at:
        with socket.create_connection(at, timeout=10) as client:
            client.sendall(request_bytes)
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert answer.status == status
            assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
            assert answer.headers["Content-Type"] == "application/json"
            error = json.loads(answer.read())["error"]
            assert (error["status"], error["kind"]) == (status, kind)
        assert get(at, "/api/v1/stores")[0] == 200


def test_stalled_clients_keep_nobody_waiting(
    vault_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = make_server([vault_path])
    base = next(iter(server._app.extensions["qkvault"].values())).base
    with running(server) as at, stalled(at, 60):
        met = crowd(at, small_slices(base, 12, (1, 4)), clients=12, each=20)
    assert met.errors == []
    assert len(met.seconds) == 12 * 20
    assert not caplog.records


@pytest.mark.slow
def test_a_crowd_beside_stalled_clients_fares_as_one_alone(vault_path: Path) -> None:
    with served(vault_path) as server:
        paths = small_slices(server.base, 12, (1, 4))
        crowd(server.at, paths, 2, len(paths))
        alone = crowd(server.at, paths, clients=16, each=200)
        with stalled(server.at, 60):
            beside = crowd(server.at, paths, clients=16, each=200)
        many = crowd(server.at, paths, clients=50, each=50)
    for met in (alone, beside, many):
        print(f"median {statistics.median(met.seconds) * 1e3:.1f} ms, p99 {met.p99 * 1e3:.1f} ms")
        assert met.errors == []
    assert statistics.median(beside.seconds) <= 3 * statistics.median(alone.seconds)


@pytest.mark.slow
def test_long_texts_are_sent_without_being_held(tmp_path: Path) -> None:
    with served(make_vault(tmp_path / "long.vault", [LONG], 1, 2)) as server:
        bars = memory_bars(server)
    print(bars)
    assert [what for what, measured, bar in bars if measured > bar] == []
