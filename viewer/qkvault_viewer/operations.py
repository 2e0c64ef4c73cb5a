"""The addresses of the API as one table, from which routes and the OpenAPI document are made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Body = Literal["json", "frames"]

_BASE: Final = "/s/<store>/<tag>"
_EXAMPLE: Final = f"{_BASE}/ex/<nat:index>"
_LAYER: Final = "<stack>/<nat:layer>"
_SELECTION: Final = ("q", "where", "sort", "order")
_CONVERTED: Final = re.compile(r"<(?:[a-z]+:)?([a-z]+)>")


@dataclass(frozen=True)
class Operation:
    """One address that is answered.

    Attributes:
        name: of the method of :class:`qkvault_viewer.routes.Api` that answers it.
        rule: its address below the API's own, as Flask writes addresses.
        summary: what it is for, in a line.
        body: what an answer holds.
        query: parameters it takes.
    """

    name: str
    rule: str
    summary: str
    body: Body
    query: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The address as OpenAPI writes it."""
        return _CONVERTED.sub(r"{\1}", self.rule)

    @property
    def parts(self) -> list[str]:
        """Names of what is filled in in the address."""
        return _CONVERTED.findall(self.rule)


OPERATIONS: Final = (
    Operation("openapi", "/openapi.json", "this document", "json"),
    Operation("stores", "/stores", "the vaults being served", "json"),
    Operation("manifest", "/s/<store>", "one vault's shape", "json"),
    Operation(
        "examples",
        f"{_BASE}/examples",
        "the corpus table, a page at a time",
        "json",
        (*_SELECTION, "cursor", "limit"),
    ),
    Operation(
        "columns", f"{_BASE}/columns", "what the table can be sorted and filtered by", "json"
    ),
    Operation(
        "position",
        f"{_BASE}/position/<nat:index>",
        "where an example stands in a list",
        "json",
        _SELECTION,
    ),
    Operation("find", f"{_BASE}/find", "an example's number from its id", "json", ("id",)),
    Operation("example", _EXAMPLE, "tokens, labels and prediction of one example", "json"),
    Operation(
        "thumbnails",
        f"{_EXAMPLE}/thumbnails/<stack>",
        "every head of every layer, small",
        "frames",
        ("layers",),
    ),
    Operation(
        "metrics", f"{_EXAMPLE}/metrics/<stack>", "numbers of every head of every layer", "frames"
    ),
    Operation(
        "layer_maps",
        f"{_EXAMPLE}/attention/{_LAYER}",
        "attention of every head of a layer",
        "frames",
        ("as", "rows"),
    ),
    Operation(
        "head_map",
        f"{_EXAMPLE}/attention/{_LAYER}/<nat:head>",
        "attention of one head",
        "frames",
        ("as", "rows"),
    ),
    Operation(
        "row",
        f"{_EXAMPLE}/row/{_LAYER}/<nat:query>",
        "what one token attends to, by head",
        "frames",
    ),
    Operation(
        "column",
        f"{_EXAMPLE}/column/{_LAYER}/<nat:key>",
        "what attends to one token, by head",
        "frames",
    ),
    Operation(
        "vectors",
        f"{_EXAMPLE}/vectors/{_LAYER}/<nat:head>",
        "vectors that one head works with",
        "frames",
        ("parts",),
    ),
)
