"""Random writes to new_id, remove_id, driver_override, bind, unbind, drivers_probe.

Weighted so that they meet: ids that are there already, narrower or wider or beyond 16
bits, ids of the devices and of the id_table, spelled as people and scripts do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from live.world import World, Write
from observer.model.hex_fields import U32, scan
from observer.model.new_id import ALL_FIELDS
from observer.model.primitives import id_matches
from observer.record import PCI_ANY_ID, Driver, Id

if TYPE_CHECKING:
    from random import Random

Numbers = list[int]  # of a written id, as many as there are fields

STRANGERS: Final = (0xABC0, 0xABC1)  # vendors of nothing
FIELD_COUNTS: Final = (1, 2, 2, 2, 2, 3, 4, 4, 4, 5, 6, 6, 6, 7, 7, 7, 8)
SPACE: Final = " \t\n\v\f\r\udca0"
BLANKS: Final = (*" " * 12, "  ", "\t", "\n", "\v\f\r ", "\udca0", ",", ":", " -", " +")
ENDS: Final = (*("", "\n") * 6, " ", "\nffff", " junk", "junk", "\0", " -1", ".")
HEADS: Final = (*("",) * 16, " ", "\n\t ", "-", "0", "\udca0")
OVERRIDE_ENDS: Final = (*("", "\n") * 5, " ", " \n", "\nvfio-pci", "\0", "\t\n", "x")
OVERRIDES: Final = (
    *("\n",) * 8,
    *("", "\0", " ", "\0\n", "\n\n", "none", "PCI-STUB", " pci-stub", "\npci-stub"),
    *("x" * 4094, "x" * 4095, "x" * 5000, "pci-stub\n" + "x" * 4085, "\udcff"),
    "pci-stub\n" + "x" * 4086,
)


class Player(NamedTuple):
    """A driver whose files are written to."""

    name: str
    binds: bool = True  # False: must never get at a device
    heeds_driver_data: bool = False  # its probe method does; then only 0 is safe


PLAYERS: Final = (
    Player("pci-stub"),
    Player("pci-stub"),
    Player("pci-stub"),
    Player("vfio-pci"),
    Player("vfio-pci"),
    Player("e1000"),
    Player("virtio-pci"),
    Player("shpchp"),
    Player("serial", heeds_driver_data=True),
    Player("ahci", binds=False),
)
BINDERS: Final = tuple(player for player in PLAYERS if player.binds)


class Generator:
    """Makes up the next write from chance and from what is there now."""

    def __init__(self, random: Random, world: World) -> None:
        """Look at `world`, which others change."""
        self._random = random
        self._world = world
        self._addresses = tuple(world.devices)
        self._address = self._addresses[0]  # whose driver_override was written last

    def length(self) -> int:
        """Return how long the next sequence is to be."""
        return self._random.randint(4, 12)

    def write(self) -> Write:
        """Return a write that is safe to do."""
        make = self._random.choices(
            (
                self._new_id,
                self._remove_id,
                self._driver_override,
                self._bind,
                self._unbind,
                self._drivers_probe,
            ),
            (40, 14, 16, 14, 8, 8),
        )[0]
        return make()

    def _new_id(self) -> Write:
        player = self._random.choice(PLAYERS)
        text = self._text(self._numbers(player))
        if self._is_unsafe(player, text):
            stranger = self._random.choice(STRANGERS)
            text = f"{stranger:x} {text.lstrip(SPACE).partition(' ')[2]}"
        return Write("new_id", player.name, text)

    def _remove_id(self) -> Write:
        player = self._random.choice(PLAYERS)
        dynids = self._world.dynids[player.name]
        if dynids and self._chance(0.4):
            dynid = self._random.choice(dynids)
            count = self._random.choice((2, 2, 4, 6))
            return Write("remove_id", player.name, self._text([*dynid][:count]))
        return Write("remove_id", player.name, self._text(self._numbers(player)))

    def _driver_override(self) -> Write:
        if self._chance(0.35):
            text = self._random.choice(OVERRIDES)
        else:
            name = self._random.choice(BINDERS).name
            text = name + self._random.choice(OVERRIDE_ENDS)
        self._address = self._random.choice(self._addresses)
        return Write("driver_override", self._address, text)

    def _bind(self) -> Write:
        address = self._random.choice((self._address,) * 8 + self._addresses)
        names = {player.name for player in BINDERS}
        name = self._world.overrides[address]
        if name in names and self._chance(0.8):
            return Write("bind", str(name), address)
        device = self._world.devices[address]
        fitting = [
            name
            for name in sorted(names)
            if any(id_matches(dynid, device) for dynid in self._world.dynids[name])
        ]
        if fitting and self._chance(0.7):
            return Write("bind", self._random.choice(fitting), address)
        return Write("bind", self._random.choice(BINDERS).name, address)

    def _unbind(self) -> Write:
        bound = [(n, a) for a, n in self._world.bound.items() if n is not None]
        if bound and self._chance(0.8):
            return Write("unbind", *self._random.choice(bound))
        return Write(
            "unbind",
            self._random.choice(BINDERS).name,
            self._random.choice(self._addresses),
        )

    def _drivers_probe(self) -> Write:
        addresses = (self._address, *self._addresses)
        return Write("drivers_probe", "", self._random.choice(addresses))

    def _numbers(self, player: Player) -> Numbers:
        driver = self._world.drivers[player.name]
        entry = self._changed(self._entry(driver, self._world.dynids[player.name]))
        count = self._random.choice(FIELD_COUNTS)
        return [*entry, 0][:count]

    def _entry(self, driver: Driver, dynids: tuple[Id, ...]) -> Id:
        """Choose where to begin: a dynid, a device, the id_table, or nowhere."""
        if dynids and self._chance(0.55):
            return self._random.choice(dynids)
        if driver.id_table and self._chance(0.4):
            return self._random.choice(driver.id_table)
        device = self._random.choice(list(self._world.devices.values()))
        data = self._driver_data(driver)
        if self._chance(0.7):
            return Id(*device, self._mask(), data)
        return Id(
            self._random.choice(STRANGERS), self._random.choice((1, 2)), *device[2:]
        )

    def _changed(self, entry: Id) -> Id:
        """Make an id narrower, wider, larger or otherwise different, or let it be."""
        name = self._random.choice(("", *Id._fields[:7]))
        values = {
            "": (),
            "class_": (0, 0x00FF00, 0x010601, 0x060400, 0x068000, 0x070002),
            "class_mask": (0, 0xFF, 0xFFFF00, 0xFFFFFF, 0xFFFFFFFF),
            "driver_data": (0, 0, 1, 2, 0x7777, 1 << 40),
        }.get(name, (PCI_ANY_ID, 0, 5, 0xFFFF, 0x10000 ^ entry[0]))
        if name in Id._fields[:4] and self._chance(0.6):
            value = getattr(entry, name)
            values = (value ^ 0x10000, value | 0xFFFF0000, value & 0xFFFF)
        if not values:
            return entry
        return entry._replace(**{name: self._random.choice(values)})

    def _mask(self) -> int:
        return self._random.choice((0, 0, 0, 0xFFFFFF, 0xFFFF00, 0xFF0000))

    def _driver_data(self, driver: Driver) -> int:
        if driver.id_table and self._chance(0.6):
            return self._random.choice(driver.id_table).driver_data
        return self._random.choice((0, 0, 0, 1, 0x7777))

    def _is_unsafe(self, player: Player, text: str) -> bool:
        """Tell whether this would hand a device to a driver that might misuse it."""
        numbers = scan(text, ALL_FIELDS, self._world.rules.overflow)
        data = numbers[6] if len(numbers) == ALL_FIELDS else 0
        if player.binds and not (player.heeds_driver_data and data):
            return False
        vendors = {device.vendor for device in self._world.devices.values()}
        vendor = numbers[0] & U32 if numbers else 0
        return vendor == PCI_ANY_ID or vendor in vendors

    def _text(self, numbers: Numbers) -> str:
        words = self._random.choice(HEADS)
        for place, number in enumerate(numbers):
            words += self._random.choice(BLANKS) if place else ""
            words += self._spelled(number)
        return words + self._random.choice(ENDS)

    def _spelled(self, number: int) -> str:
        form = self._random.choice(
            (*("%x",) * 10, "%04x", "%X", "0x%x", "0X%08X", "%032x", "wide", "wider")
        )
        if form == "wide":  # the same in the lower 32 bits
            return f"{self._random.getrandbits(20):x}{number:08x}"
        if form == "wider" and self._chance(0.3):
            return f"{self._random.getrandbits(40) + 1:x}{number:016x}"
        return form % number if "%" in form else f"{number:x}"

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability
