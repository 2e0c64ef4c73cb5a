"""Options that choose part of a vault, common to the commands that copy and export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import click

import qkvault

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Subset:
    """What the options say.

    Attributes:
        examples: numbers, ranges and ids, in the order given; None for all.
        where: a filter over the vault's table; None for none.
        label: gold labels, of which any will do; none for all.
        limit: how many examples at most; None for all.
        stack: the only one to take; None for what the command takes otherwise.
        layers, heads, arrays: None for all.
    """

    examples: tuple[int | slice | str, ...] | None
    where: dict[str, Any] | None
    label: tuple[str, ...]
    limit: int | None
    stack: str | None
    layers: list[int] | None
    heads: list[int] | None
    arrays: list[Any] | None

    def find_examples(self, vault: qkvault.Vault) -> list[int] | None:
        """Numbers of the chosen examples, each once; None for all.

        Raises:
            InputError: an example or a column that the vault does not have, or nothing was chosen.
        """
        where = self._filter()
        if self.examples is None and where is None and self.limit is None:
            return None
        found = list(range(len(vault)))
        if self.examples is not None:
            found = [index for item in self.examples for index in _find(vault, item)]
        if where is not None:
            passing = set(vault.select(**where).indices.tolist())
            found = [index for index in found if index in passing]
        found = list(dict.fromkeys(found))[: self.limit]
        if not found:
            raise qkvault.InputError(f"no example of {vault.path} was chosen; there are none such")
        return found

    def _filter(self) -> dict[str, Any] | None:
        if not self.label:
            return self.where
        if self.where and "label" in self.where:
            raise qkvault.InputError(
                "the label is given twice, by --label and by --where; give one"
            )
        return {**(self.where or {}), "label": [v for text in self.label for v in _readings(text)]}


def subset_options(function: Function) -> Function:
    """Give a command ``subset``, a :class:`Subset`, in the place of eight options."""

    @wraps(function)
    def with_subset(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in Subset.__dataclass_fields__}
        return function(**given, subset=Subset(**chosen))

    command: Any = with_subset
    for option in reversed(_OPTIONS):
        command = option(command)
    wrapped: Function = command
    return wrapped


def _find(vault: qkvault.Vault, item: int | slice | str) -> list[int]:
    if isinstance(item, slice):
        return list(range(len(vault))[item])
    return [vault.by_id(item).index if isinstance(item, str) else vault[item].index]


def _readings(text: str) -> list[Any]:
    """A label as text, and as the number or other JSON value that the text may stand for."""
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return [text, value] if value is None or isinstance(value, bool | int | float) else [text]


def _items(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]


def _parse_examples(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int | slice | str, ...] | None:
    items = _items(value)
    return None if items is None else tuple(_example(item) for item in items)


def _example(text: str) -> int | slice | str:
    parts = text.split(":")
    numbers = [int(part) if part else None for part in parts if not part or _is_number(part)]
    if len(numbers) < len(parts) or len(parts) > 2:
        return text
    if len(parts) == 2:
        return slice(*numbers)
    return numbers[0] if numbers[0] is not None else text


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _parse_numbers(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> list[int] | None:
    items = _items(value)
    if items is None:
        return None
    found: list[int] = []
    for item in items:
        bounds = item.split(":")
        if len(bounds) > 2 or not all(map(_is_number, bounds)):
            raise qkvault.InputError(
                f"--{param.name} takes numbers and ranges, such as 0,3 or 2:6; found {item!r:.40}"
            )
        found += range(*map(int, bounds)) if len(bounds) == 2 else [int(item)]
    return found


def _parse_where(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        where = json.loads(value)
    except ValueError as error:
        raise qkvault.InputError(f"--where is not JSON: {error}") from None
    if not isinstance(where, dict):
        raise qkvault.InputError(f"--where is an object of columns; found {value!r:.80}")
    return where


def _parse_names(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    return _items(value)


_OPTIONS = (
    click.option(
        "--examples",
        callback=_parse_examples,
        metavar="WHICH",
        help="Numbers, ranges and ids, such as 0:100,417 or eminem-sick.",
    ),
    click.option(
        "--where",
        callback=_parse_where,
        metavar="JSON",
        help='Filter by columns, such as \'{"correct": false, "length": {"max": 40}}\'.',
    ),
    click.option("--label", multiple=True, help="Keep examples of this label; repeat for any of."),
    click.option("--limit", type=click.IntRange(min=1), help="Take only the first so many."),
    click.option(
        "--stack",
        type=click.Choice(qkvault.STACKS),
        help="Of an encoder-decoder, the only stack to take.",
    ),
    click.option(
        "--layers", callback=_parse_numbers, metavar="N[,N]", help="Layers, such as 3,5 or 0:4."
    ),
    click.option(
        "--heads", callback=_parse_numbers, metavar="N[,N]", help="Heads, such as 0,7 or 0:4."
    ),
    click.option(
        "--arrays",
        callback=_parse_names,
        metavar="A[,A]",
        help="Some of attention, query, key, value; all that are kept otherwise.",
    ),
)
