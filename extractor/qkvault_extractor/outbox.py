"""From the device to the host without waiting: what is sent is delivered in order, a little later.

On a CPU everything is delivered at once. On a GPU a side stream copies into pinned memory while the
model goes on; the memory is a ring of slots, so that what is under way is bounded.

    packed tensor ─► side stream ─► slot of pinned memory ─► deliver(array)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from qkvault_extractor.stopwatch import Stopwatch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Deliver = Callable[["NDArray[Any]"], None]

SLOTS: Final = 4
SLOT_BYTES: Final = 64 << 20
_ALIGNMENT: Final = 64


class Ticket(Protocol):
    """A copy under way."""

    def wait(self) -> None:
        """Return when it is done."""


class Copier(Protocol):
    """Copies from a device to the host behind what the device has been given to do."""

    def allocate(self, size: int) -> Tensor:
        """So many bytes of host memory that it can copy into, uint8 ``(size,)``."""

    def copy(self, source: Tensor, target: Tensor) -> Ticket:
        """Begin a copy; ``source`` may be let go of, ``target`` not before the ticket is done."""


class CudaCopier:
    """Copies on a CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._make_event: Any = torch.cuda.Event
        make_stream: Any = torch.cuda.Stream
        self._stream = make_stream(device)

    def allocate(self, size: int) -> Tensor:
        """Pinned memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def copy(self, source: Tensor, target: Tensor) -> Ticket:
        """Begin a copy once the model's stream has made the source."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)
            source.record_stream(self._stream)  # its memory is not given to others before
            event = self._make_event()
            event.record(self._stream)
        return _CudaTicket(event)


class _CudaTicket:
    def __init__(self, event: torch.cuda.Event) -> None:
        self._event = event

    def wait(self) -> None:
        self._event.synchronize()


def copier_for(device: torch.device) -> Copier | None:
    """What copies from a device; None where tensors are on the host already, or must be waited for
    (Apple's)."""
    return CudaCopier(device) if device.type == "cuda" else None


class Outbox:
    """Takes tensors, and delivers their values on the host, in the order they were sent.

    Args:
        copier: copies beside the model; None delivers at once.
        watch: counts delivering for the stage "copy".
        slots: pieces that pinned memory is divided into.
        slot_bytes: of each; what is larger is copied into memory of its own.
    """

    def __init__(
        self,
        copier: Copier | None = None,
        watch: Stopwatch | None = None,
        slots: int = SLOTS,
        slot_bytes: int = SLOT_BYTES,
    ) -> None:
        self._copier = copier
        self._watch = watch or Stopwatch()
        self._slot_bytes = slot_bytes
        self._count = slots
        self._slots: list[Tensor] = []
        self._current = 0
        self._used = 0
        self._pending: deque[tuple[int, Ticket, Tensor, Deliver]] = deque()

    @property
    def is_late(self) -> bool:
        """Whether values are read after :meth:`send` has returned."""
        return self._copier is not None

    def send(self, values: Tensor, deliver: Deliver, *, owned: bool = False) -> None:
        """Have values delivered, by this thread: now, or in a later call.

        Args:
            values: any shape, on the copier's device.
            deliver: given them as an array that it must not keep.
            owned: nobody will overwrite the values, not even later.

        Raises:
            Whatever this or an earlier ``deliver`` raises.
        """
        if self._copier is None:
            self._deliver(values.cpu(), deliver)
            return
        values = values.contiguous() if owned else values.clone()
        size = values.numel() * values.element_size()
        slot, memory = self._take(size)
        target = memory.view(values.dtype).view(values.shape)
        self._pending.append((slot, self._copier.copy(values, target), target, deliver))

    def flush(self) -> None:
        """Deliver all that is under way."""
        while self._pending:
            self._deliver_next()

    def drop(self) -> None:
        """Forget all that is under way, once it no longer touches memory."""
        while self._pending:
            self._pending.popleft()[1].wait()

    def _take(self, size: int) -> tuple[int, Tensor]:
        """Memory for a message, and its slot; -1 for memory of its own."""
        assert self._copier is not None
        room = -(-size // _ALIGNMENT) * _ALIGNMENT
        if room > self._slot_bytes:
            self.flush()  # so that at most one such message is under way
            return -1, self._copier.allocate(size)
        if not self._slots or self._used + room > self._slot_bytes:
            self._turn()
        start, self._used = self._used, self._used + room
        return self._current, self._slots[self._current][start : start + size]

    def _turn(self) -> None:
        """Go to the next slot of the ring; what it still holds is delivered first."""
        assert self._copier is not None
        self._used = 0
        if len(self._slots) < self._count:
            self._slots.append(self._copier.allocate(self._slot_bytes))
            self._current = len(self._slots) - 1
            return
        self._current = (self._current + 1) % self._count
        while any(slot == self._current for slot, *_ in self._pending):
            self._deliver_next()

    def _deliver_next(self) -> None:
        _, ticket, values, deliver = self._pending.popleft()
        ticket.wait()
        self._deliver(values, deliver)

    def _deliver(self, values: Tensor, deliver: Deliver) -> None:
        with self._watch.stage("copy"):
            deliver(values.numpy())
