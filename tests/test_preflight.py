"""observer/preflight: what a kernel upgrade would change, in an operator's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import machines
import pytest
from hypothesis import given
from kernels_made import ANY_ALIAS, E1000_ALIAS, RULES, boot_config, kernel
from lab.kernels import vmlinuz
from machines import ADDRESS, E1000, VFIO_PCI, device, driver, machine

from observer import target
from observer.preflight import (
    Change,
    Kind,
    Preflight,
    as_object,
    as_text,
    has_changes,
    preflight,
)
from observer.record import Device, Id, StoreFile

if TYPE_CHECKING:
    from observer.boot_config import BootConfig
    from observer.machine import Machine, PciDevice, PciDriver
    from observer.preflight import Kernel, Predicted

HERE = {"e1000": E1000_ALIAS, "vfio-pci": ANY_ALIAS, "pci-stub": ""}
PCI_STUB = driver("pci-stub", module="pci_stub")
E1000_DYNID = Id(0x8086, 0x100E)


def predict(
    there: Kernel,
    *devices: PciDevice,
    here: Kernel | None = None,
    config: BootConfig | None = None,
    drivers: tuple[PciDriver, ...] = (E1000, VFIO_PCI, PCI_STUB),
    **more: object,
) -> Preflight:
    """Predict for a machine with some devices; its kernel has the modules of HERE."""
    return preflight(
        machine(*devices, drivers=drivers, **more),
        config or boot_config(),
        here or kernel(HERE, release="6.12.90"),
        there,
        {},
    )


def said(found: Preflight) -> list[tuple[str, str]]:
    """Return kind and text of each change."""
    return [(str(each.kind), each.text) for each in found.changes]


def notes(found: Preflight) -> list[str]:
    """Return the texts of all notes."""
    return [each.text for each in found.notes]


def winner(one: Predicted) -> str | None:
    """Name who will have the device."""
    return one.then.winner.label if one.then.winner else None


def test_nothing_changes() -> None:
    """The same modules for the same devices are no finding."""
    found = predict(kernel(HERE), device(bound="e1000"))
    assert [] == said(found)
    assert [] == notes(found)
    assert not has_changes(found)
    (one,) = found.devices
    assert "e1000" == winner(one)
    assert "certain" == one.then.certainty
    assert "e1000 alone matches; the device asks for its module." == one.then.reason


def test_row_4_vfio_pci_becomes_built_in() -> None:
    """Options of modprobe.d reach no built-in driver: the card goes elsewhere."""
    config = boot_config(
        modprobe_d="options vfio-pci ids=8086:100e disable_vga=1\n",
        initramfs="vfio_pci\n",
    )
    found = predict(
        kernel({"e1000": E1000_ALIAS, "pci-stub": ""}, {"vfio-pci": ANY_ALIAS}),
        device(bound="vfio-pci"),
        drivers=(E1000, VFIO_PCI._replace(dynids=(E1000_DYNID,))),
        config=config,
    )
    assert [
        (
            "built_in",
            (
                "vfio-pci is built in in the target kernel; modprobe.d options do not "
                "apply; use vfio-pci.ids=, vfio-pci.disable_vga= on the command line "
                "(/etc/modprobe.d/a.conf)"
            ),
        ),
        (
            "dynid_not_persistent",
            (
                "vfio-pci now; then e1000: vfio-pci is built in in the target kernel; "
                "modprobe.d options do not apply; use vfio-pci.ids=8086:100e on the "
                "command line"
            ),
        ),
    ] == said(found)
    assert has_changes(found)


def test_row_4_on_the_command_line_it_applies() -> None:
    """What the message advises helps: built in, the driver is the first."""
    found = predict(
        kernel({"e1000": E1000_ALIAS}, {"vfio-pci": ANY_ALIAS, "pci-stub": ""}),
        device(bound="vfio-pci"),
        drivers=(E1000, VFIO_PCI._replace(dynids=(E1000_DYNID,))),
        config=boot_config(
            modprobe_d="options vfio-pci ids=8086:100e\n",
            command_line="quiet vfio_pci.ids=8086:100e",
        ),
    )
    assert [] == said(found)
    (one,) = found.devices
    assert "vfio-pci" == winner(one)
    assert "certain" == one.then.certainty
    assert (
        "vfio-pci is built in, so it is registered before all modules."
        == one.then.reason
    )


def test_row_4_blacklist_of_what_becomes_built_in() -> None:
    """A blacklist does not keep it away either."""
    found = predict(
        kernel({}, {"e1000": E1000_ALIAS, "vfio-pci": "", "pci-stub": ""}),
        device(),
        drivers=(),
        config=boot_config(modprobe_d="blacklist e1000\n"),
    )
    assert (
        "built_in",
        (
            "e1000 is built in in the target kernel; its blacklist in "
            "/etc/modprobe.d/a.conf does not apply"
        ),
    ) in said(found)
    assert "module e1000" == winner(found.devices[0])


def test_row_4_built_in_now_as_well() -> None:
    """What did not apply before is no change."""
    built_in = {"vfio-pci": ANY_ALIAS, "pci-stub": ""}
    found = predict(
        kernel({"e1000": E1000_ALIAS}, built_in),
        here=kernel({"e1000": E1000_ALIAS}, built_in, release="6.12.90"),
        config=boot_config(modprobe_d="options vfio-pci ids=8086:100e\n"),
    )
    assert [] == said(found)


def test_row_6_a_listed_module_is_gone() -> None:
    """A name in the initramfs list or in modules-load that is gone is told."""
    here = kernel(HERE | {"vfio_virqfd": ""}, release="6.12.90")
    found = predict(
        kernel(HERE),
        here=here,
        config=boot_config(initramfs="# vfio\nvfio_pci\nvfio_virqfd\n"),
    )
    assert [
        (
            "name_gone",
            (
                "initramfs or modules-load names vfio_virqfd, absent from the target "
                "kernel (/etc/initramfs-tools/modules)"
            ),
        )
    ] == said(found)


def test_a_listed_module_that_was_never_there_is_a_note() -> None:
    """Nothing changes for it."""
    found = predict(kernel(HERE), config=boot_config(modules_load="odd-name\n"))
    assert [] == said(found)
    assert [
        (
            "initramfs or modules-load names odd_name, absent from the target kernel "
            "(/etc/modules); it is absent from the running kernel as well"
        )
    ] == notes(found)


def test_a_listed_module_where_nothing_is_known_of_now() -> None:
    """It may be gone: that is told."""
    found = predict(
        kernel(HERE),
        here=kernel({}, release="6.12.90"),
        config=boot_config(modules_load="vfio_virqfd\n"),
    )
    assert ["name_gone"] == [kind for kind, _text in said(found)]


def test_names_in_modprobe_d_that_are_gone() -> None:
    """Those of options and softdeps have an effect, a blacklist of nothing has none."""
    here = kernel(HERE | {"a": "", "b": "", "c": ""}, release="6.12.90")
    found = predict(
        kernel(HERE),
        here=here,
        config=boot_config(
            modprobe_d="options a x=1\nsoftdep e1000 pre: b vfio-pci\nblacklist c\n"
        ),
    )
    assert [
        f"modprobe.d names {name}, absent from the target kernel "
        "(/etc/modprobe.d/a.conf)"
        for name in ("a", "b")
    ] == [text for _kind, text in said(found)]


def test_another_name_of_a_module_is_a_name() -> None:
    """An alias without wildcards can be listed too."""
    here = kernel({"aes_generic": "crypto-aes"}, release="6.12.90")
    config = boot_config(modules_load="crypto-aes\n")
    assert [] == said(
        predict(kernel({"aesni": "crypto-aes"}), here=here, config=config)
    )
    assert ["name_gone"] == [
        kind for kind, _ in said(predict(kernel(), here=here, config=config))
    ]


R8169 = "pci:v000010ECd00008125sv*sd*bc*sc*i*"
REALTEK = Device(0x10EC, 0x8125, 0x1043, 0x87D7, 0x020000)
R8125 = driver("r8125", Id(0x10EC, 0x8125), module="r8125")


def test_row_19_a_second_candidate() -> None:
    """Two modules for one device are a race, and a change where it is new."""
    found = predict(
        kernel({"r8125": R8169, "r8169": R8169}),
        device(bound="r8125", ids=REALTEK),
        here=kernel({"r8125": R8169}, release="6.12.90"),
        drivers=(R8125,),
    )
    assert [
        (
            "may_change",
            (
                "candidate set changed: +module r8169; 2 candidates, r8125 and module "
                "r8169; winner by registration order, which is a race"
            ),
        )
    ] == said(found)
    (one,) = found.devices
    assert (None, "race") == (winner(one), one.then.certainty)


def test_row_19_the_same_race_as_now() -> None:
    """A race that is there already is a note, no change."""
    both = {"r8125": R8169, "r8169": R8169}
    found = predict(
        kernel(both),
        device(bound="r8125", ids=REALTEK),
        here=kernel(both, release="6.12.90"),
        drivers=(R8125,),
    )
    assert [] == said(found)
    assert [
        (
            "as now, 2 candidates, r8125 and module r8169; winner by registration "
            "order, which is a race"
        )
    ] == notes(found)


def test_row_19_a_module_that_was_not_built_for_the_new_kernel() -> None:
    """The driver of somebody's own is absent, so the kernel's own gets the device."""
    found = predict(
        kernel({"r8169": R8169}),
        device(bound="r8125", ids=REALTEK),
        here=kernel({"r8125": R8169}, release="6.12.90"),
        drivers=(R8125,),
    )
    assert [
        (
            "other_driver",
            "r8125 now; then module r8169: r8125 (module r8125) is absent from 7.3",
        )
    ] == said(found)


@pytest.mark.parametrize(
    ("config", "softdep", "depend", "expected"),
    [
        ("softdep r8169 pre: r8125\n", "", {}, "r8125"),
        ("", "softdep r8125 pre: r8169\n", {}, "module r8169"),
        ("", "", {"r8169": "kernel/r8125.ko.xz"}, "r8125"),
        ("blacklist r8125\n", "", {}, "module r8169"),
        ("install r8169 /bin/false\n", "", {}, "r8125"),
        ("alias pci:v000010ECd00008125* r8125\n", "", {}, "r8125"),
        ("softdep r8169 post: r8125\n", "", {}, None),
        ("softdep r8169 pre: r8125\nsoftdep r8125 pre: r8169\n", "", {}, "r8125"),
    ],
)
def test_what_decides_a_race(
    config: str, softdep: str, depend: dict[str, str], expected: str | None
) -> None:
    """What modprobe is told to load before, or not at all, makes it certain."""
    both = {"r8125": R8169, "r8169": R8169}
    found = predict(
        kernel(both, softdep=softdep, depend=depend),
        device(bound="r8125", ids=REALTEK),
        here=kernel({"r8125": R8169}, release="6.12.90"),
        drivers=(R8125,),
        config=boot_config(modprobe_d=config),
    )
    (one,) = found.devices
    assert expected == winner(one)
    assert ("race" if expected is None else "certain") == one.then.certainty


def test_a_built_in_driver_is_the_first() -> None:
    """It is registered before any module, so there is no race."""
    found = predict(
        kernel({"r8125": R8169}, {"r8169": R8169}),
        device(bound="r8125", ids=REALTEK),
        here=kernel({"r8125": R8169, "r8169": R8169}, release="6.12.90"),
        drivers=(R8125,),
    )
    assert [
        (
            "other_driver",
            (
                "r8125 now; then module r8169: module r8169 is built in, so it is "
                "registered before all modules"
            ),
        )
    ] == said(found)


I915 = driver("i915", Id(0x8086, 0x56A0), module="i915")


@pytest.mark.guest  # needs the modules of two kernels
def test_row_20_i915_and_xe() -> None:
    """A graphics card of i915's has two candidates once there is xe."""
    found = between("6.1", "7.3", device(bound="i915", ids=graphics()), drivers=(I915,))
    assert [
        (
            "may_change",
            (
                "candidate set changed: +module xe; 2 candidates, i915 and module xe; "
                "winner by registration order, which is a race"
            ),
        )
    ] == said(found)


