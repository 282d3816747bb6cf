"""What the return value of the hooked probe function says about a probe."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import Literal

from observer.record import ProbeResult

_ERRNO = re.compile(r"[A-Z0-9_]{1,32}")

EPROBE_DEFER = 517  # never leaves the kernel, so Python does not know it

ProbeFunction = Literal[
    "driver_probe_device", "__driver_probe_device", "pci_device_probe"
]
ProbeRule = Callable[[int], tuple[ProbeResult, str | None]]

_REFUSED_BY_THE_CORE = {
    errno.ENODEV: ProbeResult.GONE,
    errno.EBUSY: ProbeResult.BUSY,
    EPROBE_DEFER: ProbeResult.DEFERRED,
}


def is_errno(text: str) -> bool:
    """Tell whether this is spelled as an errno is here: a name, or a number."""
    return _ERRNO.fullmatch(text) is not None


def errno_name(number: int) -> str:
    """Return "EBUSY" for 16, or the number as text when nobody named it."""
    if number == EPROBE_DEFER:
        return "EPROBE_DEFER"
    return errno.errorcode.get(number, str(number))


def of_driver_probe_device(ret: int) -> tuple[ProbeResult, str | None]:
    """Read `ret` where 1 is bound and 0 hides the errno of the driver's probe."""
    if ret == 1:
        return ProbeResult.BOUND, None
    if ret == 0:
        return ProbeResult.REFUSED, None
    return _of_core(ret)


# Linux kernel commit 204db60c8357 (in v5.14)
# Linux kernel commit e1499647c69c (in v5.14)
# Linux kernel commit ef6dcbdd8eb2 (in v5.14)
# Linux kernel commit 45ddcb42949f (in v5.14)
def of___driver_probe_device(ret: int) -> tuple[ProbeResult, str | None]:
    """Read `ret` where 0 is bound and the errno of the driver's probe is positive."""
    if ret == 0:
        return ProbeResult.BOUND, None
    if ret == EPROBE_DEFER:
        return ProbeResult.DEFERRED, errno_name(ret)
    return _of_core(ret)


def of_pci_device_probe(ret: int) -> tuple[ProbeResult, str | None]:
    """Read `ret` where it is the driver's own, 0 or an errno that is negative."""
    if ret == 0:
        return ProbeResult.BOUND, None
    deferred = ret == -EPROBE_DEFER
    result = ProbeResult.DEFERRED if deferred else ProbeResult.REFUSED
    return result, errno_name(-ret)


def _of_core(ret: int) -> tuple[ProbeResult, str]:
    """Read an errno; only a negative one comes from the core, not from the driver."""
    result = _REFUSED_BY_THE_CORE.get(-ret, ProbeResult.REFUSED)
    return result, errno_name(abs(ret))


PROBE_RULES: dict[ProbeFunction, ProbeRule] = {
    "__driver_probe_device": of___driver_probe_device,
    "driver_probe_device": of_driver_probe_device,
    "pci_device_probe": of_pci_device_probe,
}
