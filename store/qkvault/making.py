"""Making a vault where the user wants it: in a folder, or below a key of an object store.

For an object store the plan is made in a folder of this machine and put from there, ``plan.json``
last: what lacks it is no vault. Nothing is put over other bytes.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import disk
from .claims import PARTIAL
from .errors import InputError, ResourceError, VaultError
from .planning import make_folder
from .remote import Changed
from .store import PLAN, vault_state
from .threads import pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .remote import Place, RemotePath
    from .spec import Json, Record, VaultSpec


def make_vault(
    path: Place,
    spec: VaultSpec,
    records: Iterable[Record],
    rejects: Iterable[Mapping[str, Json]],
    compress: bool,
) -> None:
    """Make a vault, all but its units.

    Raises:
        InputError: something stands at ``path``; the spec or a record cannot be used; no records;
            an id appears twice.
        ResourceError: disk or object store refuses.
    """
    if isinstance(path, Path):
        make_folder(path, spec, records, rejects, compress)
        return
    state = vault_state(path)
    if state in ("unfinished", "complete"):
        raise InputError(f"{path} already holds a vault ({state}); choose another name")
    with tempfile.TemporaryDirectory(prefix="qkvault-plan-") as scratch:
        folder = Path(scratch) / "vault"
        make_folder(folder, spec, records, rejects, compress)
        _refuse_a_store_without_conditions(path)
        _put_all(folder, path)


def _put_all(folder: Path, path: RemotePath) -> None:
    def put(file: Path) -> None:
        _put(file, path / file.relative_to(folder).as_posix(), path)

    files = sorted(file for file in folder.rglob("*") if file.is_file())
    for done in pool().map(put, [file for file in files if file != folder / PLAN]):
        assert done is None
    put(folder / PLAN)


def _refuse_a_store_without_conditions(path: RemotePath) -> None:
    """Some servers overlook the condition, and writers would overwrite each other unseen."""
    probe = path / PARTIAL / f"condition-{secrets.token_hex(8)}"
    try:
        for _ in range(2):
            probe.bucket.put(probe.key, b"", None)
    except Changed:
        return
    finally:
        probe.bucket.remove([probe.key])
    raise ResourceError(
        f"{path} is on a store that puts objects over others though told not to (If-None-Match);"
        " write the vault to a disk and put it there when it is finished"
    )


def _put(file: Path, target: RemotePath, path: RemotePath) -> None:
    try:
        disk.put_if_absent(target, file.read_bytes(), file)
    except VaultError as error:
        raise InputError(
            f"{path} cannot be made: {error}; what stands there is of another plan, perhaps of one"
            " that was cut short: choose another name, or remove it"
        ) from None
