"""A client of the viewer's API for tests: asks as a browser on this machine would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qkvault_viewer.wire import Frame, decode

if TYPE_CHECKING:
    from flask import Flask
    from werkzeug.test import TestResponse


class Asker:
    """Asks one application.

    Attributes:
        base: start of the addresses of its first vault's data.
    """

    def __init__(self, app: Flask, **headers: str) -> None:
        self.app = app
        self._headers = headers
        self._client = app.test_client(use_cookies=False)
        self.base = next(iter(app.extensions["qkvault"].values())).base

    def get(self, path: str, method: str = "GET", **headers: str) -> TestResponse:
        """The answer to one request; header names have ``_`` for ``-``."""
        sent = {name.replace("_", "-"): text for name, text in {**self._headers, **headers}.items()}
        environ = {}
        if path.startswith("//"):  # the client would take the first part for a host
            path, environ = "/", {"PATH_INFO": path}
        if "Content-Length" in sent:
            environ["CONTENT_LENGTH"] = sent["Content-Length"]
        return self._client.open(
            path, method=method, headers=sent, environ_overrides=environ, buffered=True
        )

    def json(self, path: str) -> Any:
        """The document at ``path``, which must be there."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        assert answer.content_type == "application/json"
        return answer.json

    def frames(self, path: str) -> list[Frame]:
        """The frames below ``base``, which must be there."""
        answer = self.get(self.base + path)
        assert answer.status_code == 200, answer.text
        assert answer.content_type == "application/octet-stream"
        return decode(answer.data)

    def refused(self, path: str, status: int, kind: str, **headers: str) -> dict[str, Any]:
        """The error that ``path`` is answered with, which must be of this status and kind."""
        answer = self.get(path, **headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.json is not None
        error: dict[str, Any] = answer.json["error"]
        assert (error["status"], error["kind"]) == (status, kind)
        assert error["message"]
        assert "\n" not in error["message"]
        return error
