"""The PCI devices and drivers as sysfs shows them; read only, needs no privilege.

A device's files are read through a descriptor of its directory, its ids last: when that
succeeds, all that was read is of one device, and it is still there.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from observer.machine import PciDevice
from observer.record import Device
from observer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PCI: Final = Path("/sys/bus/pci")

_T = TypeVar("_T")

_GONE: Final = {errno.ENOENT, errno.ENODEV, errno.EIO}
# What this process lacks, which tells nothing about the file.
_WANTING: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_SIZE: Final = 4097  # one byte more than any file here can have
_ID: Final = "0000([0-9A-F]{4})"
_CLASS: Final = "bc([0-9A-F]{2})sc([0-9A-F]{2})i([0-9A-F]{2})"
_MODALIAS: Final = re.compile(f"pci:v{_ID}d{_ID}sv{_ID}sd{_ID}{_CLASS}")
_FLAGS: Final = {"0": False, "1": True}
# How PCI shows that there is none, and how other buses do. An override that is this
# very text can't be told from none.
_NO_OVERRIDE: Final = {"(null)", ""}


class _GoneError(Exception):
    """The device was removed, or is just being added."""


class _OddError(Exception):
    """The device has no ids that could be understood."""


def devices(*, root: Path = PCI) -> tuple[dict[str, PciDevice], tuple[str, ...]]:
    """Read all PCI devices, by address, ascending, and what could not be read.

    A device that goes away meanwhile is left out, with a sentence, as is one whose ids
    can't be read. Other fields that can't be read are None, with a sentence each.
    Raises OSError, as all functions here do, when this process has no more descriptors
    or memory: then nothing is known.
    """
    gaps: list[str] = []
    found: dict[str, PciDevice] = {}
    # A domain of more than four digits comes last.
    for address in sorted(_listed(root / "devices", gaps), key=lambda a: (len(a), a)):
        sentences = len(gaps)
        read = device(address, root=root, gaps=gaps)
        if read is not None:
            found[address] = read
        elif len(gaps) == sentences:
            gaps.append(
                f"{printable(address)} came or went while it was read: it is left out."
            )
    return found, tuple(gaps)


def device(
    address: str, *, root: Path = PCI, gaps: list[str] | None = None
) -> PciDevice | None:
    """Read one device; None: it is not there, or `gaps` tells why not.

    Up to Linux 7.0 this waits for a probe of the device to end, for its lock.
    """
    return _read(address, None, root, gaps)


def reread(
    device: PciDevice, *, root: Path = PCI, gaps: list[str] | None = None
) -> PciDevice | None:
    """Read again what changes while a device is there; the rest is taken from `device`.

    What answers at the address by now may be another device: then it is read entirely.
    """
    now = _read(device.address, device, root, gaps)
    if now is not None and now.ids != device.ids:
        return _read(device.address, None, root, gaps)
    return now


def _read(
    address: str, known: PciDevice | None, root: Path, gaps: list[str] | None
) -> PciDevice | None:
    try:
        descriptor = os.open(f"{root}/devices/{address}", os.O_PATH | os.O_DIRECTORY)
    except ValueError:  # a NUL
        return None
    except OSError as error:
        _raise_if_wanting(error)
        if gaps is not None and error.errno not in _GONE:
            gaps.append(f"{printable(address)} can't be read ({error.strerror}).")
        return None
    files = _Files(descriptor, printable(address), [])
    has_vfs = known is None or known.sriov_numvfs is not None
    try:
        read = PciDevice(
            address=address,
            driver=files.link("driver"),
            driver_override=files.override(),
            physfn=files.link("physfn") if known is None else known.physfn,
            sriov_numvfs=files.number("sriov_numvfs") if has_vfs else None,
            sriov_drivers_autoprobe=(
                files.flag("sriov_drivers_autoprobe") if has_vfs else None
            ),
            iommu_group=files.group(),
            boot_vga=files.flag("boot_vga") if known is None else known.boot_vga,
            ids=files.ids(),  # the last of all
        )
    except _GoneError:
        return None
    except _OddError:
        read = None
    finally:
        os.close(descriptor)
    if gaps is not None:
        gaps += files.gaps
    return read


class _Files(NamedTuple):
    """The files of one device; a sentence for each that is odd."""

    directory: int  # descriptor
    address: str  # printable
    gaps: list[str]

    def link(self, name: str) -> str | None:
        """Return the name of what a link leads to, None where there is none."""
        try:
            target = os.readlink(name, dir_fd=self.directory)
        except OSError as error:
            self._missing(name, error)
            return None
        return target.rpartition("/")[2]

    def text(self, name: str) -> str | None:
        """Return a file's text without the newline at its end."""
        try:
            return _content(name, self.directory)
        except OSError as error:
            self._missing(name, error)
            return None

    def override(self) -> str | None:
        text = self.text("driver_override")
        return None if text in _NO_OVERRIDE else text

    def number(self, name: str) -> int | None:
        return self._parsed(name, self.text(name), int)

    def flag(self, name: str) -> bool | None:
        return self._parsed(name, self.text(name), _FLAGS.__getitem__)

    def group(self) -> int | None:
        return self._parsed("iommu_group", self.link("iommu_group"), int)

    def ids(self) -> Device:
        """Read the ids; raises _GoneError, or _OddError with a sentence."""
        try:
            text = _content("modalias", self.directory)
        except OSError as error:
            _raise_if_wanting(error)
            if error.errno in _GONE:
                raise _GoneError from error
            raise self._no_ids(f"can't be read ({error.strerror})") from error
        match = _MODALIAS.fullmatch(text)
        if match is None:
            raise self._no_ids(f"reads '{printable(text)}'")
        vendor, device, subvendor, subdevice, *class_ = match.groups()
        return Device(
            int(vendor, 16),
            int(device, 16),
            int(subvendor, 16),
            int(subdevice, 16),
            int("".join(class_), 16),
        )

    def _no_ids(self, what: str) -> _OddError:
        self.gaps.append(f"{self.address}: modalias {what}, so the device is left out.")
        return _OddError()

    def _parsed(
        self, name: str, text: str | None, parse: Callable[[str], _T]
    ) -> _T | None:
        if text is None:
            return None
        try:
            return parse(text)
        except (ValueError, KeyError):
            self._unknown(name, f"reads '{printable(text)}'")
            return None

    def _missing(self, name: str, error: OSError) -> None:
        _raise_if_wanting(error)
        if error.errno != errno.ENOENT:  # most devices have few of these files
            self._unknown(name, f"can't be read ({error.strerror})")

    def _unknown(self, name: str, what: str) -> None:
        self.gaps.append(f"{self.address}: {name} {what}, so it is unknown.")


