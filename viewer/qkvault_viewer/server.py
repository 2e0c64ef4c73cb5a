"""Serving the viewer on this machine, or beyond it to those who have the token."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote

from qkvault import InputError, Place, QKVaultError, ResourceError, Vault

from .app import create_app
from .security import is_loopback

FIRST_PORT: Final = 8765
PORTS_TRIED: Final = 100
THREADS: Final = 8
TOKEN_LENGTH: Final = 8
_WAITRESS: Final[dict[str, Any]] = {
    "threads": THREADS,
    "ident": None,
    # Stalled clients must not keep others out, and select() cannot count so far.
    "connection_limit": 500,
    "channel_timeout": 60,
    "max_request_header_size": 32 << 10,
    "max_request_body_size": 4 << 10,
    # An answer is whole when it is sent: no thread is to wait for the client that reads it slowly.
    "outbuf_overflow": 8 << 20,
    "outbuf_high_watermark": 128 << 20,
    "log_socket_errors": False,
}


class Server:
    """A server that listens already, and answers once :meth:`run` is called.

    Attributes:
        url: address of the page, token included.
    """

    def __init__(self, app: Any, listening: socket.socket, url: str) -> None:
        from waitress import create_server

        from .early import Channel

        # A browser asks for several things at once: that some wait their turn is no warning.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self.url = url
        self._app = app
        self._channels: dict[int, Any] = {}
        poll = not hasattr(socket, "SO_EXCLUSIVEADDRUSE")  # Windows has no poll()
        self._server = create_server(
            app, map=self._channels, sockets=[listening], asyncore_use_poll=poll, **_WAITRESS
        )
        self._server.channel_class = Channel

    def run(self) -> None:
        """Answer until Ctrl-C or :meth:`stop`, then let go of port and vaults."""
        try:
            self._server.run()
        finally:
            self._server.task_dispatcher.shutdown()
            self._close_channels()
            for store in self._app.extensions["qkvault"].values():
                store.vault.close()

    def stop(self) -> None:
        """End :meth:`run` from another thread."""
        self._server.trigger.pull_trigger(self._end)

    def _end(self) -> None:
        # Whoever still answers wakes the loop when done, by a file that must be open until then.
        self._server.task_dispatcher.shutdown()
        self._close_channels()

    def _close_channels(self) -> None:
        from waitress.wasyncore import close_all

        close_all(self._channels, ignore_all=True)


def make_server(
    vaults: Sequence[Place | str],
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    framed_by: Sequence[str] = (),
) -> Server:
    """Open vaults and listen.

    Args:
        vaults: folders of finished vaults.
        host: name or address to listen on.
        port: to listen on; 0 takes the first free one from 8765.
        token: secret that a client must show; without one only this machine is served.
        framed_by: origins whose pages may show the viewer in a frame.

    Raises:
        InputError: no vault; a host beyond this machine without a token; a host unknown here.
        VaultError: a folder is not a finished vault.
        ResourceError: the port is taken, or may not be used.
    """
    token = token or None
    if token is not None and len(token) < TOKEN_LENGTH:
        raise InputError(
            f"a token of {len(token)} characters was given; use {TOKEN_LENGTH} or more"
        )
    if token is None and not is_loopback(host):
        raise InputError(
            f"listening on {host} shows the vaults to the network: give a secret with --token"
        )
    app = create_app(vaults, token, framed_by)
    listening = _listen(host, port)
    return Server(app, listening, _address(host, listening.getsockname()[1], token))


def serve(
    vaults: Sequence[Place | str],
    host: str = "127.0.0.1",
    port: int = 0,
    open_browser: bool = False,
    token: str | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve vaults until Ctrl-C.

    Args:
        vaults, host, port, token: as for :func:`make_server`.
        open_browser: show the page in the user's browser.
        on_ready: called with the page's address once it is listened on.

    Raises:
        As :func:`make_server`.
    """
    server = make_server(vaults, host, port, token)
    if on_ready is not None:
        on_ready(server.url)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
    opened = [store.vault for store in server._app.extensions["qkvault"].values()]
    threading.Thread(target=_build_tables, args=(opened,), daemon=True).start()
    server.run()


def _build_tables(vaults: Iterable[Vault]) -> None:
    """Build search tables ahead of the first question, which would meet any failure again."""
    for vault in vaults:
        try:
            vault.table.build()
        except (QKVaultError, OSError):
            continue


def _listen(host: str, port: int) -> socket.socket:
    wanted = [port] if port else range(FIRST_PORT, FIRST_PORT + PORTS_TRIED)
    name = host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(name, wanted[0], type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(f"cannot listen on {host}: {_reason(error)}") from None
    for number in wanted:
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # elsewhere it would let two servers share a port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address[0], number, *address[2:]))
            listening.listen(1024)
        except OSError as error:
            listening.close()
            if error.errno != errno.EADDRINUSE:
                raise ResourceError(f"cannot listen on {host}:{number}: {_reason(error)}") from None
        else:
            return listening
    if port:
        raise ResourceError(
            f"port {port} of {host} is taken: stop what uses it or give another --port"
        )
    last = FIRST_PORT + PORTS_TRIED - 1
    raise ResourceError(f"ports {FIRST_PORT} to {last} of {host} are taken: give another --port")


def _address(host: str, port: int, token: str | None) -> str:
    name = host.strip("[]")
    if name in ("0.0.0.0", "::", ""):
        name = socket.gethostname()
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
