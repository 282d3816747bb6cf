"""observer/modprobe_d.py: modprobe's configuration, as modprobe reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from observer.modprobe_d import (
    blacklist,
)

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