@pytest.mark.guest  # needs the modules of two kernels
def test_row_21_a_new_candidate_for_sound() -> None:
    """Linux 6.9 made snd_soc_avs one for what snd_hda_intel has."""
    ids = Device(0x8086, 0xA170, 0x1028, 0x06DC, 0x040300)
    known = driver("snd_hda_intel", Id(0x8086, 0xA170), module="snd_hda_intel")
    found = between(
        "6.1", "6.12.90", device(bound="snd_hda_intel", ids=ids), drivers=(known,)
    )
    (kind, text), *_ = said(found)
    assert "may_change" == kind
    assert text.startswith("candidate set changed: +module snd_soc_avs; ")


def graphics() -> Device:
    """Return a DG2 as the aliases of both kernels list it."""
    return Device(0x8086, 0x56A0, 0x8086, 0x1020, 0x030000)


def between(
    first: str,
    second: str,
    *devices: PciDevice,
    drivers: tuple[PciDriver, ...],
) -> Preflight:
    """Predict from the files of one of Debian's kernels to another."""
    here, there = installed(first), installed(second)
    assert here.rules is not None
    found = machine(*devices, drivers=drivers)._replace(
        release=here.release,
        layout=here.rules.layout,
        semantics=here.rules.semantics,
        new_id_rules=here.rules.new_id_rules,
    )
    return preflight(found, boot_config(), here, there, {})


