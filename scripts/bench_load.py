"""Measure the viewer's server under a crowd, beside stalled clients, and with very long texts.

    python scripts/bench_load.py [--requests 200]

The server runs in a process of its own on loopback. Every client asks for different small slices,
one after another over one connection. Times are those of this machine, clients included. Memory is
the peak of the server's process over what it held before (Linux).
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

import qkvault
from qkvault import Record, Stack, VaultSpec

SERVE = """
import sys
from qkvault_viewer import make_server
server = make_server([sys.argv[1]])
print(server.url, next(iter(server._app.extensions["qkvault"].values())).base, flush=True)
server.run()
"""
LONG = 4096
TILE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200, help="of each client")
    options = parser.parse_args()
    bars: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with served(make_vault(folder / "small.vault", [16, 32, 48, 64, 96] * 8, 4, 4)) as server:
            bars += crowd_bars(server, options.requests)
        with served(make_vault(folder / "long.vault", [LONG], 1, 2)) as server:
            bars += memory_bars(server)
    print(f"{'what':<52}{'measured':>10}  bar")
    for what, measured, bar in bars:
        verdict = "" if measured <= bar else "  MISSED"
        print(f"{what:<52}{measured:>10.1f}  <= {bar:g}{verdict}")


@dataclass
class Serving:
    """A server in another process.

    Attributes:
        at: host and port.
        base: start of the addresses of its vault's data.
        process: number of its process.
    """

    at: tuple[str, int]
    base: str
    process: int

    def held(self, what: str) -> float:
        """MB that the server holds (``VmRSS``) or held at most (``VmHWM``)."""
        status = Path(f"/proc/{self.process}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else float("nan")

    def forget_peak(self) -> None:
        """Let ``VmHWM`` start anew from what is held now."""
        Path(f"/proc/{self.process}/clear_refs").write_text("5")


@contextmanager
def served(vault: Path) -> Iterator[Serving]:
    """Serve a vault from another process."""
    command = [sys.executable, "-c", SERVE, str(vault)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url, base = process.stdout.readline().split()
            address = urlsplit(url)
            yield Serving((address.hostname or "", address.port or 0), base, process.pid)
        finally:
            process.terminate()


@dataclass
class Crowd:
    """What a crowd met with: seconds of each answer, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 requests were answered."""
        return statistics.quantiles(self.seconds, n=100)[98]


def crowd(at: tuple[str, int], paths: Sequence[str], clients: int, each: int) -> Crowd:
    """So many clients at the same time, each with so many requests."""
    met = Crowd()

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection(*at, timeout=60)
        for number in range(each):
            path = paths[(first * 7 + number) % len(paths)]
            started = time.perf_counter()
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    met.errors.append(f"{path}: {answer.status}")
            except OSError as error:
                met.errors.append(f"{path}: {error}")
                connection.close()
            met.seconds.append(time.perf_counter() - started)
        connection.close()

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return met


@contextmanager
def stalled(at: tuple[str, int], count: int) -> Iterator[None]:
    """Clients that began a request and never go on."""
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(at, timeout=10))
            client.sendall(b"GET /api/v1/stores HTTP/1.1\r\nHost: local")
        yield


def small_slices(base: str, examples: int, layers: Sequence[int] = (0, 1)) -> list[str]:
    """Addresses of what the page asks for, of examples of at least five tokens and two layers."""
    one, other = layers
    views = ("", "/thumbnails/encoder", f"/attention/encoder/{other}", f"/row/encoder/{one}/2")
    views += (f"/vectors/encoder/{other}/3", f"/attention/encoder/{one}/2?as=f32")
    views += (f"/column/encoder/{other}/4",)
    return [f"{base}/ex/{index}{view}" for index in range(examples) for view in views]


def crowd_bars(server: Serving, each: int) -> list[tuple[str, float, float]]:
    """Crowds of 16, 16 beside 60 stalled clients, and 50."""
    paths = small_slices(server.base, 40)
    crowd(server.at, paths, 2, len(paths))
    before, errors, bars = server.held("VmRSS"), 0, []
    for clients, waiting, bar in ((16, 0, 500), (16, 60, 500), (50, 0, 1000)):
        with stalled(server.at, waiting):
            met = crowd(server.at, paths, clients, each)
        errors += len(met.errors)
        beside = f" beside {waiting} stalled" if waiting else ""
        print(
            f"{clients} clients{beside}: {len(met.seconds)} requests, median"
            f" {statistics.median(met.seconds) * 1e3:.0f} ms, errors {met.errors[:3]}"
        )
        bars.append((f"{clients} clients{beside}, p99 in ms", met.p99 * 1e3, bar))
    return [
        *bars,
        ("errors of all crowds", errors, 0),
        ("memory of all crowds, MB", server.held("VmRSS") - before, 10),
    ]


def memory_bars(server: Serving) -> list[tuple[str, float, float]]:
    """Peak memory of one tile, and of a whole head asked for in tiles, of 4,096 tokens."""
    crowd(server.at, [f"{server.base}/ex/0/row/encoder/0/1"], 1, 1)
    head = f"{server.base}/ex/0/attention/encoder/0"
    bars: list[tuple[str, float, float]] = []
    for what, number, paths, bar in (
        ("a tile of 256 rows", 0, [f"{head}/0?rows=512:{512 + TILE}"], 16),
        (
            "a head in tiles",
            1,
            [f"{head}/{{}}?rows={top}:{top + TILE}" for top in range(0, LONG, TILE)],
            64,
        ),
    ):
        server.forget_peak()
        before = server.held("VmRSS")
        met = crowd(server.at, [path.format(number) for path in paths], 1, len(paths))
        assert not met.errors, met.errors
        bars.append((f"{LONG} tokens, {what}, peak MB", server.held("VmHWM") - before, bar))
    return bars


def make_vault(path: Path, lengths: Sequence[int], layers: int, heads: int) -> Path:
    """A vault of random attention, queries, keys and values."""
    width = 16
    stack = Stack(
        "encoder", tuple(range(layers)), heads, heads, width, width, False, (0.25,) * layers
    )
    spec = VaultSpec((stack,), ("attention", "query", "key", "value"), "uint16", 0, (), {})
    records = [
        Record(
            id=str(at),
            text=("text",),
            tokens=("t",) * length,
            token_ids=(1,) * length,
            segments=(0,) * length,
            special=(0,) * length,
        )
        for at, length in enumerate(lengths)
    ]
    random = np.random.default_rng(0)
    with qkvault.create(path, spec, records) as writer:
        for unit in writer.pending():
            buffer = writer.begin(unit)
            for row, length in enumerate(unit.lengths.tolist()):
                fill(buffer, row, (layers, heads, length), random)
            writer.commit(buffer)
        writer.finish()
    return path


def fill(
    buffer: qkvault.UnitBuffer, row: int, shape: tuple[int, int, int], random: np.random.Generator
) -> None:
    """Write one example of so many layers, heads and tokens."""
    layers, heads, length = shape
    for name in ("query", "key", "value"):
        buffer.arrays[f"encoder/{name}"][row, :, :, :length] = random.normal(size=(*shape, 16))
    for layer in range(layers):
        for head in range(heads):
            weights = random.random((length, length), np.float32)
            weights /= weights.sum(-1, keepdims=True)
            codes = qkvault.encode_attention(weights, "uint16")
            buffer.arrays["encoder/attention"][row, layer, head, :length, :length] = codes
            if "encoder/thumbnail" in buffer.arrays:
                small = qkvault.make_thumbnail(weights)
                side = small.shape[-1]
                buffer.arrays["encoder/thumbnail"][row, layer, head, :side, :side] = small


if __name__ == "__main__":
    main()
