"""What goes wrong on users' machines, caused in a guest and cured again.

Each stands for threads in which somebody suffered from it. Not here, for a guest under
one kernel can't have it: a driver's own denylist (no QAT is emulated:
intel/intel-device-plugins-for-kubernetes#517), and what only another kernel or an
earlier boot can tell (vfio built in, pop-os/pop#968; a module that is gone,
pavolelsig/passthrough_helper_fedora#2; another driver after a reboot or an upgrade,
harvester/harvester#2819 and #6892; a candidate that is new, thesofproject/linux#4999).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from live.steps import Run, Write

# The devices, by the ids that QEMU gives them and their place among the like.
ROLES: Final = {
    "edu": ("0x1234", "0x11e8", 0),
    "testdev": ("0x1b36", "0x0005", 0),
    "twin1": ("0x1b36", "0x0005", 1),  # both in one IOMMU group, behind a bridge
    "twin2": ("0x1b36", "0x0005", 2),
    "nic": ("0x8086", "0x100e", 0),
    "realtek": ("0x10ec", "0x8139", 0),
    "nvme": ("0x1b36", "0x0010", 0),
    "vga": ("0x1234", "0x1111", 0),
}


class Shell(NamedTuple):
    """What bash does, as an administrator would type it."""

    text: str


class Python(NamedTuple):
    """What a Python script does."""

    text: str


Action = Write | Run | Shell | Python


class Explained(NamedTuple):
    """What `explain` must say of a device: each expression is found in its text."""

    role: str
    says: tuple[str, ...]
    driver: str | None = None  # asked for with --driver
    not_on: str = ""  # slug of new_id's rules under which this can't be


class Trouble(NamedTuple):
    """Something that goes wrong with a device."""

    name: str
    cause: tuple[Action, ...]
    cure: tuple[Action, ...]
    finding: tuple[str, str, str] | None = None  # role, finding, kind
    explained: tuple[Explained, ...] = ()
    threads: tuple[str, ...] = ()  # where users met it
    lasts: bool = False  # the finding is about what was, whatever is done now


def override(role: str, driver: str) -> Write:
    """Set or clear a device's driver_override."""
    return Write(f"devices/{{{role}}}/driver_override", f"{driver}\n")


def probe(role: str) -> Write:
    """Offer a device to all drivers."""
    return Write("drivers_probe", f"{{{role}}}")


def to(driver: str, attribute: str, text: str, errno: str = "") -> Write:
    """Write to a file of a driver."""
    return Write(f"drivers/{driver}/{attribute}", text, errno)


def unbind(driver: str, role: str) -> Write:
    """Take a device away from its driver."""
    return to(driver, "unbind", f"{{{role}}}")


TESTDEV: Final = "1b36 0005"

# Before the observer starts: what it must find, as no event tells.
BEFORE: Final = (
    Run("modprobe vfio-pci"),
    Run("modprobe pci-stub"),
    Run("modprobe uio_pci_generic"),
    to("pci-stub", "new_id", "dead beef"),
    to("pci-stub", "new_id", "8086 9999 1 2 020000 ffff00 0"),
    to("vfio-pci", "new_id", "1234 11e8"),
    override("testdev", "pci-stub"),
    to("pci-stub", "bind", "{testdev}"),
    override("testdev", ""),
)
# By driver, in the order of the list.
DYNIDS_BEFORE: Final = {
    "pci-stub": [
        (0xDEAD, 0xBEEF, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0),
        (0x8086, 0x9999, 1, 2, 0x020000, 0xFFFF00),
    ],
    "vfio-pci": [(0x1234, 0x11E8, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0)],
}
AFTER: Final = (
    unbind("pci-stub", "testdev"),
    unbind("vfio-pci", "edu"),
    to("pci-stub", "remove_id", "dead beef"),
    to("pci-stub", "remove_id", "8086 9999 1 2 020000 ffff00"),
    to("vfio-pci", "remove_id", "1234 11e8"),
)

# What changes the picture besides bindings.
MOVES: Final = (
    Write("devices/{testdev}/remove", "1"),
    Write("rescan", "1"),
    Write("devices/{nic}/remove", "1"),
    Write("rescan", "1"),
    Run("modprobe -r uio_pci_generic"),
    Run("modprobe uio_pci_generic"),
    Write("devices/{nvme}/sriov_numvfs", "4"),
    Write("devices/{nvme}/sriov_numvfs", "0"),
    Write("devices/{nvme}/sriov_numvfs", "2"),
)

