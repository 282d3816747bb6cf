"""observer/aliases.py: the modules for a device, as modprobe would find them."""

from __future__ import annotations

import random
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import strategies
from hypothesis import assume, given
from hypothesis import strategies as st
from lab.kernels import vmlinuz

from observer.aliases import (
    Alias,
    Aliases,
    built_in_aliases,
    modalias,
    odd_aliases,
)
from observer.model.primitives import id_matches
from observer.model.table import is_terminator
from observer.module_names import (
    built_in_modules,
    module_name,
)
from observer.record import PCI_ANY_ID, Device, Id
from observer.target import read_modules

if TYPE_CHECKING:
    from collections.abc import Sequence

# Lines of Debian's 7.3.4+deb13-amd64: grep for some modules' names.
MODULES = Path(__file__).parent / "modules/7.3.4"
ANY = PCI_ANY_ID
NOT_PCI = "loop"  # a module that every kernel has


def text(name: str) -> str:
    """Read one of the files."""
    return (MODULES / name).read_bytes().decode()


@pytest.fixture(scope="module")
def aliases() -> Aliases:
    """Take what the files say."""
    return Aliases(
        text("modules.alias"),
        built_in_aliases(text("modules.builtin.modinfo")),
        built_in_modules=built_in_modules(text("modules.builtin")),
    )


def device(vendor: int, device: int, class_: int = 0) -> Device:
    """Make a device."""
    return Device(vendor, device, 0x1AF4, 0x1100, class_)


def pattern(entry: Id, *, exact: bool = False) -> str:
    """Spell an entry as an alias; exactly, as a device asks for its modules."""
    ids = zip(("v", "d", "sv", "sd"), entry[:4], strict=True)
    text = "".join(
        f"{name}*" if value == ANY and not exact else f"{name}{value:08X}"
        for name, value in ids
    )
    for name, shift in (("bc", 16), ("sc", 8), ("i", 0)):
        covered = exact or entry.class_mask >> shift & 0xFF
        text += f"{name}{entry.class_ >> shift & 0xFF:02X}" if covered else f"{name}*"
    return ("vfio_" if entry.override_only else "") + "pci:" + text


def test_ids(aliases: Aliases) -> None:
    """A module has an entry for each of its aliases."""
    assert 37 == len(aliases.ids("e1000"))
    assert Id(0x8086, 0x100E) in aliases.ids("e1000")
    assert (
        Id(0x12D2, ANY, ANY, ANY, 0x030000, 0xFF0000),
        Id(0x10DE, ANY, ANY, ANY, 0x030000, 0xFF0000),
    ) == aliases.ids("nouveau")
    assert (Id(ANY, ANY, ANY, ANY, 0x0C0330, 0xFFFFFF),) == aliases.ids("xhci_pci")
    assert Id(ANY, 0x8139, 0x13D1, 0xAB06) in aliases.ids("8139too")
    assert (Id(ANY, ANY, ANY, ANY, override_only=1),) == aliases.ids("vfio_pci")


def test_ids_of_built_in_modules(aliases: Aliases) -> None:
    """Those that tell have them, by whichever of the two spellings one asks."""
    assert 22 == len(aliases.ids("sis-agp"))
    assert aliases.ids("sis_agp") == aliases.ids("sis-agp")
    assert Id(0x1039, 0x0746, ANY, ANY, 0x060000, 0xFFFFFF) in aliases.ids("sis_agp")
    assert (Id(ANY, ANY, ANY, ANY, 0x060400, 0xFFFFFF),) == aliases.ids("shpchp")


def test_modules_without_pci_aliases(aliases: Aliases) -> None:
    """Aliases of other buses are none of ours."""
    assert () == aliases.ids("usbhid")
    assert () == aliases.ids("gpio_amdpt")
    assert () == aliases.ids("pci_stub")


def test_modules(aliases: Aliases) -> None:
    """All that list a device, in the order of the file, each once."""
    assert ("e1000",) == aliases.modules(device(0x8086, 0x100E, 0x020000))
    twice_in_8139too = Device(0x10EC, 0x8139, 0x10EC, 0x8139, 0x020000)
    assert ("8139cp", "8139too") == aliases.modules(twice_in_8139too)
    assert ("nouveau",) == aliases.modules(device(0x10DE, 0x1180, 0x030000))
    assert () == aliases.modules(device(0x10DE, 0x1180, 0x040300))
    assert () == aliases.modules(device(0x1234, 0x11E8))


def test_modules_are_not_built_in(aliases: Aliases) -> None:
    """What is built in is not loaded."""
    assert () == aliases.modules(device(0x1039, 0x0746, 0x060000))


def test_override_only_modules(aliases: Aliases) -> None:
    """Aliases of vfio are not found by the device's own modalias."""
    nic = device(0x8086, 0x100E, 0x020000)
    assert ("vfio_pci",) == aliases.override_only_modules(nic)
    assert "vfio_pci" not in aliases.modules(nic)


