"""``import qkvault`` is light, and its names are those it promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qkvault
from vaults import make_vault

HEAVY = (
    *("zarr", "numcodecs", "xxhash", "google_crc32c", "h5py", "torch", "transformers", "flask"),
    *("click", "waitress", "pyarrow", "datasets", "sqlite3", "xarray", "zstandard"),
)


def loaded_by(code: str, *arguments: str) -> set[str]:
    """Top-level modules loaded once ``code`` has run in a fresh interpreter."""
    script = f"import sys\n{code}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    environment_path = [str(Path(qkvault.__file__).parent.parent)]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {environment_path}\n{script}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_loads_nothing_heavy() -> None:
    loaded = loaded_by("import qkvault")
    assert not loaded & set(HEAVY)


def test_reading_needs_neither_torch_nor_a_web_server(tmp_path: Path) -> None:
    path = make_vault(tmp_path / "v", examples=2)
    code = "import qkvault; v = qkvault.open(sys.argv[1]); v[0].tokens; v[0].attention[0, 1]"
    loaded = loaded_by(code, str(path))
    assert not loaded & {"torch", "transformers", "flask", "click", "zarr", "h5py", "sqlite3"}


def test_every_promised_name_is_there_and_described() -> None:
    assert len(set(qkvault.__all__)) == len(qkvault.__all__)
    for name in qkvault.__all__:
        value = getattr(qkvault, name)
        if callable(value) and getattr(value, "__module__", "").startswith("qkvault"):
            assert value.__doc__, name
    assert set(dir(qkvault)) >= set(qkvault.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        qkvault.nothing  # noqa: B018
