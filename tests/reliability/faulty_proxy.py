"""A proxy before an S3 server, on loopback, that fails some requests as stores do."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

KINDS = ("500", "503", "slow", "answer lost")
_SLOW_S = 0.3


class FaultyProxy:
    """Passes requests on, but for a share of them.

    ``answer lost`` does what was asked and then answers 500: what a client must find out.
    """

    def __init__(self, target: str, share: float, seed: int) -> None:
        self.counts = dict.fromkeys((*KINDS, "passed"), 0)
        self._host = urlsplit(target).netloc
        self._random = Random(seed)
        self._share = share
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def _any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, asked: BaseHTTPRequestHandler) -> None:
        body = asked.rfile.read(int(asked.headers.get("Content-Length") or 0))
        fault = self._draw()
        if fault in ("500", "503"):
            self._answer(asked, int(fault), {}, b"")
            return
        if fault == "slow":
            time.sleep(_SLOW_S)
        connection = http.client.HTTPConnection(self._host, timeout=60)
        try:
            connection.request(asked.command, asked.path, body, dict(asked.headers))
            got = connection.getresponse()
            data = got.read()
        finally:
            connection.close()
        if fault == "answer lost":
            self._answer(asked, 500, {}, b"")
            return
        self._answer(asked, got.status, dict(got.getheaders()), data)

    def _draw(self) -> str:
        with self._lock:
            fault = self._random.choice(KINDS) if self._random.random() < self._share else "passed"
            self.counts[fault] += 1
            return fault

    def _answer(
        self, asked: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes
    ) -> None:
        asked.send_response(status)
        length = headers.get("Content-Length", str(len(data)))
        dropped = ("content-length", "transfer-encoding", "connection", "date", "server")
        for name, value in headers.items():
            if name.lower() not in dropped:
                asked.send_header(name, value)
        asked.send_header("Content-Length", length if asked.command == "HEAD" else str(len(data)))
        asked.end_headers()
        if asked.command != "HEAD":
            asked.wfile.write(data)
