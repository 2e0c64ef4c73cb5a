"""The vaults being served: their names in URLs, and the part of a URL that fixes their content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import qkvault
from qkvault import InputError, Vault

API_VERSION: Final = 1
REVISION: Final = 2
"""Raised whenever the same vault is answered with other bytes: browsers keep answers for a year."""


@dataclass(frozen=True)
class Store:
    """One vault being served.

    Attributes:
        name: its name in URLs.
        title: its folder's name.
        vault: the vault, open for as long as the server runs.
    """

    name: str
    title: str
    vault: Vault

    @property
    def tag(self) -> str:
        """Stands for this vault's content and for how this release answers for it."""
        return f"{re.sub('[^0-9A-Za-z]', '', self.vault.digest)[:32]}-{REVISION}"

    @property
    def url(self) -> str:
        """Address of the manifest."""
        return f"/api/v{API_VERSION}/s/{self.name}"

    @property
    def base(self) -> str:
        """Start of every address whose answer never changes."""
        return f"{self.url}/{self.tag}"


def open_stores(paths: Iterable[qkvault.Place | str]) -> Mapping[str, Store]:
    """Open vaults to be served, in the order given, by name.

    Raises:
        InputError: no path is given.
        VaultError: a path is not a finished vault.
    """
    stores: dict[str, Store] = {}
    for path in paths:
        folder = qkvault.locate(path).resolve()
        title = folder.name
        name = _free_name(title, stores)
        stores[name] = Store(name, title, qkvault.open(folder))
    if not stores:
        raise InputError("no vault was given: name at least one folder made by qkvault extract")
    return stores


def _free_name(title: str, taken: Mapping[str, Store]) -> str:
    """A name of lower case letters, digits and dashes that no other store has."""
    stem = (
        re.sub("[^0-9a-z]+", "-", title.lower().removesuffix(".vault")).strip("-")[:48] or "vault"
    )
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    return name