def installed(wanted: str) -> Kernel:
    """Read one of Debian's kernels."""
    image = vmlinuz(wanted)
    root, release = image.parents[1], image.name.removeprefix("vmlinuz-")
    return target.installed(root / "lib/modules" / release, root)


SIMPLE = {"CONFIG_SYSFB_SIMPLEFB": "y", "CONFIG_DRM_SIMPLEDRM": "m"}


def given_card(config: dict[str, str] | None) -> Preflight:
    """Predict for the card that showed the boot and belongs to vfio-pci for good."""
    return predict(
        kernel(HERE, config=config),
        device(bound="vfio-pci", driver_override="vfio-pci", boot_vga=True),
        here=kernel(HERE, release="6.12.90", config={"CONFIG_DRM_SIMPLEDRM": "m"}),
        config=boot_config(overrides={ADDRESS: "vfio-pci"}),
    )


def test_row_5_a_framebuffer_of_the_new_kernel() -> None:
    """The binding stays right, but the kernel may keep the card's memory."""
    assert [
        (
            "framebuffer",
            (
                "binding correct; BAR0 may be held by BOOTFB/simpledrm; boot_vga=1; "
                "new in the target kernel's config: CONFIG_SYSFB_SIMPLEFB"
            ),
        )
    ] == said(given_card(SIMPLE))
    assert [] == said(given_card({"CONFIG_DRM_SIMPLEDRM": "m"}))


