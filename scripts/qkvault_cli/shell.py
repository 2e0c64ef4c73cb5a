"""How the command line meets the user: errors become one line and an exit code."""

from __future__ import annotations

import errno
from typing import Any, NoReturn

import click

from qkvault import QKVaultError, ResourceError

from .progress import say

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

TERMINATED = 143
"""Exit code after SIGTERM, as a scheduler sends it before it takes a machine away."""

_OUT_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS)


class Shell(click.Group):
    """A command group that turns QKVault's errors into exit codes 2, 3 and 4."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a deliberate error becomes one line on standard error."""
        try:
            return super().invoke(ctx)
        except QKVaultError as error:
            fail(ctx, error)
        except KeyboardInterrupt:
            click.echo(err=True)  # behind the terminal's ^C
            say(ctx, "stopped", "stopped; run the same command again to go on")
            ctx.exit(INTERRUPTED)
        except SystemExit as end:
            if end.code == TERMINATED:
                say(ctx, "stopped", "stopped by SIGTERM; run the same command again to go on")
            raise
        except MemoryError:
            message = "out of memory; lower --batch-tokens or free some memory, then run it again"
            fail(ctx, ResourceError(message))
        except OSError as error:
            if error.errno not in _OUT_OF_DISK:
                raise
            message = f"{error.strerror}: {error.filename or 'the vault'}; run it again to resume"
            fail(ctx, ResourceError(message))


def fail(ctx: click.Context, error: QKVaultError) -> NoReturn:
    """End the command with the error's own exit code."""
    say(ctx, "error", f"qkvault: {' '.join(str(error).split())}")
    ctx.exit(error.exit_code)
