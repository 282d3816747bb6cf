"""Keep a process that runs for months small: what libc and the kernel hold for it.

Both keep memory at hand for speed that the daemon has no use for. Where one of them
can't be told so, nothing is lost but memory.
"""

from __future__ import annotations

import ctypes as ct
import gc
from typing import Final

from observer.unimportable import stand_in, unimportable

# OpenSSL would take 6 MB of the daemon, and hashlib has hashes of its own. Entities
# are half a megabyte to read HTML, which is only written.
with unimportable("_hashlib"), stand_in("html.entities"):
    import hashlib  # noqa: F401
    import html  # noqa: F401

_M_ARENA_MAX: Final = -8  # malloc.h
_PR_SET_THP_DISABLE: Final = 41  # linux/prctl.h


def save() -> None:
    """Have one heap for all threads, and no huge pages; to be called early."""
    libc = ct.CDLL(None)
    libc.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free to the kernel, as after a start that needed much."""
    gc.collect()
    libc = ct.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