def test_row_5_without_a_config() -> None:
    """What can't be known is said."""
    found = given_card(None)
    assert [] == said(found)
    assert [
        (
            "boot_vga=1; whether BOOTFB/simpledrm of the target kernel would hold its "
            "BARs is unknown, for a kernel's config can't be read"
        )
    ] == notes(found)


def test_an_override_is_lost() -> None:
    """What was written to sysfs is gone after a boot; driverctl's is not."""
    given = device(bound="vfio-pci", driver_override="vfio-pci")
    found = predict(kernel(HERE), given)
    assert [
        Change(
            Kind.OVERRIDE_NOT_PERSISTENT,
            ADDRESS,
            "vfio-pci now; then e1000, as after any reboot: "
            "driver_override=vfio-pci is not persistent",
            f"driverctl set-override {ADDRESS} vfio-pci",
        )
    ] == [*found.changes]
    kept = predict(
        kernel(HERE), given, config=boot_config(overrides={ADDRESS: "vfio-pci"})
    )
    assert [] == said(kept)
    (one,) = kept.devices
    assert ("vfio-pci", "certain") == (winner(one), one.then.certainty)
    assert (
        "vfio-pci alone matches; driverctl sets driver_override to it."
        == one.then.reason
    )


def test_an_override_that_keeps_all_away_is_lost() -> None:
    """A device that is to have no driver would get one."""
    found = predict(kernel(HERE), device(driver_override="none"))
    assert [
        (
            "override_not_persistent",
            (
                "no driver, for driver_override=none, which is not persistent; then "
                "e1000, as after any reboot"
            ),
        )
    ] == said(found)
    kept = predict(
        kernel(HERE),
        device(driver_override="none"),
        config=boot_config(overrides={ADDRESS: "none"}),
    )
    assert [] == said(kept)
    assert None is winner(kept.devices[0])


