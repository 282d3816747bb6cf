"""A prediction as JSON, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from observer.notation import device_object

if TYPE_CHECKING:
    from observer.machine import Machine
    from observer.preflight.candidates import Candidate
    from observer.preflight.kernels import Kernel
    from observer.preflight.outlook import Outlook
    from observer.preflight.prediction import Predicted, Preflight

FORMAT: Final = "pci-observer-preflight"
VERSION: Final = 1


def as_object(preflight: Preflight) -> dict[str, object]:
    """Return the prediction: the same for the same machine and kernels."""
    machine = preflight.machine
    return {
        "format": FORMAT,
        "version": VERSION,
        "unix_ns": machine.now_ns + machine.realtime_offset_ns,
        "from": _running_object(machine),
        "to": _kernel_object(preflight.there),
        "changes": [each._asdict() for each in preflight.changes],
        "notes": [each._asdict() for each in preflight.notes],
        "devices": [_device_object(preflight, each) for each in preflight.devices],
        "gaps": list(preflight.gaps),
    }


def _running_object(machine: Machine) -> dict[str, object]:
    return {
        "release": machine.release,
        "layout": machine.layout,
        "semantics": machine.semantics,
        "new_id_rules": machine.new_id_rules,
    }


def _kernel_object(kernel: Kernel) -> dict[str, object]:
    rules = kernel.rules
    return {
        "release": kernel.release,
        "layout": rules.layout if rules else None,
        "semantics": rules.semantics if rules else None,
        "new_id_rules": rules.new_id_rules if rules else None,
    }


def _device_object(preflight: Preflight, one: Predicted) -> dict[str, object]:
    device = one.device
    return {
        "address": device.address,
        "ids": device_object(device.ids),
        "driver": device.driver,
        "driver_override": device.driver_override,
        "driver_override_at_boot": one.override,
        "now": _outlook_object(one.now),
        "then": _outlook_object(one.then),
        "override_only": list(one.override_only),
        "changes": [
            str(each.kind)
            for each in preflight.changes
            if each.address == device.address
        ],
    }


def _outlook_object(outlook: Outlook) -> dict[str, object]:
    winner = outlook.winner
    return {
        "driver": winner.driver if winner else None,
        "module": winner.module if winner else None,
        "certainty": str(outlook.certainty),
        "reason": outlook.reason,
        "candidates": [*map(_candidate_object, outlook.candidates)],
        "kept_out": [*map(_candidate_object, outlook.kept_out)],
    }


def _candidate_object(candidate: Candidate) -> dict[str, object]:
    return {
        "module": candidate.module,
        "driver": candidate.driver,
        "match": str(candidate.match),
        "comes": str(candidate.comes),
        "certain": candidate.certain,
        "place": candidate.place,
    }
