"""Who may take a device once a kernel has booted, and what brings each of them."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from observer.aliases import Alias, Index
from observer.candidates import matches
from observer.model import expect
from observer.module_names import module_name
from observer.record import PCI_ANY_ID, Driver, Id, Inputs, Outcome, Source
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.boot_config import BootConfig
    from observer.kernel_modules import KernelModules
    from observer.machine import Machine, PciDevice
    from observer.preflight.kernels import Kernel
    from observer.preflight.names import Names
    from observer.record import Device

# Of every kernel since 5.15, for one that does not tell its own.
SEMANTICS: Final = "linux-5.15"
_WITH_IDS: Final = ("vfio_pci", "pci_stub")  # modules with a parameter `ids`


class Comes(StrEnum):
    """What registers a driver at boot, or does not."""

    BUILT_IN = "built_in"
    ALIAS = "alias"  # the device asks for its module
    NAMED = "named"  # initramfs, modules-load or command line name it
    NEEDED = "needed"  # by a module that is loaded, or by a softdep
    OVERRIDE = "override"  # driverctl loads it
    BLACKLISTED = "blacklisted"
    NOTHING = "nothing"


class Candidate(NamedTuple):
    """A driver that matches a device by the model, once it is registered."""

    module: str  # as the kernel spells it: vfio_pci
    driver: str | None  # its name; None: not known, for it is not registered now
    match: Source
    comes: Comes
    certain: bool  # False: its ids are those of now, for this kernel does not tell
    place: str | None  # where it is named or blacklisted; None: nowhere

    @property
    def label(self) -> str:
        """Name it in a sentence."""
        if self.driver is None:
            return f"module {quoted(self.module)}"
        return quoted(self.driver)

    @property
    def where(self) -> str:
        """Spell the place in a sentence."""
        return printable(self.place or "")

    @property
    def registered(self) -> bool:
        """Tell whether it takes part."""
        return self.comes not in {Comes.BLACKLISTED, Comes.NOTHING}


class Prospects:
    """Asks the model who matches under a kernel, once for devices that are alike."""

    def __init__(
        self,
        kernel: Kernel,
        other: KernelModules,
        config: BootConfig,
        names: Names,
        machine: Machine,
    ) -> None:
        """Take a kernel; `other` may tell ids that this one does not."""
        self.kernel = kernel
        self.semantics = kernel.rules.semantics if kernel.rules else SEMANTICS
        self._modules, self._config, self._names = kernel.modules, config, names
        self._running = kernel.release == machine.release
        self._assumed = self._assume(machine, other)
        self._index = Index(
            Alias(module, entry)
            for module, entries in self._assumed.items()
            for entry in entries
        )
        self._dynids = dict(self._with_dynids())
        self._known: dict[tuple[Device, str | None], tuple[Candidate, ...]] = {}
        self._asked = {
            ids: frozenset(self._asked_for(ids))
            for ids in {device.ids for device in machine.devices.values()}
        }
        self._loaded = self._closure()

    def of(self, device: PciDevice) -> tuple[Candidate, ...]:
        """Return all that match, those included that nothing registers."""
        key = device.ids, self.override(device)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = tuple(self._ask(*key))
        return known

    def override(self, device: PciDevice) -> str | None:
        """Return the driver_override that the device gets at boot."""
        found = self._config.overrides.get(device.address)
        return found.driver if found else None

    def has(self, module: str) -> bool:
        """Say whether the kernel has a driver of this module, as far as is known."""
        return self._modules.has(module) or module in self._assumed

    def built_in(self, module: str) -> bool:
        """Say whether it is part of the kernel."""
        return module not in self._modules.loadable and self.has(module)

    @property
    def tells_built_in(self) -> bool:
        """Tell whether the ids of what is built in are known."""
        return self._running or self._modules.aliases.tell_built_in()

    def precedes(self, first: Candidate, second: Candidate) -> bool:
        """Tell whether the first is surely registered before the second."""
        if second.comes is Comes.BUILT_IN:
            return False
        needs = self._modules.needs(second.module)
        return (
            first.comes is Comes.BUILT_IN
            or first.module in needs
            or any(first.module in pre for pre, _ in self._softdeps(second.module))
        )

    def _softdeps(self, module: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
        for softdeps in (self._config.modprobe_d.softdeps, self._modules.softdeps):
            if module in softdeps:
                yield softdeps[module]

    def _assume(
        self, machine: Machine, other: KernelModules
    ) -> dict[str, tuple[Id, ...]]:
        """Return the ids of built-in drivers of which the kernel itself tells none."""
        mine = self._modules
        registered: dict[str, tuple[Id, ...]] = {}
        for name, known in machine.drivers.items():
            module = self._names.module(name)
            if module in mine.loadable or mine.aliases.ids(module):
                continue
            # What no list of modules has can't be left out of a kernel.
            stays = known.module is None and (self._running or not other.has(module))
            if stays or module in mine.built_in:
                table = known.driver.id_table or ()
                registered[module] = registered.get(module, ()) + table
        listed = {
            module: other.aliases.ids(module)
            for module in mine.built_in
            if not mine.aliases.ids(module)
        }
        return listed | registered

    def _with_dynids(self) -> Iterator[tuple[str, tuple[Id, ...]]]:
        for module in _WITH_IDS:
            dynids = self._config.dynids(module, built_in=self.built_in(module))
            if dynids:
                yield module, dynids

    def _closure(self) -> frozenset[str]:
        """Return all modules that are loaded for any device, or for none."""
        blacklist = self._config.modprobe_d.blacklist
        loaded: set[str] = set()
        waiting = [module_name(each.name) for each in self._config.named] + [
            self._names.module(each.driver) for each in self._config.overrides.values()
        ]
        for asked in self._asked.values():
            waiting += asked
        while waiting:
            module = waiting.pop()
            if module not in loaded and module not in blacklist:
                loaded.add(module)
                waiting += self._modules.needs(module)
                for softdep in self._softdeps(module):
                    waiting += [*softdep[0], *softdep[1]]
        return frozenset(loaded)

    def _asked_for(self, ids: Device) -> Iterable[str]:
        """Name what the device's modalias loads, blacklists aside."""
        return self._config.modprobe_d.modules(ids) or self._modules.aliases.modules(
            ids
        )

    def _ask(self, ids: Device, override: str | None) -> Iterator[Candidate]:
        """Ask about each module with its entries that fit.

        To the model these are alike but for override_only, and the others don't matter.
        """
        tables: dict[str, tuple[int, ...]] = dict.fromkeys(self._dynids, ())
        if override is not None:
            tables[self._names.module(override)] = ()
        for module, entry in (*self._index.of(ids), *self._modules.aliases.of(ids)):
            tables[module] = (*tables.get(module, ()), entry.override_only)
        for module, flags in tables.items():
            name = self._name(module, override)
            verdict = expect(
                self.semantics,
                Inputs(
                    ids,
                    Driver(0, name or module, _table(flags)),
                    self._dynids.get(module, ()),
                    driver_override=override,
                ),
            )
            if isinstance(verdict, Outcome) and matches(verdict) and self.has(module):
                comes = self._comes(module, ids, override)
                yield Candidate(module, name, verdict.match, *comes)

    def _name(self, module: str, override: str | None) -> str | None:
        if override is not None and self._names.module(override) == module:
            return override
        return next(iter(self._names.drivers(module)), None)

    def _comes(
        self, module: str, ids: Device, override: str | None
    ) -> tuple[Comes, bool, str | None]:
        named = self._config.loads(module)
        place = named.place if named else None
        if self.built_in(module):
            return Comes.BUILT_IN, self._running or module not in self._assumed, place
        blacklisted = self._config.modprobe_d.blacklist.get(module)
        if override is not None:
            return Comes.OVERRIDE, True, place
        asked = module in self._asked[ids]
        if asked and not blacklisted:
            return Comes.ALIAS, True, place
        if module in self._loaded:
            return (Comes.NAMED if named else Comes.NEEDED), True, place
        if blacklisted:
            return Comes.BLACKLISTED, True, blacklisted
        return Comes.NOTHING, True, None


@cache
def _table(flags: tuple[int, ...]) -> tuple[Id, ...]:
    """Return entries that fit every device."""
    any_id = Id(PCI_ANY_ID, PCI_ANY_ID)
    return tuple(any_id._replace(override_only=flag) for flag in flags)
