"""observer/target.py: a kernel that does not run, from its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernels_made import E1000_ALIAS
from lab.kernels import vmlinuz
from machines import E1000_IDS, machine
from test_boot_files import made
from test_kernel_image import boot_image, elf

from observer.kernel_modules import FILES
from observer.preflight import Rules
from observer.target import TargetError, directory_of, installed, read_modules, running

RELEASE = "6.12.117-amd64"
BTF = (Path(__file__).parent / "btf/6.12.117+deb12-amd64.btf").read_bytes()
IMAGE = elf(b".BTF", BTF)
MODULES = {
    **dict.fromkeys(FILES, ""),
    "modules.alias": f"alias {E1000_ALIAS} e1000\n",
    "modules.dep": "kernel/e1000.ko:\n",
}


def kernel(root: Path, release: str = RELEASE) -> Path:
    """Install a kernel below `root`, without an image; return its directory."""
    made(root, {f"lib/modules/{release}/{name}": MODULES[name] for name in MODULES})
    return root / "lib/modules" / release


def test_installed(tmp_path: Path) -> None:
    """Modules, rules and configuration come from where a package puts them."""
    directory = kernel(tmp_path)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / f"vmlinuz-{RELEASE}").write_bytes(IMAGE)
    (tmp_path / "boot" / f"config-{RELEASE}").write_text(
        "# CONFIG_B is not set\nCONFIG_A=y\n"
    )
    found = installed(directory, tmp_path / "elsewhere")
    assert RELEASE == found.release
    assert ("e1000",) == found.modules.aliases.modules(E1000_IDS)
    assert Rules("D", "linux-5.15", "linux-7.3") == found.rules
    assert {"CONFIG_A": "y"} == found.config
    assert () == found.gaps


@pytest.mark.parametrize(
    "place",
    [
        f"lib/modules/{RELEASE}/vmlinuz",
        f"lib/boot/vmlinuz-{RELEASE}",
        f"host/boot/vmlinuz-{RELEASE}",
    ],
)
def test_where_the_image_may_be(place: str, tmp_path: Path) -> None:
    """Beside the modules, or in /boot."""
    directory = kernel(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(IMAGE)
    assert None is not installed(directory, tmp_path / "host").rules


def test_a_named_image(tmp_path: Path) -> None:
    """The one that is named is taken, and nothing else tried."""
    directory = kernel(tmp_path)
    (directory / "vmlinuz").write_bytes(IMAGE)
    missing = tmp_path / "missing"
    with pytest.raises(TargetError, match=f"^{missing}: No such file or directory$"):
        installed(directory, tmp_path, image=missing)
    missing.write_bytes(b"MZ")
    with pytest.raises(TargetError, match="not a Linux x86 boot image"):
        installed(directory, tmp_path, image=missing)
    missing.write_bytes(elf(b".BTF", b"no types"))
    with pytest.raises(TargetError, match=f"^{missing}: "):
        installed(directory, tmp_path, image=missing)
    missing.write_bytes(IMAGE)
    assert installed(directory, tmp_path, image=missing).rules is not None


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (None, "no kernel image beside its modules; name it with --image"),
        (b"MZ", "not a Linux x86 boot image"),
        (boot_image(IMAGE), "unknown kernel compression, starts with 7f454c460201"),
        (elf(b".BTF", b"no types"), "vmlinuz: "),
        (elf(b".text", b""), "built without CONFIG_DEBUG_INFO_BTF"),
    ],
)
def test_rules_that_are_not_known(
    image: bytes | None, reason: str, tmp_path: Path
) -> None:
    """The reason is told; the rest is predicted."""
    directory = kernel(tmp_path)
    if image is not None:
        (directory / "vmlinuz").write_bytes(image)
    found = installed(directory, tmp_path)
    assert None is found.rules
    (gap,) = found.gaps
    assert reason in gap


def test_no_such_kernel(tmp_path: Path) -> None:
    """The message names what there is."""
    kernel(tmp_path)
    kernel(tmp_path, "6.1.0-amd64")
    (tmp_path / "lib/modules/half").mkdir()
    assert tmp_path / "lib/modules" / RELEASE == directory_of(RELEASE, tmp_path)
    with pytest.raises(TargetError) as caught:
        directory_of("half", tmp_path)
    assert (
        f"half: no such kernel below {tmp_path}/lib/modules; installed are "
        f"6.1.0-amd64, {RELEASE}"
    ) == str(caught.value)
    with pytest.raises(TargetError, match=r"none is installed$"):
        directory_of(RELEASE, tmp_path / "elsewhere")
    with pytest.raises(TargetError):
        directory_of("../modules/" + RELEASE, tmp_path)


def test_no_directory_of_modules(tmp_path: Path) -> None:
    """Any other directory is refused."""
    with pytest.raises(TargetError, match=r"no modules\.dep"):
        installed(tmp_path, tmp_path)


def test_running(tmp_path: Path) -> None:
    """Of the running kernel the machine tells the rules; missing files are gaps."""
    found = running(machine(), tmp_path)
    assert Rules("B", "linux-5.15", "linux-5.11") == found.rules
    assert not found.modules.known
    assert len(FILES) == len(found.gaps)
    kernel(tmp_path, "6.12.90")
    assert running(machine(), tmp_path).modules.known


def test_odd_aliases_are_told(tmp_path: Path) -> None:
    """What could be a device's and is not understood is counted, not dropped."""
    directory = kernel(tmp_path)
    odd = "alias pci:v00008086d* e1000\nalias pci:v00001af4d00001000sv* virtio\n"
    (directory / "modules.alias").write_text(odd + MODULES["modules.alias"])
    modules, gaps = read_modules(directory)
    assert ("e1000",) == modules.aliases.modules(E1000_IDS)
    assert (
        f"{directory}/modules.alias: 2 of its aliases are of a form that is not "
        "understood and left out, as pci:v00008086d*."
    ) == gaps[0]
    assert 1 == len(gaps)


@pytest.mark.guest  # needs a guest's kernel
@pytest.mark.parametrize(
    ("wanted", "rules"),
    [
        ("5.10", Rules("L0", "linux-3.16", "linux-3.16")),
        ("6.1", Rules("E", "linux-5.15", "linux-7.3")),
        ("6.12.90", Rules("B", "linux-5.15", "linux-5.11")),
        ("7.3", Rules("D", "linux-5.15", "linux-7.3")),
    ],
)
def test_debian_kernels(wanted: str, rules: Rules, tmp_path: Path) -> None:
    """Of an unpacked package everything is known."""
    image = vmlinuz(wanted)
    release = image.name.removeprefix("vmlinuz-")
    found = installed(image.parents[1] / "lib/modules" / release, tmp_path)
    assert (release, rules, ()) == (found.release, found.rules, found.gaps)
    assert "y" == (found.config or {}).get("CONFIG_PCI")