def test_builtin(aliases: Aliases) -> None:
    """The kernel's parts are known by name, with - or _."""
    assert aliases.builtin("sis-agp")
    assert aliases.builtin("sis_agp")
    assert aliases.builtin("virtio_pci")
    assert not aliases.builtin("e1000")


def test_nothing_known() -> None:
    """Without files there are no modules."""
    aliases = Aliases()
    assert () == aliases.modules(device(0x8086, 0x100E))
    assert () == aliases.ids("e1000")
    assert None is aliases.blacklisted("e1000")
    assert not aliases.builtin("e1000")


@pytest.mark.parametrize(
    "line",
    [
        "alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000 more",
        "alias pci:v00008086d0000100Esv*sd*bc*sc*i*",
        "#alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000",
        "alias pci:v8086d0000100Esv*sd*bc*sc*i* e1000",
        "alias pci:v00008086d0000100esv*sd*bc*sc*i* e1000",
        "alias pci:v00008086d* e1000",
        "alias xpci:v00008086d0000100Esv*sd*bc*sc*i* e1000",
        "alias other_pci:v00008086d0000100Esv*sd*bc*sc*i* e1000",
        "",
    ],
)
def test_odd_lines(line: str) -> None:
    """What is no alias of PCI is passed over; what follows is found."""
    good = "alias pci:v00008086d000010D3sv*sd*bc*sc*i* e1000e\n"
    aliases = Aliases(f"{line}\n{good}")
    nic = device(0x8086, 0x10D3)
    assert [Alias("e1000e", Id(0x8086, 0x10D3))] == aliases.of(nic)
    assert () == aliases.ids("e1000")


def test_an_alias_that_would_end_a_table() -> None:
    """It fits no device that exists, and must not hide the others."""
    terminator = "pci:v00000000d00000001sv00000000sd*bc*sc*i*"
    lines = f"alias {terminator} odd\nalias pci:v*d*sv*sd*bc*sc*i* last\n"
    aliases = Aliases(lines)
    assert () == aliases.ids("odd")
    assert ("last",) == aliases.modules(device(0x8086, 0x100E))


entries = st.builds(
    Id,
    *[strategies.entry_ids] * 4,
    class_=st.integers(0, 0xFFFFFF),
    class_mask=st.integers(0, 7).map(
        lambda bits: sum(0xFF << 8 * bit for bit in range(3) if bits >> bit & 1)
    ),
    driver_data=st.just(0),
    override_only=st.sampled_from([0, 1]),
).map(lambda entry: entry._replace(class_=entry.class_ & entry.class_mask))


@given(entries)
def test_an_entry_survives_being_an_alias(entry: Id) -> None:
    """An entry spelled as an alias is the same entry, loadable or built in."""
    assume(not is_terminator(entry))
    spelled = pattern(entry)
    assert (entry,) == Aliases(f"alias {spelled} a-b\n").ids("a_b")
    assert [Alias("a_b", entry)] == list(
        built_in_aliases(f"a_b.license=GPL\0a_b.alias={spelled}\0a_b.file=a/b\0")
    )


@given(st.lists(entries, max_size=6), strategies.devices)
def test_modules_are_those_with_an_entry_that_fits(
    entries: list[Id], device: Device
) -> None:
    """The index finds what going through all entries finds."""
    alive = [entry for entry in entries if not is_terminator(entry)]
    aliases = Aliases(
        "".join(f"alias {pattern(entry)} m{n}\n" for n, entry in enumerate(alive))
    )
    for override_only, found in (
        (0, aliases.modules(device)),
        (1, aliases.override_only_modules(device)),
    ):
        assert found == tuple(
            f"m{n}"
            for n, entry in enumerate(alive)
            if entry.override_only == override_only and id_matches(entry, device)
        )


def test_many_devices_and_aliases_take_milliseconds() -> None:
    """1,000 devices among 10,000 aliases are a matter of the index."""
    entries = (
        Id(0x8086 + n % 7, n, class_=n << 8, class_mask=0xFF0000) for n in range(10_000)
    )
    lines = (f"alias {pattern(one)} m{n % 500}\n" for n, one in enumerate(entries))
    aliases = Aliases("".join(lines))
    many = [device(0x8086 + n % 7, n, n << 8) for n in range(0, 10_000, 10)]

    def measured() -> float:
        begin = time.perf_counter()
        assert all(aliases.modules(one) for one in many)
        return time.perf_counter() - begin

    assert 0.05 > min(measured() for _ in range(3))


def test_blacklisted() -> None:
    """Both spellings of a name are found."""
    aliases = Aliases(blacklist={"snd_hda_intel": "/a.conf"})
    assert "/a.conf" == aliases.blacklisted("snd-hda-intel")
    assert "/a.conf" == aliases.blacklisted("snd_hda_intel")
    assert None is aliases.blacklisted("nouveau")


def modprobe(*arguments: str | Path) -> list[str]:
    """Run modprobe and return its lines."""
    done = subprocess.run(["modprobe", *arguments], capture_output=True, check=False)
    return done.stdout.decode().split("\n")[:-1]


