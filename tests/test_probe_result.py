"""observer/probe_result.py: return values by the rules of each kernel."""

from __future__ import annotations

import errno

import pytest

from observer.probe_result import PROBE_RULES, errno_name
from observer.record import ProbeResult

BOUND, DEFERRED, REFUSED, BUSY, GONE = ProbeResult


@pytest.mark.parametrize(
    ("ret", "result", "error"),
    [
        (1, BOUND, None),
        (0, REFUSED, None),
        (-errno.ENODEV, GONE, "ENODEV"),
        (-517, DEFERRED, "EPROBE_DEFER"),
        (-errno.EBUSY, BUSY, "EBUSY"),
        (-errno.EIO, REFUSED, "EIO"),
        (2, REFUSED, "ENOENT"),
        (-1234, REFUSED, "1234"),
    ],
)
def test_up_to_5_13(ret: int, result: ProbeResult, error: str | None) -> None:
    """1 is bound; 0 is refused without telling why."""
    assert (result, error) == PROBE_RULES["driver_probe_device"](ret)


@pytest.mark.parametrize(
    ("ret", "result", "error"),
    [
        (0, BOUND, None),
        (517, DEFERRED, "EPROBE_DEFER"),
        (errno.EIO, REFUSED, "EIO"),
        (errno.EBUSY, REFUSED, "EBUSY"),  # the driver's own, not the core's
        (errno.ENODEV, REFUSED, "ENODEV"),
        (1234, REFUSED, "1234"),
        (-errno.ENODEV, GONE, "ENODEV"),
        (-errno.EBUSY, BUSY, "EBUSY"),
        (-517, DEFERRED, "EPROBE_DEFER"),
        (-errno.EIO, REFUSED, "EIO"),
        (-0x80000000, REFUSED, "2147483648"),
    ],
)
def test_since_5_14(ret: int, result: ProbeResult, error: str | None) -> None:
    """0 is bound; a positive errno comes from the driver, a negative from the core."""
    assert (result, error) == PROBE_RULES["__driver_probe_device"](ret)


@pytest.mark.parametrize(
    ("ret", "result", "error"),
    [
        (0, BOUND, None),
        (-517, DEFERRED, "EPROBE_DEFER"),
        (-errno.ENODEV, REFUSED, "ENODEV"),  # the driver's own, as all here
        (-errno.EBUSY, REFUSED, "EBUSY"),
        (-1234, REFUSED, "1234"),
    ],
)
def test_fallback(ret: int, result: ProbeResult, error: str | None) -> None:
    """0 is bound, and every errno is the driver's."""
    assert (result, error) == PROBE_RULES["pci_device_probe"](ret)


def test_unnamed_errno() -> None:
    """A number without a name is its own name."""
    assert errno_name(1234) == "1234"
