"""A machine as a picture of it would tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.pictured import Pictured, PicturedDevice, PicturedDriver

if TYPE_CHECKING:
    from observer.candidates import Matching
    from observer.machine import Machine, PciDevice, PciDriver


def depict(machine: Machine, matching: Matching) -> Pictured:
    """Return the picture; `matching` tells the candidates."""
    return Pictured(
        machine.release,
        machine.layout,
        machine.semantics,
        machine.new_id_rules,
        matching.semantics,
        machine.now_ns + machine.realtime_offset_ns,
        machine.order_known,
        {name: _driver(driver) for name, driver in machine.drivers.items()},
        {
            address: _device(device, matching)
            for address, device in machine.devices.items()
        },
    )


def _driver(driver: PciDriver) -> PicturedDriver:
    name = driver.driver.name
    return PicturedDriver(name, driver.module, driver.built_in, driver.dynids)


def _device(device: PciDevice, matching: Matching) -> PicturedDevice:
    candidates = matching.of(device)
    return PicturedDevice(
        device.address,
        device.ids,
        device.driver,
        device.driver_override,
        device.physfn,
        tuple(each.driver for each in candidates.matching),
        tuple(each.driver for each in candidates.possible),
    )
