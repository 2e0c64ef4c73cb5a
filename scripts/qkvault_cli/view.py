"""``qkvault view``: serve vaults to a browser on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .places import PLACE

if TYPE_CHECKING:
    import qkvault


def serve_vaults(
    paths: list[qkvault.Place], host: str, port: int, token: str | None, browse: bool
) -> None:
    """Serve until Ctrl-C, printing the page's address once it answers."""
    from qkvault_viewer import serve

    def announce(url: str) -> None:
        click.echo(f"Viewing {', '.join(path.name for path in paths)} at {url}  (Ctrl-C ends it)")

    serve(paths, host=host, port=port, token=token, open_browser=browse, on_ready=announce)


host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
)
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port; the first free from 8765 on."
)
token_option = click.option(
    "--token", envvar="QKVAULT_TOKEN", help="Secret that a browser must show; needed off loopback."
)
browse_option = click.option(
    "--open/--no-open", "browse", default=True, show_default=True, help="Open a browser."
)


@click.command()
@click.argument("vaults", nargs=-1, required=True, type=PLACE)
@host_option
@port_option
@token_option
@browse_option
def view(
    vaults: tuple[qkvault.Place, ...], host: str, port: int, token: str | None, browse: bool
) -> None:
    """Look at one or more VAULTS in a browser.

    \b
    Examples:
      qkvault view mrpc.vault
      qkvault view base.vault tuned.vault --port 9000 --no-open
    """
    serve_vaults(list(vaults), host, port, token, browse)