def asked(pattern: str, source: random.Random) -> str:
    """Make what a device asks for of an alias: any value for each of its wildcards."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in {"v", "d", "sv", "sd"}:
            return f"{name}{source.choice([0, 0x8086, source.randrange(1 << 16)]):08X}"
        return f"{name}{source.randrange(256):02X}"

    concrete = re.sub(r"(?<=[:0-9A-F*])(v|d|sv|sd|bc|sc|i)\*", value, pattern)
    return concrete.removesuffix("*")


def device_of(alias: str) -> Device:
    """Return the device that asks for this."""
    ids = re.fullmatch(r"\w+:v(.+)d(.+)sv(.+)sd(.+)bc(..)sc(..)i(..)", alias)
    assert ids is not None, alias
    vendor, device, subvendor, subdevice, *class_ = ids.groups()
    return Device(
        *(int(field, 16) for field in (vendor, device, subvendor, subdevice)),
        int("".join(class_), 16),  # type: ignore[call-arg]
    )


def resolved(directory: Path, release: str, aliases: Sequence[str]) -> list[str]:
    """Let modprobe name the modules of each alias, once each, NOT_PCI after each."""
    found = modprobe(
        *("--config", "/dev/null", "--dirname", directory, "--set-version", release),
        *("--all", "--resolve-alias"),
        *(word for alias in aliases for word in (alias, NOT_PCI)),
    )
    once: list[str] = []
    for name in found:
        behind = len(once) - once[::-1].index(NOT_PCI) if NOT_PCI in once else 0
        if name == NOT_PCI or name not in once[behind:]:
            once.append(name)
    return once


def patterns(directory: Path) -> list[str]:
    """Return each alias of a kernel's that mentions PCI's form, none left out."""
    loadable = (directory / "modules.alias").read_text()
    built_in = (directory / "modules.builtin.modinfo").read_text()
    return [
        *re.findall(r"(?m)^alias ((?:\w*_)?pci:\S+) ", loadable),
        *re.findall(r"\.alias=((?:\w*_)?pci:[^\0]+)", built_in),
    ]


@pytest.mark.guest  # needs a guest's kernel
@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12.90", "7.3"])
def test_as_modprobe_resolves(kernel: str) -> None:
    """For a device of each alias modprobe finds the same modules in the same order.

    What is built in it tells only where nothing can be loaded.
    """
    image = vmlinuz(kernel)
    root, release = image.parents[1], image.name.removeprefix("vmlinuz-")
    directory = root / "lib/modules" / release
    aliases = read_modules(directory)[0].aliases
    source = random.Random(release)  # noqa: S311 - no secret
    every = [asked(each, source) for each in patterns(directory)]
    assert 8000 < len(every)

    def ours(alias: str) -> tuple[str, ...]:
        device = device_of(alias)
        if alias.startswith("vfio_"):
            return aliases.override_only_modules(device)
        return aliases.modules(device) or aliases.built_in_modules(device)

    for first in range(0, len(every), 500):
        some = every[first : first + 500]
        expected = resolved(root, release, some)
        assert expected == [name for alias in some for name in (*ours(alias), NOT_PCI)]


@pytest.mark.guest  # needs a guest's kernel
@pytest.mark.parametrize("kernel", ["5.10", "6.1", "6.12.90", "7.3"])
def test_no_alias_of_a_kernel_is_odd(kernel: str) -> None:
    """Of Debian's kernels every alias is understood, and counted."""
    image = vmlinuz(kernel)
    release = image.name.removeprefix("vmlinuz-")
    directory = image.parents[1] / "lib/modules" / release
    lines = (directory / "modules.alias").read_text()
    assert () == odd_aliases(lines)
    told = (directory / "modules.builtin.modinfo").read_text()
    understood = Aliases(lines, built_in_aliases(told))
    names = {
        *map(module_name, re.findall(r"(?m)^alias \S*pci:\S+ (\S+)$", lines)),
        *(alias.module for alias in built_in_aliases(told)),
    }
    number = sum(len(understood.ids(name)) for name in names)
    assert len(patterns(directory)) == number


def test_odd_aliases() -> None:
    """What a device could ask for, in a form that is not an id's, is told."""
    odd = ("pci:v00008086d*", "pci:v00008086d0000100esv*sd*bc*sc*i*", "*", "[p]ci:*")
    usual = (
        "pci:v00008086d0000100Esv*sd*bc*sc*i*",
        "vfio_pci:v*d*sv*sd*bc*sc*i*",
        "usb:v*",
        "mypci:v00008086d*",
    )
    text = "".join(f"alias {each} module\n" for each in (*odd, *usual))
    assert odd == odd_aliases(f"# comment\n{text}")


@given(strategies.devices)
def test_modalias(device: Device) -> None:
    """A device asks for what fits it exactly."""
    assert pattern(Id(*device), exact=True) == modalias(device)
