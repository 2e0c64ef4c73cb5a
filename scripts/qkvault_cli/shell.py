"""How the command line meets the user: errors become one line and an exit code."""

from __future__ import annotations

import errno
from typing import IO, Any

import click

from qkvault import QKVaultError, ResourceError


class Failure(click.ClickException):
    """A deliberate error on its way to the terminal: one line, and the error's own exit code."""

    def __init__(self, error: QKVaultError) -> None:
        super().__init__(" ".join(str(error).split()))
        self.exit_code = error.exit_code

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"qkvault: {self.format_message()}", err=True)


class Shell(click.Group):
    """A command group that turns QKVault's errors into exit codes 2, 3 and 4."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except QKVaultError as error:
            raise Failure(error) from error
        except MemoryError as error:
            message = "out of memory; lower --batch-tokens or free some memory, then run it again"
            raise Failure(ResourceError(message)) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS):
                raise
            message = f"{error.strerror}: {error.filename or 'the vault'}; run it again to resume"
            raise Failure(ResourceError(message)) from error
