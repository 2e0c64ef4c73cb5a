"""Hold the store to its bars: sizes, reads, writes, scale, each a ratio beside its bar.

    python scripts/bench_store.py                     # MRPC through MiniLM if both are there
    python scripts/bench_store.py --made              # a made vault of MiniLM's shape
    python scripts/bench_store.py --vault mrpc.vault  # sizes and reads of that one
    python scripts/bench_store.py --derived --rows 1000000

Every figure is a ratio of two measurements taken in turn in one process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench_corpus import Bar, Data, extract_mrpc, write_vault
from bench_reads import bench_import, bench_reads
from bench_sizes import bench_errors, bench_sizes
from bench_writes import bench_writes


def main() -> None:
    """Measure, and print figures beside bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vault", type=Path, help="size and read this vault")
    parser.add_argument("--made", action="store_true", help="use a made vault, not MRPC")
    parser.add_argument("--examples", type=int, default=400, help="examples of the vault")
    parser.add_argument("--reads", type=int, default=150, help="reads per pattern")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where to write")
    parser.add_argument("--derived", action="store_true", help="derived vaults, 512 and 2,048")
    parser.add_argument("--rows", type=int, default=0, help="scale: examples of the larger vault")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        show(measure(options, Path(folder)))


def measure(options: argparse.Namespace, scratch: Path) -> list[Bar]:
    """All figures that were asked for."""
    data = Data(options.examples)
    real = None if options.made else options.vault
    if real is None and not options.made:
        real = extract_mrpc(scratch / "mrpc.vault", options.examples)
    bars: list[Bar] = []
    if real is None:
        print("a made vault: sizes of random attention say nothing, so they are left out")
        vault = write_vault(scratch / "made.vault", data, compress=True)[0]
    else:
        vault = real
        bars += [*bench_sizes(vault), *bench_errors(scratch)]
    bars += [*bench_reads(vault, options.reads), *bench_import()]
    bars += bench_writes(scratch, data)
    if options.derived:
        from bench_derive import bench_derived

        bars += bench_derived(scratch)
    if options.rows:
        from bench_scale import bench_scale

        bars += bench_scale(scratch, options.rows)
    return bars


def show(bars: list[Bar]) -> None:
    """Print a table; what misses its bar is marked."""
    print(f"{'what':<52}{'measured':>12}  bar")
    for what, measured, bar, sense in bars:
        met = measured <= bar if sense == "<=" else measured >= bar
        print(f"{what:<52}{measured:>12.3g}  {sense} {bar:g}{'' if met else '  MISSED'}")


if __name__ == "__main__":
    main()
