"""Keep a library from importing another one that it merely could use."""

from __future__ import annotations

import sys
from contextlib import contextmanager
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
