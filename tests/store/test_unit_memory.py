"""Memory of units: there from the start, used again, no more than is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from qkvault.chunks import UNIT_BYTES
from qkvault.unit_memory import UnitMemory


def resident() -> int:
    """Bytes of this process that are in memory."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("only Linux tells what is in memory now")
    return int(statm.read_text("ascii").split()[1]) * 4096


def test_what_is_reserved_is_what_is_taken() -> None:
    memory = UnitMemory()
    memory.reserve(2, 1000)
    first, second = memory.take(10), memory.take(UNIT_BYTES)
    assert first.ctypes.data != second.ctypes.data
    assert min(first.size, second.size) >= UNIT_BYTES
    addresses = {first.ctypes.data, second.ctypes.data}
    memory.give_back(first)
    assert memory.take(UNIT_BYTES).ctypes.data in addresses
    assert memory.take(5).size >= UNIT_BYTES, "there is more, if it must be"
    assert memory.take(UNIT_BYTES + 1).size > UNIT_BYTES


def test_reserving_again_adds_nothing_that_is_there() -> None:
    memory = UnitMemory()
    memory.reserve(2, 1000)
    memory.reserve(2, 1000)
    assert len(memory._spare) == 2


@pytest.mark.parametrize("total", [0, 40 << 20, 10 * UNIT_BYTES])
def test_as_many_pages_are_there_as_units_will_fill(total: int) -> None:
    memory, before = UnitMemory(), resident()
    memory.reserve(2, total)
    grown, wanted = resident() - before, min(total, 2 * UNIT_BYTES)
    assert wanted - (8 << 20) < grown < wanted + (8 << 20)
