"""The addresses of the API: each reads its parameters, asks once, and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from flask import Blueprint, Response, request
from werkzeug.routing import BaseConverter, Map

from . import documents, parameters
from .cache import SizedCache
from .failures import Failure, Refusal
from .openapi import openapi_document
from .operations import OPERATIONS
from .slices import Cut, Slicer
from .stores import API_VERSION, Store
from .wire import encode

if TYPE_CHECKING:
    from qkvault import Example

JSON: Final = "application/json"
FRAMES: Final = "application/octet-stream"
ROOT: Final = f"/api/v{API_VERSION}"
CACHE_BYTES: Final = 128 << 20


class NumberConverter(BaseConverter):
    """A number in an address: one to nine ASCII digits."""

    regex = parameters.NUMBER

    def to_python(self, value: str) -> int:
        """The number."""
        return int(value)


class Api:
    """Answers requests about some vaults; what was answered lately is answered from memory.

    Args:
        stores: the vaults, by name.
        private: whether an answer may be kept only by the browser that asked.
    """

    def __init__(self, stores: Mapping[str, Store], *, private: bool) -> None:
        self._stores = stores
        self._slicer = Slicer()
        self._answers: SizedCache[bytes] = SizedCache(CACHE_BYTES, len)
        scope = "private" if private else "public"
        self._forever = f"{scope}, max-age=31536000, immutable"

    def blueprint(self) -> Blueprint:
        """All addresses under ``/api``."""
        api = Blueprint("api", __name__, url_prefix=ROOT)
        for each in OPERATIONS:
            view = getattr(self, each.name)
            api.add_url_rule(
                each.rule, view_func=view, methods=["GET"], provide_automatic_options=False
            )
        return api

    def openapi(self) -> Response:
        """``/openapi.json``"""
        parameters.single(request.args, ())
        return _changing(openapi_document(ROOT))

    def stores(self) -> Response:
        """``/stores``"""
        parameters.single(request.args, ())
        return _changing(documents.store_list(self._stores.values()))

    def manifest(self, store: str) -> Response:
        """``/s/{store}``"""
        parameters.single(request.args, ())
        return _changing(documents.manifest(self._store(store)))

    def examples(self, store: str, tag: str) -> Response:
        """``{base}/examples``"""
        given = parameters.single(request.args, (*parameters.Selection.NAMES, "cursor", "limit"))
        found = self._store(store, tag)
        wanted = parameters.Selection.of(given)
        cursor, limit = parameters.cursor(given), parameters.limit(given)

        def make() -> dict[str, Any]:
            page = found.vault.table.rows(
                wanted.query, wanted.where, wanted.sort, wanted.descending, cursor, limit
            )
            rows = [documents.table_row(row) for row in page.rows]
            return {"total": page.total, "next": page.next, "rows": rows}

        return self._json(make)

    def columns(self, store: str, tag: str) -> Response:
        """``{base}/columns``"""
        parameters.single(request.args, ())
        table = self._store(store, tag).vault.table
        return self._json(
            lambda: {"columns": [documents.column_document(each) for each in table.columns()]}
        )

    def position(self, store: str, tag: str, index: int) -> Response:
        """``{base}/position/{i}``"""
        given = parameters.single(request.args, parameters.Selection.NAMES)
        found = self._store(store, tag)
        wanted = parameters.Selection.of(given)
        return self._json(
            lambda: documents.position_document(
                found.vault.table.position(
                    index, wanted.query, wanted.where, wanted.sort, wanted.descending
                )
            )
        )

    def find(self, store: str, tag: str) -> Response:
        """``{base}/find``"""
        given = parameters.single(request.args, ("id",))
        vault = self._store(store, tag).vault
        return self._json(lambda: {"index": vault.by_id(given.get("id", "")).index})

    def example(self, store: str, tag: str, index: int) -> Response:
        """``{base}/ex/{i}``"""
        parameters.single(request.args, ())
        vault = self._store(store, tag).vault
        return self._json(lambda: documents.example_document(vault[index]))

    def thumbnails(self, store: str, tag: str, index: int, stack: str) -> Response:
        """``{base}/ex/{i}/thumbnails/{stack}``"""
        example, given = self._asked(store, tag, index, ("layers",))
        layers = parameters.span(given, "layers")
        return self._frames(self._slicer.thumbnails(example, stack, layers))

    def metrics(self, store: str, tag: str, index: int, stack: str) -> Response:
        """``{base}/ex/{i}/metrics/{stack}``"""
        example, _ = self._asked(store, tag, index)
        return self._frames(self._slicer.metrics(example, stack))

    def layer_maps(self, store: str, tag: str, index: int, stack: str, layer: int) -> Response:
        """``{base}/ex/{i}/attention/{stack}/{layer}``"""
        example, given = self._asked(store, tag, index, ("as", "rows"))
        form, rows = parameters.form(given), parameters.span(given, "rows")
        return self._frames(self._slicer.layer_maps(example, stack, layer, form, rows))

    def head_map(
        self, store: str, tag: str, index: int, stack: str, layer: int, head: int
    ) -> Response:
        """``{base}/ex/{i}/attention/{stack}/{layer}/{head}``"""
        example, given = self._asked(store, tag, index, ("as", "rows"))
        form, rows = parameters.form(given), parameters.span(given, "rows")
        return self._frames(self._slicer.head_map(example, stack, layer, head, form, rows))

    def row(self, store: str, tag: str, index: int, stack: str, layer: int, query: int) -> Response:
        """``{base}/ex/{i}/row/{stack}/{layer}/{query}``"""
        example, _ = self._asked(store, tag, index)
        return self._frames(self._slicer.row(example, stack, layer, query))

    def column(
        self, store: str, tag: str, index: int, stack: str, layer: int, key: int
    ) -> Response:
        """``{base}/ex/{i}/column/{stack}/{layer}/{key}``"""
        example, _ = self._asked(store, tag, index)
        return self._frames(self._slicer.column(example, stack, layer, key))

    def vectors(
        self, store: str, tag: str, index: int, stack: str, layer: int, head: int
    ) -> Response:
        """``{base}/ex/{i}/vectors/{stack}/{layer}/{head}``"""
        example, given = self._asked(store, tag, index, ("parts",))
        parts = parameters.parts(given)
        return self._frames(self._slicer.vectors(example, stack, layer, head, parts))

    def _store(self, name: str, tag: str | None = None) -> Store:
        store = self._stores.get(name)
        if store is None:
            raise Refusal(Failure(404, "not_found", "no vault of this name is being served"))
        if tag is not None and tag != store.tag:
            message = "the vault has other content by now: start again from its manifest"
            raise Refusal(Failure(409, "stale", message, {"base": store.base}))
        return store

    def _asked(
        self, store: str, tag: str, index: int, known: Collection[str] = ()
    ) -> tuple[Example, dict[str, str]]:
        given = parameters.single(request.args, known)
        return self._store(store, tag).vault[index], given

    def _json(self, make: Callable[[], dict[str, Any]]) -> Response:
        return self._lasting(JSON, lambda: _dumped(make()))

    def _frames(self, cut: Cut) -> Response:
        if cut.size > documents.BODY_LIMIT:
            message = (
                f"{cut.size} bytes were asked for, at most {documents.BODY_LIMIT} are sent:"
                " ask for one head, for some rows or for fewer layers"
            )
            raise Refusal(Failure(413, "too_large", message))
        return self._lasting(FRAMES, lambda: encode(*cut.read()))

    def _lasting(self, kind: str, make: Callable[[], bytes]) -> Response:
        """An answer that its address fixes: kept here, and by browsers for ever."""
        address = request.full_path
        tag = blake2b(address.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        if tag in request.if_none_match:
            response = Response(status=304)
        else:
            response = Response(self._answers.get(address, make), content_type=kind)
        response.headers["Cache-Control"] = self._forever
        response.set_etag(tag)
        return response


def use_numbers(rules: Map) -> None:
    """Let addresses have ``<nat:name>``."""
    rules.converters["nat"] = NumberConverter


def _changing(document: Mapping[str, Any]) -> Response:
    """An answer that may be another next time; asked again, it costs a header if it is not."""
    body = _dumped(document)
    response = Response(body, content_type=JSON)
    response.headers["Cache-Control"] = "no-cache"
    response.set_etag(blake2b(body, digest_size=12).hexdigest())
    response.make_conditional(request)
    return response


def _dumped(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