TROUBLES: Final = (
    Trouble(
        "override_cleared_after_the_bind",
        cause=(override("edu", "pci-stub"), probe("edu"), override("edu", "")),
        finding=("edu", "unexplained_binding", "override_cleared"),
        explained=(
            Explained("edu", (r"is bound to pci-stub", r"driver_override was set at ")),
        ),
        cure=(unbind("pci-stub", "edu"),),
    ),
    Trouble(
        "dynid_removed_after_the_bind",
        cause=(
            to("pci-stub", "new_id", "1234 11e8"),
            to("pci-stub", "remove_id", "1234 11e8"),
        ),
        finding=("edu", "unexplained_binding", "dynid_removed"),
        explained=(
            Explained(
                "edu", (r"is bound to pci-stub", r"by dynid 1234:11e8, removed at ")
            ),
        ),
        cure=(unbind("pci-stub", "edu"),),
    ),
    Trouble(
        "new_id_is_not_idempotent",
        cause=(
            Shell(f"echo {TESTDEV} > /sys/bus/pci/drivers/pci-stub/new_id"),
            unbind("pci-stub", "testdev"),
            Shell(f"echo {TESTDEV} > /sys/bus/pci/drivers/pci-stub/new_id || true"),
        ),
        explained=(
            Explained(
                "testdev",
                (
                    r"dynid 1b36:0005 is already on pci-stub \(added .* by bash",
                    r"new_id is not idempotent",
                ),
                driver="pci-stub",
                not_on="linux-3.16",  # where it is bound once more
            ),
        ),
        cure=(
            probe("testdev"),
            unbind("pci-stub", "testdev"),
            unbind("pci-stub", "twin1"),
            unbind("pci-stub", "twin2"),
            to("pci-stub", "remove_id", TESTDEV),
            Shell(f"echo {TESTDEV} > /sys/bus/pci/drivers/pci-stub/remove_id || true"),
        ),
        threads=("OFS/opae-sdk#2485", "harvester/harvester#3609"),
    ),
    Trouble(
        "new_id_takes_all_of_a_kind",
        cause=(
            to("pci-stub", "new_id", TESTDEV),
            unbind("pci-stub", "twin1"),
            unbind("pci-stub", "twin2"),
        ),
        finding=("twin1", "greedy_dynid", "greedy_dynid"),
        explained=(
            Explained(
                "twin1", (r"dynid 1b36:0005 of pci-stub matches 3 devices, 2 of them",)
            ),
        ),
        cure=(to("pci-stub", "remove_id", TESTDEV), unbind("pci-stub", "testdev")),
        threads=("OFS/opae-sdk#2721",),
    ),
    Trouble(
        "override_left_behind",
        cause=(
            unbind("e1000", "nic"),
            override("nic", "vfio-pci"),
            probe("nic"),
            unbind("vfio-pci", "nic"),
        ),
        finding=("nic", "stale_override", "refuses_native"),
        explained=(
            Explained(
                "nic",
                (
                    r"STALE OVERRIDE {nic}: override=vfio-pci, no driver;",
                    r"native candidate e1000 rejected by it",
                    r"echo > /sys/bus/pci/devices/{nic}/driver_override",
                ),
            ),
        ),
        cure=(override("nic", ""), probe("nic")),
        threads=("OFS/opae-sdk#2729",),
    ),
    Trouble(
        "override_differs",
        cause=(override("nic", "pci-stub"),),
        finding=("nic", "stale_override", "differs"),
        explained=(
            Explained(
                "nic", (r"is bound to e1000", r"override=pci-stub, but bound to e1000")
            ),
        ),
        cure=(override("nic", ""),),
    ),
    Trouble(
        "override_of_a_module_that_is_not_loaded",
        cause=(
            Run("modprobe -r uio_pci_generic"),
            override("edu", "uio_pci_generic"),
            probe("edu"),
        ),
        finding=("edu", "stale_override", "names_no_driver"),
        explained=(
            Explained(
                "edu",
                (
                    r"override names uio_pci_generic, which is not registered",
                    r"module uio_pci_generic would provide it",
                    r"modprobe uio_pci_generic",
                ),
            ),
        ),
        cure=(override("edu", ""), Run("modprobe uio_pci_generic")),
        threads=("T-vK/MobilePassThrough#31",),
    ),
    Trouble(
        "framebuffer_holds_the_card",
        # vfio-pci drives the framebuffer away from 6.1 on.
        cause=(override("vga", "pci-stub"), probe("vga")),
        explained=(
            Explained("vga", (r"binding correct; BAR0 held by vesafb; boot_vga=1",)),
        ),
        cure=(unbind("pci-stub", "vga"), override("vga", "")),
        threads=("siderolabs/talos#14356",),
    ),
    Trouble(
        "driver_unloaded_hours_later",
        cause=(
            override("testdev", "uio_pci_generic"),
            probe("testdev"),
            to("uio_pci_generic", "new_id", "1234 11e8"),
            Run("modprobe -r uio_pci_generic"),
        ),
        finding=("edu", "orphan", "candidate_gone"),
        explained=(
            Explained(
                "edu", (r"driver uio_pci_generic unregistered at .*; 2 devices lost",)
            ),
            Explained("testdev", (r"driver uio_pci_generic unregistered at ",)),
        ),
        cure=(override("testdev", ""), Run("modprobe uio_pci_generic")),
        threads=("harvester/harvester#7815",),
    ),
    Trouble(
        "bind_without_override",
        cause=(to("vfio-pci", "bind", "{testdev}", "ENODEV"),),
        explained=(
            Explained(
                "testdev",
                (
                    r"vfio-pci's only static id is override_only and no override",
                    r"needs override vfio-pci",
                ),
                driver="vfio-pci",
                not_on="linux-3.16",  # where vfio-pci has no id
            ),
            Explained("testdev", (r"needs override vfio-pci",), driver="vfio-pci"),
        ),
        cure=(),
        threads=("ydb-platform/nbs#5296",),
    ),
    Trouble(
        "rebind_half_done",
        cause=(
            Shell("echo {nic} > /sys/bus/pci/drivers/e1000/unbind"),
            Shell("echo {nic} > /sys/bus/pci/drivers/vfio-pci/bind || true"),
        ),
        finding=("nic", "orphan", "unbound_and_bind_failed"),
        explained=(
            Explained(
                "nic",
                (
                    r"has no driver",
                    r"orphaned since .*; last driver e1000; unbound by comm=bash",
                    r"; then bind failed.*vfio-pci.*ENODEV",
                ),
            ),
        ),
        cure=(probe("nic"),),
        threads=("kata-containers/kata-containers#6843",),
    ),
    Trouble(
        "not_the_driver_that_was_meant",
        cause=(),
        explained=(
            Explained(
                "nic",
                (
                    r"is bound to e1000, not vfio-pci",
                    r"current driver e1000; needs override vfio-pci",
                ),
                driver="vfio-pci",
            ),
        ),
        cure=(),
        threads=("dra-driver-nvidia-gpu#1089", "kubevirt/kubevirt#7371"),
    ),
    Trouble(
        "unbound_by_somebody",
        cause=(Python("open('/sys/bus/pci/drivers/e1000/unbind','w').write('{nic}')"),),
        finding=("nic", "orphan", "unbound"),
        explained=(Explained("nic", (r"last driver e1000; unbound by comm=python3",)),),
        cure=(probe("nic"),),
        threads=("k8snetworkplumbingwg/sriov-network-operator#802",),
    ),
    Trouble(
        "module_never_loaded",
        cause=(Run("modprobe -r e1000"),),
        finding=("nic", "orphan", "candidate_gone"),
        explained=(
            Explained(
                "nic",
                (
                    r"no registered driver matches; modules\.alias would load e1000",
                    r"modprobe e1000",
                ),
            ),
        ),
        cure=(Run("modprobe e1000"),),
        threads=("systemd/systemd#11314",),
    ),
    Trouble(
        "two_candidates",
        cause=(to("pci-stub", "new_id", "8086 100e"),),
        explained=(
            Explained(
                "nic",
                (r"2 candidates; winner by registration order: pci-stub .*e1000",),
            ),
        ),
        cure=(to("pci-stub", "remove_id", "8086 100e"),),
        threads=("awesometic/realtek-r8125-dkms#7",),
    ),
    Trouble(
        "the_last_candidate_declines",
        cause=(Run("modprobe -r 8139cp"), probe("realtek")),
        finding=("realtek", "orphan", "unbound_and_bind_failed"),
        explained=(
            Explained(
                "realtek", (r"last driver 8139cp; .*; then bind failed, 8139too",)
            ),
            Explained(
                "realtek",
                (r"match ok; 8139too declined \(-ENODEV\)",),
                not_on="linux-3.16",  # where nobody is told the errno
            ),
        ),
        cure=(Run("modprobe 8139cp"),),
    ),
    Trouble(
        "the_other_candidate_declined",
        cause=(),
        explained=(
            Explained("realtek", (r"8139too, 8139cp\): both match; 8139too declined",)),
            Explained(
                "realtek",
                (r"8139too declined \(-ENODEV\)",),
                not_on="linux-3.16",
            ),
        ),
        cure=(),
        threads=("intel-gpu-i915-backports#192",),
    ),
    Trouble(
        "success_and_nothing_bound",
        cause=(probe("edu"),),
        explained=(
            Explained("edu", (r"has no driver", r"nothing in modules\.alias does")),
        ),
        cure=(),
        threads=("spdk/spdk#2926",),
    ),
    Trouble(
        "group_partly_on_vfio",
        cause=(
            override("twin2", "uio_pci_generic"),
            probe("twin2"),
            override("twin1", "vfio-pci"),
            probe("twin1"),
        ),
        finding=("twin1", "partial_group", "partial_group"),
        explained=(
            Explained(
                "twin1", (r"1 of 2 functions on vfio-pci; missing: {twin2} \(uio",)
            ),
        ),
        cure=(
            unbind("vfio-pci", "twin1"),
            unbind("uio_pci_generic", "twin2"),
            override("twin1", ""),
            override("twin2", ""),
        ),
        threads=("NVIDIA/gpu-operator#1328",),
    ),
    Trouble(
        "vf_of_a_vfio_pf_on_a_host_driver",
        cause=(
            unbind("nvme", "nvme"),
            override("nvme", "vfio-pci"),
            probe("nvme"),
            Shell("echo 1 > /sys/module/vfio_pci/parameters/enable_sriov"),
            Write("devices/{nvme}/sriov_numvfs", "2"),
            unbind("vfio-pci", "vf1"),
            override("vf1", "uio_pci_generic"),
            probe("vf1"),
        ),
        finding=("vf1", "vf_on_native_driver", "vf_on_native_driver"),
        explained=(
            Explained(
                "vf1", (r"ALERT: VF {vf1} of a vfio-owned PF bound to uio_pci_generic",)
            ),
        ),
        cure=(
            unbind("uio_pci_generic", "vf1"),
            override("vf1", "vfio-pci"),
            probe("vf1"),
        ),
        threads=("a thread on linux-pci in March 2026",),
    ),
    Trouble(
        "vfs_gone",
        cause=(Write("devices/{nvme}/sriov_numvfs", "0"), unbind("vfio-pci", "nvme")),
        finding=("nvme", "stale_override", "refuses_native"),
        explained=(Explained("nvme", (r"native candidate nvme rejected",)),),
        cure=(override("nvme", ""), probe("nvme")),
    ),
    Trouble(
        "group_renumbered",
        # The VF gets the number that the device gives up.
        cause=(
            Write("devices/{nvme}/sriov_drivers_autoprobe", "0"),
            Write("devices/{testdev}/remove", "1"),
            Write("devices/{nvme}/sriov_numvfs", "1"),
            Write("rescan", "1"),
        ),
        explained=(
            Explained("testdev", (r"IOMMU group \d+ -> \d+ since it was first seen",)),
            Explained("vf1", (r"sriov_drivers_autoprobe of the PF {nvme} is off",)),
        ),
        cure=(
            Write("devices/{nvme}/sriov_numvfs", "0"),
            Write("devices/{nvme}/sriov_drivers_autoprobe", "1"),
        ),
        threads=("k8snetworkplumbingwg/sriov-network-operator#797",),
    ),
    Trouble(
        "driverctl_sets_an_override",
        cause=(Run("driverctl --nosave set-override {testdev} pci-stub"),),
        explained=(
            Explained(
                "testdev",
                (r"is bound to pci-stub", r"driverctl \(pid .*driver_override"),
            ),
        ),
        # No other driver claims it, which driverctl reports after its work is done.
        cure=(
            Run(
                "driverctl --nosave unset-override {testdev}",
                error="failed to bind device",
            ),
        ),
    ),
    Trouble(
        "flapping",
        cause=(
            override("edu", "pci-stub"),
            Shell(
                "cd /sys/bus/pci/drivers/pci-stub; for i in 1 2 3 4 5 6 7; do "
                "echo {edu} > bind; echo {edu} > unbind; done"
            ),
        ),
        finding=("edu", "flapping", "flapping"),
        explained=(
            Explained("edu", (r"rebind flapping: \d+ times since .* by comm=bash",)),
        ),
        cure=(override("edu", ""),),
        threads=("NVIDIA/k8s-driver-manager#146",),
        lasts=True,
    ),
)