def test_an_override_that_does_not_matter() -> None:
    """Losing it is no change where the same driver takes the device without."""
    found = predict(kernel(HERE), device(bound="e1000", driver_override="e1000"))
    assert [] == said(found)


def test_an_override_to_what_is_gone() -> None:
    """Driverctl can't give the device to a driver that is not there."""
    found = predict(
        kernel({"e1000": E1000_ALIAS, "pci-stub": ""}),
        device(bound="vfio-pci", driver_override="vfio-pci"),
        config=boot_config(overrides={ADDRESS: "vfio-pci"}),
    )
    assert [
        (
            "loses_driver",
            (
                "vfio-pci now; then no driver: vfio-pci (module vfio_pci) is absent "
                "from 7.3"
            ),
        )
    ] == said(found)


def test_a_dynid_is_lost() -> None:
    """Unless `ids=` gives it again, and something loads the module."""
    stub = PCI_STUB._replace(dynids=(E1000_DYNID,))
    given = device(bound="pci-stub")

    def texts(config: BootConfig) -> list[str]:
        found = predict(kernel(HERE), given, drivers=(E1000, stub), config=config)
        return [text for _kind, text in said(found)]

    assert [
        (
            "pci-stub now; then e1000, as after any reboot: its dynid "
            "8086:100e is not persistent; use pci-stub.ids=8086:100e on the "
            "command line, and name pci_stub in modules-load.d"
        )
    ] == texts(boot_config())
    assert [
        (
            "pci-stub now; then e1000, as after any reboot: nothing loads module "
            "pci_stub at boot"
        )
    ] == texts(boot_config(command_line="pci-stub.ids=8086:100e"))
    assert [] == texts(
        boot_config(
            command_line="pci-stub.ids=8086:100e",
            modprobe_d="softdep e1000 pre: pci-stub\n",
        )
    )


@pytest.mark.parametrize(
    ("dynid", "expected"),
    [
        (Id(0x8086, 0x100E), "8086:100e"),
        (Id(0x8086, 0x100E, 0x1AF4), "8086:100e:1af4"),
        (Id(0x8086, 0xFFFFFFFF), "8086:ffffffff"),
        (
            Id(0x8086, 0x100E, class_=0x020000, class_mask=0xFF0000),
            "8086:100e:ffffffff:ffffffff:20000:ff0000",
        ),
    ],
)
def test_a_dynid_as_a_parameter(dynid: Id, expected: str) -> None:
    """What is any at its end is left out; the parameter would give the same dynid."""
    found = predict(
        kernel(HERE),
        device(bound="pci-stub"),
        drivers=(E1000, PCI_STUB._replace(dynids=(dynid,))),
    )
    ((_kind, text),) = said(found)
    assert f"use pci-stub.ids={expected} on the command line" in text
    config = boot_config(command_line=f"pci-stub.ids={expected}")
    assert (dynid,) == config.dynids("pci_stub", built_in=True)


def test_a_module_that_another_needs_is_loaded() -> None:
    """So its dynid counts, and it is registered before the one that needs it."""
    found = predict(
        kernel(HERE, depend={"e1000": "kernel/pci-stub.ko.xz"}),
        device(bound="pci-stub"),
        drivers=(E1000, PCI_STUB._replace(dynids=(E1000_DYNID,))),
        config=boot_config(command_line="pci-stub.ids=8086:100e"),
    )
    assert [] == said(found)
    (one,) = found.devices
    assert ("pci-stub", "certain") == (winner(one), one.then.certainty)


def test_a_driver_that_no_longer_lists_the_device() -> None:
    """The module is there, its alias is not."""
    other = "pci:v00008086d0000100Fsv*sd*bc*sc*i*"
    found = predict(
        kernel({"e1000": other, "vfio-pci": ANY_ALIAS, "pci-stub": ""}),
        device(bound="e1000"),
    )
    assert [
        (
            "loses_driver",
            "e1000 now; then no driver: module e1000 of 7.3 does not list 8086:100e",
        )
    ] == said(found)


