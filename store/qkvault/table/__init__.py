"""The search table of a vault: find, filter, sort and page through millions of examples.

The way down: search (the face) <- reader <- cache <- build <- sorting, words <- filter, columns,
order, terms. Nothing here reads an array of a vault; it asks for records and outcomes only.
"""

from .columns import Column
from .search import Page, Position, Table

__all__ = ["Column", "Page", "Position", "Table"]
