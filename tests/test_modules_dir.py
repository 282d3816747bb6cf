"""observer/modules_dir.py: the files about modules, and what if they aren't there."""

from __future__ import annotations

import shutil
from pathlib import Path

from observer.modules_dir import read_aliases
from observer.record import Device

RELEASE = "7.3.4"
ROOT = Path(__file__).parent / "modules"
NIC = Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000)


def configured(path: Path, **files: str) -> Path:
    """Make a directory of modprobe's configuration."""
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def test_all_files(tmp_path: Path) -> None:
    """Aliases, built-in modules and blacklists come from their files."""
    command_line = tmp_path / "cmdline"
    command_line.write_text("modprobe.blacklist=nvme")
    aliases, gaps = read_aliases(
        RELEASE,
        root=ROOT,
        configuration=[configured(tmp_path / "etc", a_conf="blacklist nouveau\n")],
        command_line=command_line,
    )
    assert () == gaps
    assert ("e1000",) == aliases.modules(NIC)
    assert 22 == len(aliases.ids("sis_agp"))
    assert aliases.builtin("sis_agp")
    assert f"{tmp_path}/etc/a.conf" == aliases.blacklisted("nouveau")
    assert "the kernel's command line" == aliases.blacklisted("nvme")


def test_a_file_hides_those_of_the_same_name(tmp_path: Path) -> None:
    """The administrator's file counts, not the distribution's of the same name."""
    first = configured(tmp_path / "etc", a_conf="blacklist e1000\n")
    second = configured(
        tmp_path / "lib", a_conf="blacklist e1000e\n", b_conf="blacklist e100\n"
    )
    aliases, _gaps = read_aliases(RELEASE, root=ROOT, configuration=[first, second])
    assert f"{first}/a.conf" == aliases.blacklisted("e1000")
    assert None is aliases.blacklisted("e1000e")
    assert f"{second}/b.conf" == aliases.blacklisted("e100")


def test_other_files_are_no_configuration(tmp_path: Path) -> None:
    """Only what ends in .conf and is not hidden is read."""
    directory = configured(tmp_path / "etc", a_conf_bak="blacklist e1000\n")
    (directory / ".hidden.conf").write_text("blacklist e1000\n")
    (directory / "readme").write_text("blacklist e1000\n")
    aliases, _gaps = read_aliases(RELEASE, root=ROOT, configuration=[directory])
    assert None is aliases.blacklisted("e1000")


def test_hostile_bytes(tmp_path: Path) -> None:
    """Bytes that are no text are no reason to stop."""
    directory = configured(tmp_path / "etc")
    (directory / "a.conf").write_bytes(b"\xff\xfe\nblacklist e1000\n")
    aliases, gaps = read_aliases(RELEASE, root=ROOT, configuration=[directory])
    assert () == gaps
    assert f"{directory}/a.conf" == aliases.blacklisted("e1000")


def test_no_modules(tmp_path: Path) -> None:
    """In a container there may be none: it is said, and nothing is found."""
    aliases, gaps = read_aliases(RELEASE, root=tmp_path, configuration=[])
    names = ("modules.alias", "modules.builtin.modinfo", "modules.builtin")
    assert (
        tuple(
            f"{tmp_path}/{RELEASE}/{name} can't be read (No such file or directory)."
            for name in names
        )
        == gaps
    )
    assert () == aliases.modules(NIC)


def test_one_file_is_missing(tmp_path: Path) -> None:
    """The other files are read."""
    shutil.copytree(ROOT / RELEASE, tmp_path / RELEASE)
    (tmp_path / RELEASE / "modules.builtin.modinfo").unlink()
    aliases, gaps = read_aliases(RELEASE, root=tmp_path, configuration=[])
    assert 1 == len(gaps)
    assert ("e1000",) == aliases.modules(NIC)
    assert aliases.builtin("sis_agp")


def test_unreadable_configuration(tmp_path: Path) -> None:
    """A directory or a file that can't be read is named; a missing one is usual."""
    directory = configured(tmp_path / "etc")
    (directory / "a.conf").symlink_to("nowhere")
    file = tmp_path / "run"
    file.write_text("")
    _aliases, gaps = read_aliases(
        RELEASE,
        root=ROOT,
        configuration=[directory, file, tmp_path / "missing"],
        command_line=tmp_path / "missing",
    )
    assert (
        f"{file} can't be read (Not a directory).",
        f"{directory}/a.conf can't be read (No such file or directory).",
        f"{tmp_path}/missing can't be read (No such file or directory).",
    ) == gaps
