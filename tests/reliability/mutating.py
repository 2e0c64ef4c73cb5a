"""Random changes to JSON and to bytes, made to hit what a reader may have forgotten to check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 8, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53),
    *(2**62, 2**63 - 1, 2**63, 2**64, -(2**63), 10**100, 0.5, -0.0, 1e308, 5e-324, 1e30),
    *("", " ", "x" * 3000, "\0", "\n", "../../x", "/etc/passwd", "NaN", "Infinity", "\u202e", "0"),
    *([], {}, [[]], [0], [None], {"": ""}, {"name": "bytes"}, [[[[[[[[1]]]]]]]], [1] * 100),
    *("float32", "float16", "uint8", "uint16", "uint64", "int32", "encoder", "cross", "attention"),
]


def mutate(value: Any, dice: random.Random) -> Any:
    """A copy of a JSON value with one to four changes."""
    copy = json.loads(json.dumps(value))
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        copy = _change_one(copy, dice)
    return copy


def _change_one(value: Any, dice: random.Random) -> Any:
    """Walk down to a random node and change it, or what holds it."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.15:
        return _changed(value, dice)
    if isinstance(value, dict):
        key = dice.choice(list(value))
        kind = dice.random()
        if kind < 0.05:
            del value[key]
        elif kind < 0.08:
            value[str(dice.choice(ODD))[:50]] = value[key]
        elif kind < 0.12:
            other = dice.choice(list(value))
            value[key], value[other] = value[other], value[key]
        else:
            value[key] = _change_one(value[key], dice)
        return value
    place = dice.randrange(len(value))
    kind = dice.random()
    if kind < 0.06:
        del value[place]
    elif kind < 0.12:
        value.insert(place, value[dice.randrange(len(value))])
    elif kind < 0.15:
        value += value[:50]
    else:
        value[place] = _change_one(value[place], dice)
    return value


def _changed(value: Any, dice: random.Random) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and dice.random() < 0.6:
        near = (value + 1, value - 1, -value, value * 2, value // 2, value * 10**6, value + 2**31)
        return dice.choice(near)
    if isinstance(value, str) and value and dice.random() < 0.5:
        place = dice.randrange(len(value))
        return dice.choice((value[:place], value + value, value[:place] + "\0" + value[place:]))
    return dice.choice([*ODD, [value], {"a": value}])


def mutate_bytes(data: bytes, dice: random.Random) -> bytes:
    """A copy of some bytes with one to five changes."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(5):
            case 0 if place < len(changed):
                changed[place] ^= 1 << dice.randrange(8)
            case 1:
                changed[place:place] = bytes([dice.randrange(256)])
            case 2:
                del changed[place : place + dice.randint(1, 20)]
            case 3:
                start = dice.randrange(len(changed) + 1)
                changed[place:place] = changed[start : start + dice.randint(1, 60)]
            case _:
                changed[place : place + 1] = dice.choice(TOKENS)
    return bytes(changed)


TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"true", b"-", b"1e999", b"NaN"),
    *(b"\\ud800", b"\xff", b"\0", b"99999999999999999999", b"0.0000000001", b"\xed\xa0\x80"),
]
