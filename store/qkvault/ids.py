"""Finding an example by its id, among any number of them, by a few reads of sorted hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import VaultError
from .records import id_hash

if TYPE_CHECKING:
    from .vault import Vault


def find_id(vault: Vault, example_id: str) -> int | None:
    """The place of the example with an id; None if there is none.

    Raises:
        VaultError: what is stored is missing or damaged.
    """
    try:
        wanted = id_hash(example_id)
    except (AttributeError, UnicodeEncodeError):  # no text, or none that a record can hold
        return None
    hashes, rows = vault.store.examples("id_hash"), vault.store.examples("id_row")
    low, high = 0, len(vault)
    while low < high:
        middle = (low + high) // 2
        if int(hashes.row(middle)) < wanted:
            low = middle + 1
        else:
            high = middle
    while low < len(vault) and int(hashes.row(low)) == wanted:
        index = int(rows.row(low))
        if not 0 <= index < len(vault):
            raise VaultError(f"{vault.path} is damaged: an id is said to be of example {index}")
        if vault[index].id == example_id:
            return index
        low += 1
    return None
