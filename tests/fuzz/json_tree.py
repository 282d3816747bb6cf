"""Change JSON as JSON: what is no JSON ends in the decoder, before any code of ours."""

from __future__ import annotations

import json
from copy import copy
from random import Random
from typing import TYPE_CHECKING, Any, Final

import atheris

if TYPE_CHECKING:
    from collections.abc import Iterator

_OFTEN: Final = 0.75  # else bytes are changed
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 1.5, float("nan"), float("inf"), 10**400),
    *(0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 1, 1 << 64, "", "0", "0x8086", "-1", "1_0", "a" * 300, "\0", "\n"),
    *("\x1b[2J", "\udc80", "\ud800", "\u202e", "none", "now", [], {}, [[]], [None]),
)


def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
    """Change a value in one of the lines, or the bytes as libFuzzer does."""
    chance = Random(seed)  # noqa: S311 - libFuzzer's own
    lines = data.split(b"\n")
    place = chance.randrange(len(lines))
    try:
        value = json.loads(lines[place])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict | list) or chance.random() > _OFTEN:
        changed: bytes = atheris.Mutate(data, max_bytes)
        return changed
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(value, chance)
    if chance.random() < _OFTEN:
        lines[place] = json.dumps(value, separators=(",", ":")).encode()
    else:
        lines.insert(place, json.dumps(value).encode())
    return b"\n".join(lines)[:max_bytes]


def _change(value: Any, chance: Random) -> None:  # noqa: ANN401 - any JSON
    places = [*_places(value)]
    if not places:
        return
    holder, key = chance.choice(places)
    there, other = chance.choice(places)
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1:
            holder[key] = json.loads(json.dumps(there[other]))  # it may be around us
        case 2 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 3 if isinstance(holder, dict):
            holder[str(chance.choice(_ODD))] = holder[key]
        case 4 if isinstance(holder[key], int):
            holder[key] += chance.choice((-1, 1, 1 << chance.randrange(64)))
        case _:
            holder[key] = copy(chance.choice(_ODD))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    """Yield each object or list with each of its keys or places."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])
