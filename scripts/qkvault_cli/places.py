"""Where a vault stands, as an argument of a command: a path, or a URL of an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

import qkvault

if TYPE_CHECKING:
    from qkvault import Place


class _PlaceType(click.ParamType["Place"]):
    """A folder, or ``s3://BUCKET/NAME`` or ``gs://BUCKET/NAME``."""

    name = "path"

    def convert(
        self, value: str | Place, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        """Find the place that is named; an ``InputError`` ends the command as all errors do."""
        return qkvault.locate(value)


PLACE: Final = _PlaceType()
