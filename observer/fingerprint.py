"""A few digits that are the same for two machines when their bindings are."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.machine import PciDevice
    from observer.pictured import PicturedDevice

DIGITS: Final = (
    16  # hexadecimal; two of 100,000 machines agree by chance once in 10^9 times
)


def fingerprint(devices: Iterable[PciDevice | PicturedDevice]) -> str:
    """Return it: of each device's address, ids, driver and driver_override.

    Neither the order of the devices nor anything else about them matters.
    """
    rows = sorted(map(_row, devices))
    return sha256(b"\n".join(rows)).hexdigest()[:DIGITS]


def _row(device: PciDevice | PicturedDevice) -> bytes:
    """Spell a device so that no other one is spelled the same, in one line.

    A driver's name and an override are any text: they may hold what separates fields,
    and bytes that are no UTF-8. Escaped, two lone surrogates would look like a pair.
    """
    bound = device.driver, device.driver_override
    text = json.dumps([device.address, *device.ids, *bound], ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