def test_a_binding_by_hand_is_lost() -> None:
    """Bound by a write that left nothing behind: any reboot undoes it."""
    found = predict(
        kernel(HERE), device(bound="vfio-pci"), drivers=(E1000, VFIO_PCI, PCI_STUB)
    )
    assert [
        (
            "other_driver",
            (
                "vfio-pci now; then e1000, as after any reboot: nothing that "
                "outlives a reboot gives it to vfio-pci"
            ),
        )
    ] == said(found)


def test_a_device_gains_a_driver() -> None:
    """A driver that is new for a device without one would take it."""
    edu = Device(0x1234, 0x11E8, 0x1AF4, 0x1100, 0x00FF00)
    found = predict(
        kernel(HERE | {"edu": "pci:v00001234d000011E8sv*sd*bc*sc*i*"}), device(ids=edu)
    )
    assert [
        (
            "gains_driver",
            "no driver now; candidate set changed: +module edu; then module edu",
        )
    ] == said(found)


def test_an_unbound_device_is_no_change() -> None:
    """The driver matches now as well, and has it not: nobody knows about then."""
    found = predict(kernel(HERE), device())
    assert [] == said(found)
    (one,) = found.devices
    assert (None, "unknown") == (winner(one), one.then.certainty)
    assert "e1000 matches now as well, and has not the device." == one.then.reason


def test_one_that_declined() -> None:
    """Who was registered before and left the device will do so again."""
    ids = Device(0x10EC, 0x8139, 0x1AF4, 0x1100, 0x020000)
    alias = "pci:v000010ECd00008139sv*sd*bc*sc*i*"
    both = {"8139cp": alias, "8139too": alias}
    listed = Id(0x10EC, 0x8139)
    first = driver("8139cp", listed, module="8139cp")
    second = driver("8139too", listed, module="8139too")
    here = kernel(both, release="6.12.90")
    found = predict(
        kernel(both),
        device(bound="8139too", ids=ids),
        here=here,
        drivers=(first, second),
    )
    (one,) = found.devices
    assert ("8139too", "unknown") == (winner(one), one.then.certainty)
    assert "8139cp matches now as well, and left it to 8139too." == one.then.reason
    by_hand = predict(
        kernel(both),
        device(bound="8139too", ids=ids),
        here=here,
        drivers=(first, second),
        device_events={ADDRESS: (machines.write(3, StoreFile.BIND),)},
    )
    assert "race" == by_hand.devices[0].then.certainty


def test_nothing_declined_where_the_order_is_not_known() -> None:
    """Without it nobody knows who had the first chance."""
    ids = Device(0x10EC, 0x8139, 0x1AF4, 0x1100, 0x020000)
    alias = "pci:v000010ECd00008139sv*sd*bc*sc*i*"
    both = {"8139cp": alias, "8139too": alias}
    found = predict(
        kernel(both),
        device(bound="8139too", ids=ids),
        here=kernel(both, release="6.12.90"),
        drivers=tuple(
            driver(name, Id(0x10EC, 0x8139), module=name) for name in sorted(both)
        ),
        order_known=False,
    )
    assert "race" == found.devices[0].then.certainty


VIRTIO = Device(0x1AF4, 0x1041, 0x1AF4, 0x1100, 0x020000)
VIRTIO_ALIAS = "pci:v00001AF4d*sv*sd*bc*sc*i*"
VIRTIO_PCI = driver("virtio-pci", Id(0x1AF4, 0xFFFFFFFF), module="virtio_pci")


@pytest.mark.parametrize(
    ("aliases", "certainty"), [(VIRTIO_ALIAS, "certain"), ("", "unknown")]
)
def test_a_driver_becomes_built_in(aliases: str, certainty: str) -> None:
    """It is certain only where the kernel tells the ids of what is built in."""
    found = predict(
        kernel({}, {"virtio_pci": aliases}),
        device(bound="virtio-pci", ids=VIRTIO),
        here=kernel({"virtio_pci": VIRTIO_ALIAS}, release="6.12.90"),
        drivers=(VIRTIO_PCI,),
    )
    assert [] == said(found)
    assert [
        "virtio-pci (module virtio_pci, 1 bound) is built in in the target kernel"
    ] == notes(found)
    (one,) = found.devices
    assert ("virtio-pci", certainty) == (winner(one), one.then.certainty)
    untold = [gap for gap in found.gaps if "does not tell the ids" in gap]
    assert (0 if aliases else 1) == len(untold)


