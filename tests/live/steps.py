"""What is done to a kernel while it is observed, and what must come of it.

Errnos and bindings follow kernel-facts.md, sections 3 and 5; where kernels differ they
are told apart by their rules for new_id, as the layout in a recording's header names
them: linux-3.16 (5.10), linux-5.11 (6.12.90), linux-7.3 (6.1.192, 7.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

ByRules = str | Mapping[str, str]

GONE: Final = None  # there is no such device
UNBOUND: Final = ""


class Write(NamedTuple):
    """A write below /sys/bus/pci; `{edu}` stands for that device's address."""

    path: str
    text: str
    errno: ByRules = ""  # expected; "": success


class Run(NamedTuple):
    """A command of a real client."""

    command: str
    error: str = ""  # what it must say; "": it must succeed


class Step(NamedTuple):
    """One thing that happens, and the state after it."""

    name: str
    actions: tuple[Write | Run, ...]
    bound: Mapping[str, str | None]  # driver by role, from sysfs
    # pci_match_device() calls by arithmetic: a number, or one for each device or driver
    calls: int | str | None = None


def expected_errno(write: Write, rules: str) -> str:
    """Return the errno that this write must end with."""
    return by_rules(write.errno, rules)


def by_rules(errno: ByRules, rules: str) -> str:
    """Return what holds under these rules for new_id."""
    return errno if isinstance(errno, str) else errno[rules]


def _override(role: str, driver: str) -> Write:
    return Write(f"devices/{{{role}}}/driver_override", f"{driver}\n")


def _probe(role: str) -> Write:
    return Write("drivers_probe", f"{{{role}}}")


def _to(driver: str, attribute: str, text: str, errno: ByRules = "") -> Write:
    return Write(f"drivers/{driver}/{attribute}", text, errno)


EEXIST: Final = {"linux-3.16": "", "linux-5.11": "EEXIST", "linux-7.3": "EEXIST"}
# Where a duplicate was accepted there is one more to remove.
ONE_MORE: Final = {"linux-3.16": "", "linux-5.11": "ENODEV", "linux-7.3": "ENODEV"}
BOUND_ALREADY: Final = {
    "linux-3.16": "ENODEV",
    "linux-5.11": "EBUSY",
    "linux-7.3": "EBUSY",
}
_TESTDEV: Final = "1b36 0005"

