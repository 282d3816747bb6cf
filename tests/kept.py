"""A store with three boots of two kernels, as a daemon would have kept it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import machines
import stores
from pictures import file_of

from observer.store import FILE

if TYPE_CHECKING:
    from pathlib import Path

BOOTS = ("aaaa-1", "bbbb-2", "bbbb-3")
RELEASES = ("6.1", "6.1", "7.3")


def keep(directory: Path, *, pictures: bool = True) -> Path:
    """Make the store; each picture was taken at as many ns as its boot's place."""
    for place, (boot_id, release) in enumerate(zip(BOOTS, RELEASES, strict=True)):
        running = stores.RUNNING._replace(boot_id=boot_id, release=release)
        store = stores.store(directory, running)
        if pictures:
            machine = machines.machine(machines.device(bound="e1000"), release=release)
            store.keep_picture(file_of(machine) | {"unix_ns": place}, place)
        store.close()
    return directory / FILE
