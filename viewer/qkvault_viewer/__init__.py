"""Looking at vaults in a browser: an HTTP server that sends a page, and what one view of it needs.

Imports run down: wire, cache, failures <- stores, slices, documents <- parameters <- routes <-
app <- server <- notebook; security and joining stand beside. Flask is met in routes and app only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import create_app
    from .figures import Choice, draw_figure
    from .server import make_server, serve

__all__ = ["Choice", "create_app", "draw_figure", "make_server", "serve"]

_HOMES = {
    "Choice": "figures",
    "create_app": "app",
    "draw_figure": "figures",
    "make_server": "server",
    "serve": "server",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
