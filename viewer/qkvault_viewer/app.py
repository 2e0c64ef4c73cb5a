"""The application: routes, page and static files behind the guard."""

from __future__ import annotations

import logging
import mimetypes
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flask import Flask, Response, request, send_from_directory
from werkzeug.exceptions import HTTPException

from qkvault import QKVaultError

from .failures import Failure, Refusal, from_error
from .joining import ENTRIES, joined
from .routes import JSON, Api, use_numbers
from .security import MAX_BODY, Guard
from .stores import open_stores

if TYPE_CHECKING:
    from qkvault import Place

    from .stores import Store

STATIC: Final = Path(__file__).parent / "static"
_LOG: Final = logging.getLogger("qkvault.viewer")

# Windows takes these from the registry, where other programs may have put something else.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/css", ".css")
mimetypes.add_type("image/svg+xml", ".svg")


def create_app(
    vaults: Sequence[Place | str], token: str | None = None, framed_by: Sequence[str] = ()
) -> Flask:
    """The viewer as a WSGI application.

    Args:
        vaults: folders of finished vaults; they stay open as long as the application lives.
        token: secret that every client must show; None answers to this machine's own names only.
        framed_by: origins whose pages may show the viewer in a frame, such as a notebook's.

    Raises:
        InputError: no vault is given.
        VaultError: a folder is not a finished vault.
    """
    stores = open_stores(vaults)
    app = Flask(__name__, static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # Both would answer with a redirect what is simply another address.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = True
    app.extensions["qkvault"] = stores
    use_numbers(app.url_map)
    app.register_blueprint(Api(stores, private=bool(token)).blueprint())
    _add_page(app)
    _add_failures(app, list(stores.values()))
    app.wsgi_app = Guard(app.wsgi_app, token, framed_by)  # type: ignore[method-assign]
    return app


def _add_page(app: Flask) -> None:
    def page() -> Response:
        return _file("index.html")

    def static(name: str) -> Response:
        return _file(name)

    app.add_url_rule("/", "page", page, provide_automatic_options=False)
    app.add_url_rule("/static/<path:name>", "static", static, provide_automatic_options=False)


def _file(name: str) -> Response:
    if name in ENTRIES and (STATIC / name).is_file():
        body = joined(STATIC, name)
        response = Response(body, content_type=mimetypes.guess_type(name)[0])
        response.set_etag(blake2b(body, digest_size=12).hexdigest())
        response.make_conditional(request)
    else:
        response = send_from_directory(STATIC, name)
    response.headers["Cache-Control"] = "no-cache"
    return response


def _add_failures(app: Flask, stores: Sequence[Store]) -> None:
    folders = {str(store.vault.path): store.title for store in stores}

    def refused(refusal: Refusal) -> Response:
        return _answer(refusal.failure)

    def failed(error: QKVaultError) -> Response:
        failure = from_error(error, folders)
        if failure.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _LOG.error("%s", error)
        return _answer(failure)

    def http(error: HTTPException) -> Response:
        return _answer(_of_status(error.code or 500))

    def unforeseen(error: Exception) -> Response:
        reference = secrets.token_hex(6)
        _LOG.error("internal error %s", reference, exc_info=error)
        message = f"the viewer ran into a defect; its log has the details under {reference}"
        return _answer(Failure(500, "internal", message, {"reference": reference}))

    app.register_error_handler(Refusal, refused)
    app.register_error_handler(QKVaultError, failed)
    app.register_error_handler(HTTPException, http)
    app.register_error_handler(Exception, unforeseen)


def _of_status(status: int) -> Failure:
    if status == HTTPStatus.NOT_FOUND:
        return Failure(404, "not_found", "there is nothing at this address")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers = {"Allow": "GET, HEAD"}
        return Failure(405, "method_not_allowed", "only GET and HEAD are answered", headers=headers)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return Failure(413, "too_large", "a request has no body here")
    return Failure(status, "bad_request", HTTPStatus(status).phrase.lower())


def _answer(failure: Failure) -> Response:
    response = Response(failure.body(), status=failure.status, content_type=JSON)
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(failure.headers)
    return response