def test_a_driver_that_no_list_has_stays() -> None:
    """A built-in driver that is no module in any kernel can't be told to be gone."""
    bridge = Device(0x8086, 0x2448, 0, 0, 0x060400)
    port = driver(
        "pcieport", Id(0xFFFFFFFF, 0xFFFFFFFF, class_=0x060400, class_mask=~0)
    )
    found = predict(kernel(HERE), device(bound="pcieport", ids=bridge), drivers=(port,))
    assert [] == said(found)
    (one,) = found.devices
    assert ("pcieport", "unknown") == (winner(one), one.then.certainty)


def test_a_built_in_driver_that_a_list_has_goes() -> None:
    """One that was listed as built in, and is in no list of the new kernel, is gone."""
    found = predict(
        kernel(HERE),
        device(bound="e100"),
        here=kernel({}, {"e100": ""}, release="6.12.90"),
        drivers=(driver("e100", E1000_DYNID),),
    )
    assert [
        (
            "other_driver",
            ("e100 now; then module e1000: e100 (module e100) is absent from 7.3"),
        )
    ] == said(found)


def test_a_built_in_driver_of_another_name() -> None:
    """A module with the same ids is its module: it is no second candidate."""
    alias = "pci:v00008086d000029C0sv*sd*bc06sc00i00*"
    ids = Device(0x8086, 0x29C0, 0x1AF4, 0x1100, 0x060000)
    entry = Id(0x8086, 0x29C0, class_=0x060000, class_mask=0xFFFFFFFF, driver_data=7)
    found = predict(
        kernel({}, {"intel-agp": alias}),
        device(bound="agpgart-intel", ids=ids),
        here=kernel({}, {"intel-agp": ""}, release="6.12.90"),
        drivers=(driver("agpgart-intel", entry),),
    )
    assert [] == said(found)
    (one,) = found.devices
    assert ["agpgart-intel"] == [each.label for each in one.then.candidates]
    assert "certain" == one.then.certainty


def test_two_built_in_drivers_of_a_module() -> None:
    """The ids of both are the module's."""
    first = driver("first", Id(0x8086, 1))
    second = driver("second", Id(0x8086, 0x100E))
    found = preflight(
        machine(device(bound="second"), drivers=(first, second)),
        boot_config(),
        kernel({}, {"uncore": ""}, release="6.12.90"),
        kernel({}, {"uncore": ""}),
        {"first": "uncore", "second": "uncore"},
    )
    assert [] == said(found)
    (one,) = found.devices
    assert "second" == winner(one)


def test_a_virtual_function_is_left_out() -> None:
    """It is made anew after each boot, and so is its override by vfio's."""
    vf = device("0000:01:10.0", "vfio-pci", "vfio-pci", physfn="0000:01:00.0")
    assert [] == said(predict(kernel(HERE), vf))
    gone = predict(kernel({"e1000": E1000_ALIAS}), vf)
    assert ["loses_driver"] == [kind for kind, _text in said(gone)]


def test_rules_that_change() -> None:
    """Semantics and the rules of new_id are told; a change where dynids are in use."""
    there = kernel(HERE, rules=RULES._replace(new_id_rules="linux-7.3"))
    quiet = predict(there, device(bound="e1000"))
    text = (
        "new_id rules linux-5.11 -> linux-7.3: EINVAL for driver_data comes before "
        "EEXIST for a dynid"
    )
    assert ([], [text]) == (said(quiet), notes(quiet))
    used = predict(
        there,
        device(bound="e1000"),
        drivers=(E1000, VFIO_PCI._replace(dynids=(Id(1, 2),)), PCI_STUB),
    )
    assert [("new_id_rules", f"{text}; vfio-pci has dynids now")] == said(used)
    older = predict(kernel(HERE), device(bound="e1000"), semantics="linux-3.16")
    assert [
        (
            "semantics linux-3.16 -> linux-5.15: override_only entries count only with "
            "driver_override"
        )
    ] == notes(older)


