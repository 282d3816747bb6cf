"""observer/modprobe_d.py: modprobe's configuration, as modprobe reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from observer.modprobe_d import (
    ModprobeD,
    Softdep,
    blacklist,
    lines_of,
    parameters,
    softdeps,
)
from observer.record import Device

CONFIGURATION = """\
# blacklist commented
blacklist nouveau
  blacklist\tsnd-hda-intel trailing words
blacklist con\\
tinued
blacklist
#
blacklist# e1000
Blacklist e1000e
blacklist windows\r
options e100 blacklist=1
install  8139too   /bin/false
install 8139cp /usr/bin/true --quiet
install nvme /sbin/modprobe --ignore-install nvme
install ahci
softdep nvme pre: ahci
"""


def test_blacklist() -> None:
    """What forbids a module is known by the file that does."""
    found = blacklist({"/a.conf": CONFIGURATION, "/b.conf": "blacklist nouveau"}, "")
    assert {
        "nouveau": "/a.conf",
        "snd_hda_intel": "/a.conf",
        "continued": "/a.conf",
        "windows\r": "/a.conf",
        "8139too": "/a.conf",
        "8139cp": "/a.conf",
    } == found


def test_blacklist_on_the_command_line() -> None:
    """Two options do it there."""
    line = (
        "ro modprobe.blacklist=nouveau,snd-hda-intel module_blacklist=,e1000, x=nvme\n"
    )
    place = "the kernel's command line"
    assert dict.fromkeys(["nouveau", "snd_hda_intel", "e1000"], place) == blacklist(
        {}, line
    )


def modprobe(*arguments: str | Path) -> list[str]:
    """Run modprobe and return its lines."""
    done = subprocess.run(["modprobe", *arguments], capture_output=True, check=False)
    return done.stdout.decode().split("\n")[:-1]


def test_blacklist_as_modprobe_reads_it(tmp_path: Path) -> None:
    """It shows the configuration as it understands it: the same modules."""
    path = tmp_path / "a.conf"
    path.write_bytes(CONFIGURATION.encode())
    line = Path("/proc/cmdline").read_text()
    shown = {
        name.removeprefix("blacklist ")
        for name in modprobe("--config", path, "--showconfig")
        if name.startswith("blacklist ")
    }
    ours = blacklist({"": CONFIGURATION}, line)
    assert shown | {"8139too", "8139cp"} == ours.keys()


def test_parameters() -> None:
    """Words end at spaces outside quotes; what follows ``--`` is init's."""
    line = 'ro root=/dev/sda1 dyndbg="file a.c +p" vfio-pci.ids=1:2 -- single x=y\n'
    assert [
        ("ro", ""),
        ("root", "/dev/sda1"),
        ("dyndbg", "file a.c +p"),
        ("vfio-pci.ids", "1:2"),
    ] == list(parameters(line))


def test_softdeps() -> None:
    """Lines add up; what stands before `pre:` and `post:` means nothing."""
    text = """\
softdep nouveau pre: vfio-pci vfio
softdep nouveau post: snd-hda-intel
softdep cifs gcm
"""
    assert {
        "nouveau": Softdep(
            frozenset({"vfio_pci", "vfio"}), frozenset({"snd_hda_intel"})
        ),
        "cifs": Softdep(frozenset(), frozenset()),
    } == softdeps(lines_of({"/a.conf": text}))


def test_options() -> None:
    """Those of a module, whichever way it is spelled, in the order of the files."""
    found = ModprobeD.read(
        {
            "/a.conf": "options vfio-pci ids=1:2 \\\n disable_vga=1\n",
            "/b.conf": "options vfio_pci ids=3:4\noptions e1000 x=1\n",
        },
        "",
    )
    assert [("ids=1:2", "disable_vga=1"), ("ids=3:4",)] == [
        line.words for line in found.options("vfio_pci")
    ]


NIC = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)
ALIASES = """\
alias pci:v00008086d0000100E* first-one
alias pci:v0000808[67]d*sv*sd*bc02* second
alias pci:v000010EC* third
alias net-pf-10 off
alias *:v00008086* first-one
"""


def test_aliases_stand_for_those_of_the_kernel() -> None:
    """Patterns of any form are compared with what the device asks for."""
    found = ModprobeD.read({"/a.conf": ALIASES}, "")
    assert ("first_one", "second") == found.modules(NIC)
    assert () == found.modules(NIC._replace(vendor=0x1AF4))


def test_aliases_as_modprobe_reads_them(tmp_path: Path) -> None:
    """It finds the same ones, and asks no kernel then."""
    path = tmp_path / "a.conf"
    path.write_text(ALIASES)
    alias = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"
    shown = modprobe("--config", path, "--resolve-alias", alias)
    ours = ModprobeD.read({"": ALIASES}, "").modules(NIC)
    assert sorted(ours) == sorted({name.replace("-", "_") for name in shown})


@given(st.text(), st.text())
def test_any_text(text: str, command_line: str) -> None:
    """Whatever stands in a file is understood or passed over."""
    found = ModprobeD.read({"/a.conf": text}, command_line)
    found.modules(NIC)