def drivers(*, root: Path = PCI) -> dict[str, str | None]:
    """Name the module of each registered PCI driver; None: it is built in."""
    return {
        # A built-in one may link to a module too: to its parameters.
        name: module
        if os.path.exists(f"{root}/drivers/{name}/module/initstate")
        else None
        for name, module in _linked_modules(root)
    }


def module_names(*, root: Path = PCI) -> dict[str, str]:
    """Name the module that each PCI driver links to, even where it is built in.

    A built-in driver has such a link if its module has parameters, or always: that
    depends on the kernel.
    """
    return {name: module for name, module in _linked_modules(root) if module}


def _linked_modules(root: Path) -> Iterator[tuple[str, str | None]]:
    for name in sorted(_listed(root / "drivers", [])):
        try:
            link = os.readlink(f"{root}/drivers/{name}/module")
        except OSError:
            yield name, None
        else:
            yield name, link.rpartition("/")[2]


def drivers_autoprobe(*, root: Path = PCI) -> bool | None:
    """Say whether the bus binds new devices and drivers by itself; None: unknown."""
    try:
        return _FLAGS.get(_content(f"{root}/drivers_autoprobe", None))
    except OSError as error:
        _raise_if_wanting(error)
        return None


def _listed(directory: Path, gaps: list[str]) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        _raise_if_wanting(error)
        gaps.append(f"{directory} can't be read ({error.strerror}).")
        return []


def _raise_if_wanting(error: OSError) -> None:
    """Raise an error that is none of the file's."""
    if error.errno in _WANTING:
        raise error


def _content(path: str, directory: int | None) -> str:
    descriptor = os.open(path, os.O_RDONLY, dir_fd=directory)
    try:
        return _decoded(os.read(descriptor, _SIZE)).removesuffix("\n")
    finally:
        os.close(descriptor)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
