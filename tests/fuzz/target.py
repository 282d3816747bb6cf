"""What is fuzzed: a function of bytes, what it may raise, and what to begin with."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple

from fuzz import targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # An input, the most bytes, a seed: another input.
    Mutator = Callable[[bytes, int, int], bytes]

PACKAGES: Final = ("observer", "yaml")  # that are watched


class Target(NamedTuple):
    """One function that must stand any bytes."""

    run: Callable[[bytes], None]  # AssertionError: what it came to is wrong
    errors: tuple[type[Exception], ...]  # the named ones; all others are findings
    seeds: Callable[[], Iterable[bytes]]  # that it understands
    share: int  # of all inputs, beside those of the other targets
    max_bytes: int = 4096
    words: tuple[str, ...] = ()  # to put into inputs
    mutate: Mutator | None = None  # instead of libFuzzer's own


def names() -> list[str]:
    """Return the names of all targets."""
    return sorted(each.name for each in pkgutil.iter_modules(targets.__path__))


def load(name: str) -> Target:
    """Import a target, and with it what it is about."""
    module = name if "." in name else f"fuzz.targets.{name}"
    found: Target = import_module(module).TARGET
    return found


def seeds_of(target: Target) -> list[bytes]:
    """Return the seeds; none is longer than an input may be."""
    return [seed[: target.max_bytes] for seed in target.seeds()]
