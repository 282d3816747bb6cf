"""What a boot of another kernel would change on a machine, device by device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.preflight.bindings import binding
from observer.preflight.configuration import configuration
from observer.preflight.framebuffer import framebuffer
from observer.preflight.rules import modules, override_only, rules
from observer.preflight.shape import Change, Note
from observer.preflight.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from observer.boot_config import BootConfig
    from observer.machine import Machine, PciDevice
    from observer.preflight.kernels import Kernel
    from observer.preflight.outlook import Outlook


class Predicted(NamedTuple):
    """One device, under both kernels."""

    device: PciDevice
    override: str | None  # its driver_override after a boot
    now: Outlook  # of a boot of the running kernel
    then: Outlook  # of a boot of the other one
    override_only: tuple[str, ...]  # modules that match with driver_override, then


class Preflight(NamedTuple):
    """A machine before the boot of another kernel."""

    machine: Machine
    here: Kernel
    there: Kernel
    devices: tuple[Predicted, ...]
    changes: tuple[Change, ...]
    notes: tuple[Note, ...]
    gaps: tuple[str, ...]  # what could not be learned, a sentence each


def preflight(
    machine: Machine,
    config: BootConfig,
    here: Kernel,
    there: Kernel,
    links: Mapping[str, str],
    gaps: tuple[str, ...] = (),
) -> Preflight:
    """Predict what a boot of `there` changes on a machine that runs `here`.

    `links` names the modules of drivers that are built in, as far as sysfs does; `gaps`
    is what could not be read. The command line is taken to stay as it is.
    """
    view = View(machine, config, here, there, links)
    devices = tuple(_predicted(view, each) for each in machine.devices.values())
    said = [*_general(view), *(each for one in devices for each in _of(view, one))]
    return Preflight(
        machine,
        here,
        there,
        devices,
        tuple(each for each in said if isinstance(each, Change)),
        tuple(each for each in said if isinstance(each, Note)),
        tuple(
            dict.fromkeys(
                (*machine.gaps, *gaps, *here.gaps, *there.gaps, *_unknown(view))
            )
        ),
    )


def has_changes(preflight: Preflight) -> bool:
    """Tell whether anything is predicted to change: the exit status of the command."""
    return bool(preflight.changes)


def _predicted(view: View, device: PciDevice) -> Predicted:
    now, then = view.outlooks(device)
    aliases = view.there.modules.aliases
    return Predicted(
        device,
        view.then.override(device),
        now,
        then,
        aliases.override_only_modules(device.ids),
    )


def _general(view: View) -> Iterator[Change | Note]:
    yield from configuration(view)
    yield from rules(view)
    yield from modules(view)
    yield from override_only(view)


def _of(view: View, one: Predicted) -> Iterator[Change | Note]:
    for each in (
        binding(view, one.device, one.now, one.then),
        framebuffer(view, one.device, one.then),
    ):
        if each is not None:
            yield each


def _unknown(view: View) -> Iterator[str]:
    if not view.then.tells_built_in:
        yield (
            f"{view.there.release} does not tell the ids of its built-in drivers (its "
            "modules.builtin.modinfo has none, as before Linux 6.18): those of now are "
            "taken, and a built-in driver that is new in it is not seen."
        )
