"""A store with three boots of two kernels, as a daemon would have kept it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import machines
from pictures import file_of

from observer.store import FILE, Running, Store

if TYPE_CHECKING:
    from pathlib import Path

BOOTS = ("aaaa-1", "bbbb-2", "bbbb-3")
RULES = ("B", "linux-5.15", "linux-5.11", "0.1.0")
RELEASES = ("6.1", "6.1", "7.3")


def keep(directory: Path, *, pictures: bool = True) -> Path:
    """Make the store; each picture was taken at as many ns as its boot's place."""
    path = directory / FILE
    for place, (boot_id, release) in enumerate(zip(BOOTS, RELEASES, strict=True)):
        store = Store(path, Running(boot_id, release, "x86_64", *RULES))
        if pictures:
            device = machines.device(bound="e1000")
            document = file_of(machines.machine(device, release=release)) | {
                "unix_ns": place
            }
            store.keep_picture(document, place)
        store.start()
        store.close()
    return path
