"""observer/story.py and observer/obstacles.py: what `explain` tells."""

from __future__ import annotations

import pytest

from observer.machine import Machine, PciDevice
from observer.obstacles import Surroundings
from observer.record import Device
from observer.story import StoryError, normalised, story

NIC = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)


def machine(*devices: PciDevice) -> Machine:
    """Return a machine with these devices and without drivers."""
    return Machine(
        release="6.1.0-56-amd64",
        layout="E",
        semantics="linux-5.15",
        new_id_rules="linux-7.3",
        drivers_autoprobe=True,
        drivers={},
        order_known=True,
        devices={device.address: device for device in devices},
        gaps=(),
        now_ns=100_000_000_000,
        realtime_offset_ns=0,
    )


@pytest.mark.parametrize("text", ["00:02.0", "0000:00:02.0", " 0000:00:02.0\n"])
def test_address_as_people_write_it(text: str) -> None:
    """The domain may be left out."""
    assert "0000:00:02.0" == normalised(text)


def test_address_in_upper_case() -> None:
    """As some tools print it."""
    assert "10000:e1:0a.7" == normalised("10000:E1:0A.7")


@pytest.mark.parametrize(
    "text", ["", "e1000", "00:02", "00:02.8", "0:0:2.0", "\x1b[2J"]
)
def test_no_address(text: str) -> None:
    """Anything else is refused in one printable line."""
    with pytest.raises(StoryError, match=r"write it as 0000:00:02\.0") as error:
        normalised(text)
    assert str(error.value).isprintable()


def test_no_such_device() -> None:
    """The nearest addresses are named."""
    devices = [PciDevice(f"0000:00:0{n}.0", NIC, None, None) for n in range(5)]
    with pytest.raises(StoryError, match=r"no such device; the nearest: 0000:00:00\.0"):
        story(machine(*devices), "00:07.0", surroundings=Surroundings())


def test_24_verified_state_per_address() -> None:
    """A script printed success, nothing is bound."""
    told = story(machine(PciDevice("0000:00:02.0", NIC, None, None)), "00:02.0")
    assert "0000:00:02.0 (8086:100e, class 020000) has no driver" == told.headline
