"""observer/boot_files.py: where the files are that a boot is made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.boot_config import Override
from observer.boot_files import read_boot_config

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "proc/cmdline": "quiet modules-load=from_command_line vfio-pci.ids=1:2\n",
    "etc/modprobe.d/a.conf": "blacklist nouveau\n",
    "usr/lib/modprobe.d/b.conf": "softdep e1000 pre: vfio-pci\n",
    "etc/modules": "from_modules\n",
    "etc/modules-load.d/a.conf": "from_modules_load\n",
    "usr/lib/modules-load.d/a.conf": "hidden\n",
    "etc/modules-load.d/readme": "no\n",
    "etc/initramfs-tools/modules": "from_initramfs_tools\n",
    "usr/share/initramfs-tools/modules.d/package": "from_package\n",
    "etc/dracut.conf.d/a.conf": 'force_drivers+=" from_dracut "\n',
    "etc/dracut.conf": 'add_drivers+="from_dracut_conf"\n',
    "etc/mkinitcpio.conf": "MODULES=(from_mkinitcpio)\n",
    "etc/driverctl.d/pci-0000:00:02.0": "vfio-pci\n",
    "etc/driverctl.d/odd": "vfio-pci\n",
}


def made(root: Path, files: dict[str, str]) -> Path:
    """Write these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_all_files(tmp_path: Path) -> None:
    """Each is found in its place, the initramfs' first."""
    config, gaps = read_boot_config(made(tmp_path, FILES))
    assert () == gaps
    assert [
        "from_initramfs_tools",
        "from_package",
        "from_dracut",
        "from_dracut_conf",
        "from_mkinitcpio",
        "from_modules_load",
        "from_modules",
        "from_command_line",
    ] == [named.name for named in config.named]
    assert f"{tmp_path}/etc/modules" == config.named[6].place
    assert {"nouveau": f"{tmp_path}/etc/modprobe.d/a.conf"} == (
        config.modprobe_d.blacklist
    )
    assert ["e1000"] == [*config.modprobe_d.softdeps]
    assert ("vfio-pci.ids", "1:2") in config.command_line
    path = f"{tmp_path}/etc/driverctl.d/pci-0000:00:02.0"
    assert {"0000:00:02.0": Override("vfio-pci", path)} == config.overrides


def test_the_link_to_modules(tmp_path: Path) -> None:
    """Debian's modules-load.d links to /etc/modules, whose names count once."""
    root = made(tmp_path, {"etc/modules": "loop\n", "proc/cmdline": ""})
    (root / "etc/modules-load.d").mkdir()
    (root / "etc/modules-load.d/modules.conf").symlink_to("../modules")
    config, gaps = read_boot_config(root)
    assert () == gaps
    assert [("loop", f"{root}/etc/modules")] == [
        (named.name, named.place) for named in config.named
    ]


def test_nothing_there(tmp_path: Path) -> None:
    """Only the command line must be there."""
    config, gaps = read_boot_config(tmp_path)
    assert ((), {}) == (config.named, config.overrides)
    assert (
        f"{tmp_path}/proc/cmdline can't be read (No such file or directory).",
    ) == gaps
