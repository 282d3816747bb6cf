"""Text from outside, made fit for terminals, log lines and labels.

A driver's name, a comm or a driver_override may hold any bytes but NUL, a terminal's
control sequences included.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[\w.:/+-]+", re.ASCII)


def printable(text: str) -> str:
    r"""Spell what can't be printed, surrogates included, as Python does: ``\x1b``.

    Backslashes are doubled, so that no two texts are spelled the same.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_spelled, text))


def quoted(name: str) -> str:
    """Return a name for a sentence: as it is where it is a word, else by `repr`."""
    return name if _WORD.fullmatch(name) else repr(name)


def _spelled(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    return character.encode("unicode_escape").decode("ascii")
