"""Who may import whom. The rules and their reasons stand in CONTRIBUTING.md."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import qkvault

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "qkvault": ROOT / "store/qkvault",
    "qkvault_extractor": ROOT / "extractor/qkvault_extractor",
    "qkvault_viewer": ROOT / "viewer/qkvault_viewer",
    "qkvault_cli": ROOT / "scripts/qkvault_cli",
}
FORBIDDEN = {
    "qkvault": {"torch", "transformers", "datasets", "flask", "click", "waitress"},
    "qkvault_extractor": {"flask", "click", "waitress", "zarr", "numcodecs", "h5py"},
    "qkvault_viewer": {"torch", "transformers", "datasets", "click", "zarr", "numcodecs", "h5py"},
    "qkvault_cli": {"torch", "transformers", "zarr", "numcodecs", "h5py"},
}
MAY_USE = {
    "qkvault": set(),
    "qkvault_extractor": {"qkvault"},
    "qkvault_viewer": {"qkvault"},
    "qkvault_cli": {"qkvault", "qkvault_extractor", "qkvault_viewer"},
}
FILES = [
    (package, file) for package, folder in PACKAGES.items() for file in sorted(folder.rglob("*.py"))
]
LAZY_IN_STORE = {"torch"}
"""Handing a vault to torch's data loader needs torch, which whoever asks for that has loaded."""


def imports(file: Path) -> Iterator[tuple[ast.stmt, str, list[str], bool]]:
    """Every import of a file: the statement, absolute module, names, whether at module level."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, [], id(node) in top
        elif isinstance(node, ast.ImportFrom):
            yield node, absolute(file, node), [a.name for a in node.names], id(node) in top


def absolute(file: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = next(root for root in PACKAGES.values() if root in file.parents)
    parts = [package.name, *file.relative_to(package).parts[:-1]]
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


@pytest.mark.parametrize(
    ("package", "file"), FILES, ids=[str(file.relative_to(ROOT)) for _, file in FILES]
)
def test_a_file_imports_what_its_package_may(package: str, file: Path) -> None:
    for node, module, names, at_top in imports(file):
        where = f"{file.relative_to(ROOT)}:{node.lineno} imports {module}"
        first = module.split(".")[0]
        lazily = package == "qkvault" and first in LAZY_IN_STORE and not at_top
        assert first not in FORBIDDEN[package] or lazily, where
        if first in PACKAGES and first != package:
            assert first in MAY_USE[package], where
        if first == "qkvault" and package != "qkvault":
            assert module == "qkvault", f"{where}; only the face of the store may be used"
            assert set(names) <= set(qkvault.__all__), f"{where}: {names} are not in its __all__"


def test_only_the_command_line_knows_click() -> None:
    users = {package for package, file in FILES for _, m, _, _ in imports(file) if m == "click"}
    assert users == {"qkvault_cli"}


def module_of(package: str, file: Path) -> str:
    parts = (package, *file.relative_to(PACKAGES[package]).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_in_one_direction(package: str) -> None:
    """Module-level imports have no circle."""
    modules = {module_of(p, file): file for p, file in FILES if p == package}
    needs: dict[str, set[str]] = {}
    for name, file in modules.items():
        needed = needs.setdefault(name, set())
        for _, module, names, at_top in imports(file):
            if not at_top:
                continue
            parts = {f"{module}.{n}" for n in names} & set(modules)
            needed |= parts or ({module} & set(modules))
        needed -= {name, package}
    done: set[str] = set()
    while len(done) < len(needs):
        free = {name for name, needed in needs.items() if name not in done and needed <= done}
        assert free, f"in a circle: {sorted(set(needs) - done)}"
        done |= free