def test_override_only_entries_of_the_new_kernel() -> None:
    """New aliases of vfio are a note; they take no device by themselves."""
    here = kernel({"e1000": E1000_ALIAS, "vfio-pci": "", "pci-stub": ""})
    found = predict(
        kernel(HERE), device(bound="e1000"), here=here._replace(release="6.12.90")
    )
    assert [] == said(found)
    assert [
        (
            "module vfio_pci is new for 1 device, with driver_override only (alias "
            "vfio_pci:)"
        )
    ] == notes(found)
    assert ("vfio_pci",) == found.devices[0].override_only


def test_override_only_entries_where_the_running_kernel_is_unknown() -> None:
    """Then what is new can't be told, and is not."""
    here = kernel({}, release="6.12.90")
    found = predict(kernel(HERE), device(bound="e1000"), here=here)
    assert [] == [note for note in notes(found) if "is new for" in note]


def test_modules_of_the_running_kernel_are_not_known() -> None:
    """Then what is new can't be told, and is not."""
    found = predict(
        kernel({"r8125": R8169, "r8169": R8169}),
        device(bound="r8125", ids=REALTEK),
        here=kernel({}, release="6.12.90"),
        drivers=(R8125,),
    )
    assert [] == said(found)
    assert "race" == found.devices[0].then.certainty


def test_as_text() -> None:
    """What would change stands first, then the table, then what is not known."""
    found = predict(
        kernel(HERE, rules=None),
        device(bound="vfio-pci", driver_override="vfio-pci"),
        gaps=("Something is not known.",),
    )
    assert """\
Linux 6.12.90 (semantics linux-5.15, layout B) -> 7.3 (unknown): 1 device, 1 of them may change, 0
races; 1 change.

override_not_persistent: 0000:00:02.0 vfio-pci now; then e1000, as after any reboot:
    driver_override=vfio-pci is not persistent
    $ driverctl set-override 0000:00:02.0 vfio-pci

ADDRESS       IDS        CLASS   NOW       THEN   CERTAINTY  CANDIDATES
0000:00:02.0  8086:100e  020000  vfio-pci  e1000  certain    e1000

Unknown:
    Something is not known.
    7.3 does not tell the ids of its built-in drivers (its modules.builtin.modinfo has none, as
        before Linux 6.18): those of now are taken, and a built-in driver that is new in it is not
        seen.
""" == "\n".join([*as_text(found), ""])  # noqa: E501 - a terminal's width


def test_as_object() -> None:
    """Programs get the same: names here are what others rely on."""
    found = predict(kernel(HERE), device(bound="vfio-pci", driver_override="vfio-pci"))
    written = json.loads(json.dumps(as_object(found)))
    assert ("pci-observer-preflight", 1) == (written["format"], written["version"])
    assert {
        "release": "7.3",
        "layout": "B",
        "semantics": "linux-5.15",
        "new_id_rules": "linux-5.11",
    } == written["to"]
    assert [
        {
            "kind": "override_not_persistent",
            "address": ADDRESS,
            "text": "vfio-pci now; then e1000, as after any reboot: "
            "driver_override=vfio-pci is not persistent",
            "cure": f"driverctl set-override {ADDRESS} vfio-pci",
        }
    ] == written["changes"]
    (one,) = written["devices"]
    assert {
        "driver": "e1000",
        "module": "e1000",
        "certainty": "certain",
        "reason": "e1000 alone matches; the device asks for its module. Its probe may "
        "refuse.",
        "candidates": [
            {
                "module": "e1000",
                "driver": "e1000",
                "match": "static",
                "comes": "alias",
                "certain": True,
                "place": None,
            }
        ],
        "kept_out": [],
    } == one["then"]
    assert ["override_not_persistent"] == one["changes"]


FIRST, SECOND = kernel(HERE), kernel({}, {"e1000": ""})


@given(machines.machines)
def test_any_machine(found: Machine) -> None:
    """Every machine gets an answer, printable and the same twice."""
    config = boot_config(
        modprobe_d="options vfio-pci ids=1:2,8086:100e\nsoftdep e1000 pre: vfio-pci\n",
        overrides={ADDRESS: "od'd \x1b"},
    )
    here, there = FIRST._replace(release=found.release), SECOND
    first = preflight(found, config, here, there, {})
    assert as_object(first) == as_object(preflight(found, config, here, there, {}))
    assert all(line.isprintable() for line in as_text(first))
    json.dumps(as_object(first))
