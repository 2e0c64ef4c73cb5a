"""The page's pure modules, by node's own test runner."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "js"
STATIC = Path(__file__).parents[2] / "viewer" / "qkvault_viewer" / "static"


def test_pure_modules() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.strip("v\n").split(".")[:2])) < (20, 19):
        pytest.skip(f"node {version.strip()} does not take .js files for modules; 20.19 does")
    files = sorted(str(path) for path in FOLDER.glob("*.test.mjs"))
    assert files
    run = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout[-4000:]


def test_nothing_is_put_in_as_markup_or_fetched_from_elsewhere() -> None:
    pattern = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser"
        r"|setAttribute\(\"(?:on|style)|\bstyle=\"|https?://(?!www\.w3\.org/2000/svg)"
    )
    sources = [
        path for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".html", ".svg"}
    ]
    assert len(sources) > 20
    found = [
        f"{path.name}: {match[0]}"
        for path in sources
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_views_know_nothing_of_each_other() -> None:
    for path in (STATIC / "js" / "views").glob("*.js"):
        imported = re.findall(r"from \"(.+?)\"", path.read_text(encoding="utf-8"))
        assert imported
        assert all(name.startswith("../") and "views" not in name for name in imported), path.name


def test_every_part_of_an_address_is_documented() -> None:
    state = (STATIC / "js" / "state.js").read_text(encoding="utf-8")
    written = re.findall(r"^    \[\"(\w+)\", ", state, re.MULTILINE)
    assert len(written) > 20
    page = (Path(__file__).parents[2] / "docs" / "viewer.md").read_text(encoding="utf-8")
    told = re.findall(r"`(\w+)`", page.split("## What an address says")[1])
    assert set(written) <= set(told)


def test_the_page_is_small() -> None:
    carried = sum(len(zlib.compress(path.read_bytes())) for path in STATIC.rglob("*.*"))
    assert carried < 160_000  # bytes it adds to a wheel
