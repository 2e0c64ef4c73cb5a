"""What a vault of a million examples costs before the model runs: plan, status, open, memory.

    python scripts/bench_plan.py --examples 1000000

Records are made up, of 5 to 64 tokens, and so are the shapes: one layer of two heads. Every step is
taken in a process of its own, so that its peak of memory is its own; processor time is given beside
wall time, for the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import qkvault
from qkvault import Record, Stack, VaultSpec

WORDS = ("the", "cat", "sat", "on", "a", "mat", "while", "rain", "fell", "and", "nobody", "in")


def main() -> None:
    """Run all steps, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--scratch", help="folder for the vault")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        STEPS[options.step[0]](Path(options.step[1]), options.examples)
        return
    work = Path(tempfile.mkdtemp(prefix="bench-plan-", dir=options.scratch))
    try:
        for step in STEPS:
            command = [sys.executable, __file__, "--examples", str(options.examples)]
            command += ["--step", step, str(work / "v.vault")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            print(
                f"{step:13} {found['seconds']:8.2f} s, {found['processor']:8.2f} s of processor, "
                f"{found['memory'] / 1e6:6.0f} MB at most; {found['what']}",
                flush=True,
            )
    finally:
        shutil.rmtree(work)


def _measured(what: Callable[[], str]) -> None:
    start, before = time.perf_counter(), time.process_time()
    told = what()
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "processor": time.process_time() - before,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "what": told,
            }
        )
    )


def _records(count: int) -> Iterator[Record]:
    lengths = np.random.default_rng(0).integers(5, 65, count)
    for index, length in enumerate(lengths.tolist()):
        tokens = tuple(WORDS[(index + place) % len(WORDS)] for place in range(length))
        yield Record(
            id=f"r{index}",
            text=(" ".join(tokens),),
            tokens=tokens,
            token_ids=tuple(range(length)),
            segments=(0,) * length,
            special=(0,) * length,
            offsets=tuple((0, 1) for _ in tokens),
            words=tuple(range(length)),
            label=index % 2,
        )


def _plan(path: Path, examples: int) -> None:
    stack = Stack("encoder", (0,), 2, 2, 4, 4, False, (0.5,))
    spec = VaultSpec(
        stacks=(stack,),
        arrays=qkvault.ARRAYS,
        precision="uint16",
        logits=2,
        label_names=(),
        identity={"model": "made up"},
    )

    def plan() -> str:
        with qkvault.create(path, spec, _records(examples)) as writer:
            units = len(writer.units)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return f"{examples} examples in {units} units, {size / 1e6:.0f} MB"

    _measured(plan)


def _status(path: Path, examples: int) -> None:
    def status() -> str:
        found = qkvault.status(path)
        return f"{found.done} of {found.units} units done"

    _measured(status)


def _pending(path: Path, examples: int) -> None:
    """What a worker does before its first unit, the model apart."""

    def pending() -> str:
        with qkvault.resume(path) as writer:
            return f"{len(writer.pending())} units pending"

    _measured(pending)


def _fill(path: Path, examples: int) -> None:
    """Write every unit, with values made up, and finish."""

    def fill() -> str:
        with qkvault.resume(path) as writer:
            for unit in writer.pending():
                buffer = writer.begin(unit)
                for values in buffer.arrays.values():
                    values[...] = 1
                writer.commit(buffer)
            writer.finish()
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return f"{size / 1e9:.2f} GB"

    _measured(fill)


def _open(path: Path, examples: int) -> None:
    def read() -> str:
        with qkvault.open(path) as vault:
            example = vault[examples - 1]
            return f"first head of the last example: {example.attention[0, 0].shape}"

    _measured(read)


STEPS: dict[str, Callable[[Path, int], None]] = {
    "plan": _plan,
    "status": _status,
    "pending": _pending,
    "fill": _fill,
    "status of all": _status,
    "open": _open,
}


if __name__ == "__main__":
    main()
