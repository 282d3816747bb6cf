"""What is loaded at boot: modprobe.d, dracut, mkinitcpio, the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.target import Target
from observer import boot_config
from observer.boot_config import BootConfig, Stage
from observer.modprobe_d import ModprobeD, parameters
from observer.record import Device

if TYPE_CHECKING:
    from collections.abc import Iterable

DEVICE = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)


def run(data: bytes) -> None:
    """Read five files, which stand behind each other."""
    text = data.decode("utf-8", "surrogateescape")
    parts = text.split("\f", 4) + [""] * 4
    line = parts[1]
    named = (
        *boot_config.dracut(parts[2], "d"),
        *boot_config.mkinitcpio(parts[3], "m"),
        *boot_config.module_lines(parts[4], Stage.MODULES_LOAD, "l"),
        *boot_config.named_on_command_line(line),
    )
    modprobe_d = ModprobeD.read({"/etc/modprobe.d/a.conf": parts[0]}, line)
    config = BootConfig(modprobe_d, named, tuple(parameters(line)), {})
    for module in ("vfio_pci", *modprobe_d.modules(DEVICE)):
        config.loads(module)
        for built_in in (True, False):
            for entry in config.dynids(module, built_in=built_in):
                assert all(0 <= number <= 0xFFFFFFFF for number in entry)
    boot_config.overridden(text)


def seeds() -> Iterable[bytes]:
    """Yield each file with all that can be in it."""
    yield (
        b"alias pci:v00008086d0000100E* e1000\nblacklist nouveau\n"
        b"install snd /bin/false\noptions vfio-pci ids=10de:13c2,10de:0fbb \\\n"
        b" disable_idle_d3=1\nsoftdep a pre: b c post: d\nalias [!a-b]* x\n"
        b'\fro quiet modprobe.blacklist=a,b vfio-pci.ids=8086:100e "a b"=c '
        b"module_blacklist=c rd.driver.pre=vfio-pci modules_load=d -- init\n"
        b'\fforce_drivers+=" vfio vfio-pci "\nadd_drivers=x # y\n'
        b"\fMODULES=(vfio vfio_pci 'a?')\nMODULES+=\"b\"\n"
        b"\f# modules\nvfio-pci ids=1:2\n;no\nloop max_loop=8\n"
    )


TARGET = Target(
    run,
    (),
    seeds,
    share=8,
    words=(
        "\f",
        "options ",
        "vfio-pci",
        "ids=",
        "MODULES=(",
        "drivers+=",
        "alias pci:",
    ),
)
