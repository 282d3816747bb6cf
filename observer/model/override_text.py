"""driver_override as text: what a write stores, and what a read shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE_SIZE: Final = 4096
UNSET: Final = "(null)"  # what the kernel's printf() makes of no text


class Stored(NamedTuple):
    """The result of one write."""

    errno: int | str  # 0, or "EINVAL"
    driver_override: str | None  # afterwards; None: not set


def write_override(text: str, before: str | None, rules: str) -> Stored:
    """Write `text` where `before` is stored.

    Nothing is stripped but what follows a newline: a blank at the end of a driver's
    name makes it no driver's name. Raises KeyError when there are no such rules.
    """
    store = RULES[rules]
    if not text:  # the write gets no further than sysfs
        return Stored(0, before)
    if len(text.encode(errors="replace")) >= PAGE_SIZE - 1:
        return Stored("EINVAL", before)
    return Stored(0, store(text))


def read_override(driver_override: str | None) -> str:
    """Return what the file shows, up to its newline."""
    return UNSET if driver_override is None else driver_override


# Linux kernel commit 782a985d7af2 (in v3.16)
def linux_3_16(text: str) -> str | None:
    """Keep what stands before the first newline or NUL; nothing there clears."""
    return _cut(text) or None


# Linux kernel commit 23d99baf9d72 (in v6.0 and 5.19.9) ended this
def linux_5_19(text: str) -> str | None:
    """Let a leading newline clear, but take a leading NUL for a name that is empty.

    An empty name is no driver's, so nothing binds to the device then.
    """
    return None if text.startswith("\n") else _cut(text)


def _cut(text: str) -> str:
    return text.partition("\n")[0].partition("\0")[0]


RULES: Final[dict[str, Callable[[str], str | None]]] = {
    "linux-3.16": linux_3_16,  # and again since 5.19.9
    "linux-5.19": linux_5_19,  # 5.19.0 to 5.19.8 only
}