STEPS: Final = (
    Step("load_vfio_pci", (Run("modprobe vfio-pci"),), {"edu": ""}, "devices"),
    Step("load_pci_stub", (Run("modprobe pci-stub"),), {"edu": ""}, "devices"),
    Step("probe_unclaimed", (_probe("edu"),), {"edu": ""}, "drivers"),
    Step(
        "override_and_probe",
        (_override("edu", "pci-stub"), _probe("edu")),
        {"edu": "pci-stub"},
    ),
    Step("probe_bound", (_probe("edu"),), {"edu": "pci-stub"}, 0),
    Step("unbind", (_to("pci-stub", "unbind", "{edu}"),), {"edu": ""}, 0),
    Step("clear_override", (_override("edu", ""), _probe("edu")), {"edu": ""}),
    Step(
        "override_of_nobody",
        (_override("nic", "none"), _to("e1000", "unbind", "{nic}"), _probe("nic")),
        {"nic": ""},
        "drivers",
    ),
    Step("override_gone", (_override("nic", ""), _probe("nic")), {"nic": "e1000"}),
    Step(
        "new_id",
        (_to("pci-stub", "new_id", _TESTDEV),),
        {"testdev": "pci-stub", "edu": ""},
    ),
    Step(
        "new_id_again",
        (_to("pci-stub", "new_id", _TESTDEV, EEXIST),),
        {"testdev": "pci-stub"},
    ),
    Step(
        "new_id_with_seven_fields",
        (_to("pci-stub", "new_id", f"{_TESTDEV} ffffffff ffffffff 0 0 0"),),
        {"testdev": "pci-stub"},
        "devices",
    ),
    Step(
        "remove_id",
        (
            _to("pci-stub", "remove_id", _TESTDEV),
            _to("pci-stub", "remove_id", _TESTDEV),
            _to("pci-stub", "remove_id", _TESTDEV, ONE_MORE),
            _to("pci-stub", "remove_id", _TESTDEV, "ENODEV"),
        ),
        {"testdev": "pci-stub"},
        0,
    ),
    Step(
        "unbind_after_remove_id",
        (_to("pci-stub", "unbind", "{testdev}"), _probe("testdev")),
        {"testdev": ""},
        "drivers",
    ),
    Step(
        "bind_mismatch",
        (_to("pci-stub", "bind", "{edu}", "ENODEV"),),
        {"edu": ""},
        1,
    ),
    Step(
        "bind",
        (_override("edu", "pci-stub"), _to("pci-stub", "bind", "{edu}")),
        {"edu": "pci-stub"},
        2,
    ),
    Step(
        "bind_again",
        (_to("pci-stub", "bind", "{edu}", BOUND_ALREADY),),
        {"edu": "pci-stub"},
    ),
    Step(
        "unbind_mismatch",
        (_to("pci-stub", "unbind", "{testdev}", "ENODEV"),),
        {"testdev": "", "edu": "pci-stub"},
        0,
    ),
    Step("unload_pci_stub", (Run("modprobe -r pci-stub"),), {"edu": ""}, 0),
    Step("reload_pci_stub", (Run("modprobe pci-stub"),), {"edu": "pci-stub"}),
    Step(
        "driverctl_set",
        (Run("driverctl set-override {testdev} pci-stub"),),
        {"testdev": "pci-stub"},
    ),
    Step(
        "driverctl_unset",
        # No other driver claims it, which driverctl reports after its work is done.
        (Run("driverctl unset-override {testdev}", error="failed to bind device"),),
        {"testdev": ""},
    ),
    Step(
        "driverctl_nosave",
        (Run("driverctl --nosave set-override {nic} pci-stub"),),
        {"nic": "pci-stub"},
    ),
    Step(
        "driverctl_nosave_unset",
        (Run("driverctl --nosave unset-override {nic}"),),
        {"nic": "e1000"},
    ),
    Step("remove", (Write("devices/{testdev}/remove", "1"),), {"testdev": GONE}, 0),
    Step("rescan", (Write("rescan", "1"),), {"testdev": ""}, "drivers"),
    Step(
        "remove_and_rescan_bound",
        (Write("devices/{nic}/remove", "1"), Write("rescan", "1")),
        {"nic": "e1000"},
    ),
    Step(
        "enable_vfs",
        (Write("devices/{nvme}/sriov_numvfs", "4"),),
        # QEMU's virtual functions start offline: nvme tries each and gives up.
        {"vf1": "", "vf2": "", "vf3": "", "vf4": "", "nvme": "nvme"},
    ),
    Step(
        "override_vf",
        (_override("vf1", "pci-stub"), _probe("vf1")),
        {"vf1": "pci-stub", "vf2": ""},
    ),
    Step(
        "disable_vfs",
        (Write("devices/{nvme}/sriov_numvfs", "0"),),
        {"vf1": GONE, "vf4": GONE, "nvme": "nvme"},
        0,
    ),
    Step(
        "bind_to_vfio_pci",
        (
            _to("pci-stub", "unbind", "{edu}"),
            _override("edu", "vfio-pci"),
            _probe("edu"),
        ),
        {"edu": "vfio-pci"},
    ),
    Step(
        "new_id_of_vfio_pci",
        (_to("vfio-pci", "new_id", _TESTDEV),),
        {"testdev": "vfio-pci"},
    ),
    Step(
        "unload_all",
        (
            Run("modprobe -r vfio-pci"),
            Run("modprobe -r pci-stub"),
            _override("edu", ""),
        ),
        {"edu": "", "testdev": ""},
        0,
    ),
)

# Steps that hang on which entries count, for a run by the wrong semantics.
WRONG_ERA: Final = (
    Step("load_vfio_pci", (Run("modprobe vfio-pci"),), {"edu": ""}, "devices"),
    Step("probe_unclaimed", (_probe("edu"),), {"edu": ""}, "drivers"),
    Step(
        "bind_to_vfio_pci",
        (_override("edu", "vfio-pci"), _probe("edu")),
        {"edu": "vfio-pci"},
    ),
    Step(
        "new_id_of_vfio_pci",
        (_to("vfio-pci", "new_id", _TESTDEV),),
        {"testdev": "vfio-pci"},
    ),
    Step(
        "unload_vfio_pci",
        (Run("modprobe -r vfio-pci"), _override("edu", "")),
        {"edu": ""},
        0,
    ),
)
