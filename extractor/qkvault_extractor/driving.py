"""Driving units through an executor, whichever it is: at most a window of them at a time.

``call(unit)`` is all an executor runs. It must give the same bytes whoever runs it and however
often, so that a unit that is lost with its worker is simply run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkvault_extractor.unfit import Flaw


@dataclass(frozen=True)
class Done:
    """What comes back of a unit; small, for it may travel.

    Attributes:
        unit: its number.
        bytes: written; 0 if another process has the unit.
        taken: whether another process has it, or has just finished it.
        flaws: of examples that kept it from being written, by their number in the vault.
    """

    unit: int
    bytes: int = 0
    taken: bool = False
    flaws: Mapping[int, Flaw] = field(default_factory=dict)


def drive(
    call: Callable[[int], Any],
    units: Iterable[int],
    executor: Executor,
    window: int,
    received: Callable[[Done], None],
) -> None:
    """Run units on an executor.

    Where one fails, those not yet begun are cancelled and its error goes up.

    Args:
        call: runs a unit and returns a :class:`Done`.
        units: their numbers.
        executor: any; it stays open.
        window: most units that are handed over at a time, at least 1.
        received: called from this thread with what comes back.
    """
    live: set[Future[Done]] = set()

    def collect(most: int) -> None:
        """Take in what is finished, until no more than so many are left."""
        while live:
            blocks = len(live) > most
            done, _ = wait(live, None if blocks else 0, return_when=FIRST_COMPLETED)
            live.difference_update(done)  # dropped, so that an executor may forget them
            for future in done:
                received(future.result())
            if not blocks:
                return

    try:
        for unit in units:
            live.add(executor.submit(call, unit))
            collect(window - 1)
        collect(0)
    except BaseException:
        for future in live:
            future.cancel()
        raise


class InProcess(Executor):
    """Runs a call in the thread that submits it: interrupts and debuggers work as ever.

    A call that returns a future has left the rest of its work to a thread of its own, and goes on.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn`` now."""
        future: Future[Any] = Future()
        try:
            result = fn(*args, **kwargs)
        except Exception as error:
            future.set_exception(error)
            return future
        if isinstance(result, Future):
            return result
        future.set_result(result)
        return future
