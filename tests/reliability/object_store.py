"""An S3-compatible server on loopback (moto's), in a process of its own, and a bucket in it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "corpora"
SECRETS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(url: str, method: str = "GET") -> int:
    """Status of one request to loopback; 0 while nobody listens."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as told:
            return int(told.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="session", name="endpoint")
def serve_objects() -> Iterator[str]:
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    pytest.importorskip("moto.server", reason="moto, which stands in for S3, is not installed")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while request(f"{url}/moto-api/") == 0 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert request(f"{url}/{BUCKET}", "PUT") == 200
        yield url
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(name="bucket")
def give_access(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a bucket that the environment gives access to."""
    for name, value in {**SECRETS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}"
