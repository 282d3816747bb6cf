"""Keep a library from importing what it merely could use: memory of the daemon."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def unimportable(name: str) -> Iterator[None]:
    """Make imports of this module raise ImportError meanwhile."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment] # known to import
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before


@contextmanager
def stand_in(name: str) -> Iterator[None]:
    """Let imports of this module get an empty stand-in, unless it is there already.

    For a library that insists on a module which it needs in functions only that are
    never called. Annotations may name what the module has; afterwards it can be had.
    """
    if name in sys.modules:
        yield
        return
    module = ModuleType(name)
    module.__getattr__ = lambda _: object  # type: ignore[method-assign]
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
