"""What stands before and around the application: who may ask, and the headers of every answer.

Plain WSGI, so that no answer can leave without passing here: not the framework's own errors, not a
static file, not a redirect.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

from .failures import Failure

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "worker-src 'self'; img-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {frames}; require-trusted-types-for 'script'"
)
CONTENT_SECURITY_POLICY: Final = _POLICY.format(frames="'self'")
_FIXED: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)
HEADERS: Final = (("Content-Security-Policy", CONTENT_SECURITY_POLICY), *_FIXED)
MAX_BODY: Final = 1024
MAX_URL: Final = 8192
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+)(?::[0-9]{1,5})?", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address (IPv6 also in brackets), is this machine alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str | None:
    """The name in a Host header, without its port; None if the header is no host at all."""
    match = _HOST.fullmatch(header)
    return match[1] if match else None


class Guard:
    """Wraps an application: refuses what may not be asked, dresses whatever is answered.

    Args:
        application: asked once a request is found fit.
        token: what a client must show; None if only this machine's own names are answered.
        framed_by: origins besides its own whose pages may show this one in a frame.
    """

    def __init__(
        self, application: WSGIApplication, token: str | None, framed_by: Sequence[str] = ()
    ) -> None:
        self._application = application
        policy = _POLICY.format(frames=" ".join(["'self'", *framed_by]))
        self._headers = (("Content-Security-Policy", policy), *_FIXED)
        self._access = Access(token) if token else None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, as WSGI has it."""

        def start(status: str, headers: list[tuple[str, str]], *more: object) -> object:
            return start_response(status, [*headers, *self._headers], *more)  # type: ignore[arg-type]

        failure = self._unfit(environ)
        if failure is None and self._access is not None:
            entry = self._access.entry(environ)
            if entry is not None:
                start("303 See Other", [*entry, ("Cache-Control", "no-store")])
                return [b""]
            failure = self._access.refusal(environ)
        if failure is not None:
            return _answer(failure, environ, start)  # type: ignore[arg-type]
        return self._application(environ, start)  # type: ignore[arg-type]

    def _unfit(self, environ: WSGIEnvironment) -> Failure | None:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            message = "only GET and HEAD are answered"
            return Failure(405, "method_not_allowed", message, headers={"Allow": "GET, HEAD"})
        host = host_name(environ.get("HTTP_HOST", ""))
        if host is None or not (self._access or is_loopback(host)):
            message = "this server answers to localhost only; give it a --token to use other names"
            return Failure(400, "bad_host", message)
        if _foreign(environ):
            return Failure(403, "cross_site", "pages of other sites may not ask this server")
        if _is_large(environ.get("CONTENT_LENGTH")) or environ.get("HTTP_TRANSFER_ENCODING"):
            return Failure(413, "too_large", "a request has no body here")
        url = len(environ.get("PATH_INFO", "")) + len(environ.get("QUERY_STRING", ""))
        if url > MAX_URL:
            return Failure(413, "too_large", f"an address has at most {MAX_URL} characters")
        return None


class Access:
    """The token: shown once in the address, from then on as a cookie, or as a header.

    The cookie holds a value derived from the token. Its name too, since cookies do not tell ports
    apart and two servers on one machine would put out each other's.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        derived = hmac.new(self._token, b"qkvault viewer cookie", sha256).hexdigest()
        self._name, self._value = f"qkvault-{derived[:8]}", derived[8:]

    def entry(self, environ: WSGIEnvironment) -> list[tuple[str, str]] | None:
        """Headers that store the cookie and lead to the same address without its token.

        None if the address carries no token, or a wrong one.
        """
        query = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        shown = [value for name, value in query if name == "token"]
        if not any(self._fits(value.encode(errors="surrogateescape")) for value in shown):
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        # One leading slash: "//host" would lead the browser to another server.
        path = "/" + environ.get("PATH_INFO", "").lstrip("/\\")
        target = quote(path.encode("latin-1"), safe="/") + (f"?{rest}" if rest else "")
        cookie = f"{self._name}={self._value}; HttpOnly; SameSite=Strict; Path=/"
        return [("Location", target), ("Set-Cookie", cookie), ("Content-Length", "0")]

    def refusal(self, environ: WSGIEnvironment) -> Failure | None:
        """Why the request may not pass; None if it shows the token or the cookie."""
        scheme, _, shown = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() in ("bearer", "token") and self._fits(_raw(shown.strip())):
            return None
        for pair in environ.get("HTTP_COOKIE", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._name and hmac.compare_digest(_raw(value), self._value.encode()):
                return None
        message = "a token is needed: open the address that qkvault view printed"
        return Failure(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})

    def _fits(self, shown: bytes) -> bool:
        return hmac.compare_digest(shown, self._token)


def _raw(header: str) -> bytes:
    # WSGI hands headers over as Latin-1 strings of the bytes that came.
    return header.encode("latin-1", "replace")


def _foreign(environ: WSGIEnvironment) -> bool:
    """Whether a browser says that another site's page asks; following a link from there is fine."""
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    navigates = environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
    return site in ("cross-site", "same-site") and not navigates


def _is_large(length: str | None) -> bool:
    if not length:
        return False
    return not (length.isascii() and length.isdecimal() and int(length[:20]) <= MAX_BODY)


def _answer(failure: Failure, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    body = failure.body()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *failure.headers.items(),
    ]
    start(f"{failure.status} {HTTPStatus(failure.status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
