"""Beginning a vault, or going on with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .documents import differing
from .errors import PlanMismatch
from .making import make_vault
from .remote import Place, locate
from .writer import VaultWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .spec import Json, Record, VaultSpec


def create(
    path: Place | str,
    spec: VaultSpec,
    records: Iterable[Record],
    *,
    rejects: Iterable[Mapping[str, Json]] = (),
    compress: bool = True,
) -> VaultWriter:
    """Plan a new vault: everything but the arrays is written, or nothing is.

    Args:
        path: an absent or empty folder, whose parent exists.
        spec: what will be kept.
        records: the examples in the dataset's order, taken one by one.
        rejects: rows of the data that were left out and why; taken after the records.
        compress: False stores chunks as they are (with checksums), for fast disks or short-lived
        vaults.

    Raises:
        InputError: the path is taken; the spec or a record cannot be used; no records; an id twice.
        ResourceError: the disk refuses.
    """
    folder = locate(path)
    make_vault(folder, spec, records, rejects, compress)
    return VaultWriter(folder)


def resume(path: Place | str, identity: Mapping[str, Json] | None = None) -> VaultWriter:
    """Go on with a vault; a finished one has no pending units.

    Args:
        path: the vault.
        identity: what the caller would give as :attr:`VaultSpec.identity`; compared key by key.

    Raises:
        VaultError: not a vault, or its plan is damaged.
        PlanMismatch: the identity differs, naming each key.
    """
    writer = VaultWriter(locate(path))
    if identity is not None:
        _compare(writer.path, writer.spec.identity, identity)
    return writer


def _compare(path: Place, kept: Mapping[str, Json], asked: Mapping[str, Json]) -> None:
    differences = [f"{key} (was {was}, now {now})" for key, was, now in differing(kept, asked)]
    if differences:
        raise PlanMismatch(
            f"{path} was made from another plan; it differs in {'; '.join(differences)};"
            " choose another folder, or give what was given before"
        )
