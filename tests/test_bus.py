"""observer/bus.py: drivers out of memory that a test wrote, whole, broken or moving."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_image import BTF, BUS_KSET, CUT, PCI_BUS, Bus, Image, btf_of

from observer.btf import Btf
from observer.bus import ATTEMPTS, TABLE_ENTRIES, BusError, registered, store_functions
from observer.machine import Origin, PciDriver
from observer.record import Driver, Id, StoreFile, TableState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RELEASES = sorted(path.stem for path in BTF.glob("*.btf"))
OLD, NEW = "5.10.0-46-amd64", "7.3.4+deb13-amd64"
NIC = Id(0x8086, 0x100E, driver_data=7)
ANY_OF_CLASS = Id(0xFFFFFFFF, 0xFFFFFFFF, class_=0x0C0330, class_mask=0xFFFFFF)
DYNID = Id(0x1234, 0x5678, 1, 2, 0x020000, 0xFFFF00, 1 << 63)

both = pytest.mark.parametrize("release", [OLD, NEW])


def known(
    name: str,
    table: tuple[Id, ...] | None = None,
    dynids: tuple[Id, ...] | None = (),
    *,
    state: TableState = TableState.COMPLETE,
    module: str | None = None,
    probe: bool = True,
) -> PciDriver:
    """Spell what should be found."""
    driver = Driver(0, name, table, state, probe)
    return PciDriver(driver, Origin.KERNEL_MEMORY, dynids, module)


@pytest.mark.parametrize("release", [OLD, NEW])
def test_places(release: str) -> None:
    """Each driver comes with its addresses, in the same order; no table is null."""
    bus = Bus(btf_of(release))
    bus.add("zeta", (NIC,))
    bus.add("alpha", None)

    found = registered(bus.btf, bus.read, bus.symbols)

    assert ["zeta", "alpha"] == [known.driver.name for known in found.drivers]
    assert [
        (bus.drivers[name], bus.privates[name], table)
        for name, table in (("zeta", bus.tables["zeta"]), ("alpha", 0))
    ] == [*found.places]


def names(bus: Bus) -> list[str]:
    """Read the drivers' names."""
    return [d.driver.name for d in registered(bus.btf, bus.read, bus.symbols).drivers]


@pytest.fixture(params=[OLD, NEW])
def bus(request: pytest.FixtureRequest) -> Bus:
    """Return a bus with three drivers."""
    bus = Bus(btf_of(request.param))
    bus.add("pcieport", [ANY_OF_CLASS])
    bus.add("e1000", [NIC, ANY_OF_CLASS], module="e1000")
    bus.add("vfio-pci", None, [DYNID, NIC], module="vfio_pci", probe=False)
    return bus


@pytest.mark.parametrize("release", RELEASES)
def test_drivers_are_read_on_every_kernel(release: str) -> None:
    """In the order of registration, with all that belongs to them."""
    bus = Bus(btf_of(release))
    table = (NIC, ANY_OF_CLASS._replace(override_only="5.10" not in release))
    bus.add("zeta", table, module="zeta_mod")
    bus.add("alpha", None, [DYNID, NIC], probe=False)
    bus.add("empty", [])

    found = registered(bus.btf, bus.read, bus.symbols)

    assert () == found.gaps
    assert (
        known("zeta", table, module="zeta_mod"),
        known("alpha", None, (DYNID, NIC), probe=False),
        known("empty", ()),
    ) == found.drivers


def test_a_bus_without_drivers() -> None:
    """That is no error."""
    bus = Bus(btf_of(NEW))
    bus.seal()
    assert ((), (), ()) == registered(bus.btf, bus.read, bus.symbols)


@both
def test_many_long_tables_take_few_runs(release: str) -> None:
    """Runs grow with the longest list and the longest table, not with their sum."""
    bus = Bus(btf_of(release))
    table = tuple(Id(1, number) for number in range(1100))
    for number in range(10):
        bus.add(f"driver {number}", table, [DYNID] * 5)
    bus.runs = 0

    found = registered(bus.btf, bus.read, bus.symbols)

    assert [table] * 10 == [driver.driver.id_table for driver in found.drivers]
    assert bus.runs < 60


@both
@pytest.mark.parametrize("offset", [1, 20, 33, 40, 63])
def test_what_lies_across_pages_is_read(release: str, offset: int) -> None:
    """An entry, or a name, may begin in one page and end in the next."""
    bus = Bus(btf_of(release))
    at = bus.add("short", [NIC])
    name = bus.allocate(100, before_page_end=offset)
    bus.write(name, b"n" * 90)
    table = bus.allocate(160, before_page_end=offset)
    bus.write(table, bus.id(NIC) + bus.id(ANY_OF_CLASS))
    bus.put(at + bus.at("pci_driver", "driver", "name"), name)
    bus.put(at + bus.at("pci_driver", "id_table"), table)

    found = registered(bus.btf, bus.read, bus.symbols)

    assert ((known("n" * 90, (NIC, ANY_OF_CLASS)),), ()) == found[:2]


def test_an_odd_name_is_kept() -> None:
    """Bytes that are no UTF-8 are no reason to lose a driver."""
    bus = Bus(btf_of(NEW))
    bus.add("b\udcffd\x1b")
    assert ["b\udcffd\x1b"] == names(bus)


def test_a_dying_driver_is_left_out(bus: Bus) -> None:
    """Its node is marked while others still stand on it."""
    klist = bus.at("driver_private", "knode_bus") + bus.at("klist_node", "n_klist")
    bus.put(bus.privates["e1000"] + klist, bus.klist | 1)
    assert ["pcieport", "vfio-pci"] == names(bus)


def test_a_table_that_ends_in_nothing(bus: Bus) -> None:
    """What could be read is kept, what is unknown is said; nothing is made up."""
    table = bus.allocate(80, before_page_end=80)
    bus.write(table, (bus.id(NIC) + bus.id(NIC))[:80])
    bus.put(bus.drivers["e1000"] + bus.at("pci_driver", "id_table"), table)

    found = registered(bus.btf, bus.read, bus.symbols)

    entries = 80 // bus.size("pci_device_id")
    assert (
        known("e1000", (NIC,) * entries, state=TableState.UNREADABLE, module="e1000")
        == found.drivers[1]
    )
    assert ("The id_table of e1000 could not be read whole.",) == found.gaps


def test_a_table_of_a_module_that_is_gone(bus: Bus) -> None:
    """No entry, and not the table of no entries either."""
    bus.unmap(bus.tables["e1000"])
    found = registered(bus.btf, bus.read, bus.symbols)
    assert ((), TableState.UNREADABLE) == found.drivers[1].driver[2:4]
    assert 1 == len(found.gaps)


def test_a_table_without_end() -> None:
    """It is cut, and said to be."""
    bus = Bus(btf_of(NEW))
    at = bus.add("endless")
    bus.put(at + bus.at("pci_driver", "id_table"), 0x10000000)
    page = bus.id(NIC) * 512

    def read(requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        return [
            page[(at - 0x10000000) % bus.size("pci_device_id") :][:length]
            if 0x10000000 <= at < 0x20000000
            else bus.read([(at, length)])[0]
            for at, length in requests
        ]

    (found,), gaps, _ = registered(bus.btf, read, bus.symbols)

    assert TableState.TRUNCATED is found.driver.table_state
    assert (NIC,) * TABLE_ENTRIES == found.driver.id_table
    (gap,) = gaps
    assert gap.startswith("The id_table of endless is longer than 65536 entries")


def test_a_list_that_grows_as_it_is_read_has_an_end(bus: Bus) -> None:
    """Its links agree all the way; after many it is called unknown."""
    step, begin = 4096, 0x20000000
    bus.put(bus.dynids["vfio-pci"][0], begin)
    bus.put(bus.drivers["vfio-pci"] + bus.list_of_dynids, begin)

    def read(requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        answers = []
        for at, length in requests:
            if begin <= at < begin << 2:
                assert at < begin + 20_000 * step
                back = at - step
                if at == begin:
                    back = bus.drivers["vfio-pci"] + bus.list_of_dynids
                links = struct.pack("<QQ", at + step, back)
                answers.append(links.ljust(length, b"\0"))
            else:
                answers += bus.read([(at, length)])
        return answers

    found = registered(bus.btf, read, bus.symbols)

    assert found.drivers[2].dynids is None
    assert ("The dynids of vfio-pci could not be read.",) == found.gaps


def test_a_dynid_that_is_skipped_is_missed(bus: Bus) -> None:
    """The one behind it still points back to it."""
    head = bus.drivers["vfio-pci"] + bus.list_of_dynids
    bus.put(head, bus.dynids["vfio-pci"][1])
    assert registered(bus.btf, bus.read, bus.symbols).drivers[2].dynids is None


@pytest.mark.parametrize("broken", [0, CUT, "itself", "other"])
def test_broken_dynids_are_unknown(bus: Bus, broken: int | str) -> None:
    """A null, bad or endless link: not an empty list, not the half of one."""
    first, second = bus.dynids["vfio-pci"]
    bus.put(second, {"itself": second, "other": first}.get(broken, broken))  # type: ignore[arg-type]

    found = registered(bus.btf, bus.read, bus.symbols)

    assert (
        known("vfio-pci", None, None, module="vfio_pci", probe=False)
        == (found.drivers[2])
    )
    assert ("The dynids of vfio-pci could not be read.",) == found.gaps


@pytest.mark.parametrize("member", ["p", "bus", "name", "owner"])
def test_a_driver_that_does_not_fit_is_counted(bus: Bus, member: str) -> None:
    """It is not listed under a wrong name, and not passed over in silence."""
    bus.put(bus.drivers["e1000"] + bus.at("pci_driver", "driver", member), CUT)

    found = registered(bus.btf, bus.read, bus.symbols)

    assert ["pcieport", "vfio-pci"] == [d.driver.name for d in found.drivers]
    (gap,) = found.gaps
    assert gap.startswith("1 of 3 registered PCI drivers could not be read")


def unregister(bus: Bus, *, reuse: bool) -> None:
    """Take e1000 off the bus, and free it; another may be there at once."""
    bus.privates.pop("e1000")
    bus.seal()
    if reuse:
        bus.write(bus.tables["e1000"], bus.id(Id(0xDEAD, 0xBEEF)))
        bus.add("nvme")
    else:
        bus.unmap(bus.drivers["e1000"])
        bus.unmap(bus.tables["e1000"])


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("run", range(1, 14))
def test_a_driver_goes_at_any_time(bus: Bus, run: int, *, reuse: bool) -> None:
    """It is whole, or it is not there; the others always are."""
    whole = registered(bus.btf, bus.read, bus.symbols).drivers
    bus.runs = 0

    def read(requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        if bus.runs == run and "e1000" in bus.privates:
            unregister(bus, reuse=reuse)
        return bus.read(requests)

    found = registered(bus.btf, read, bus.symbols)

    assert bus.runs >= run
    others = (whole[0], whole[2], *([known("nvme")] if reuse else []))
    assert found[:2] in {(whole, ()), (others, ())}
    assert len(found.drivers) == len(found.places)


@pytest.mark.parametrize("run", range(1, 14))
def test_a_driver_comes_at_any_time(bus: Bus, run: int) -> None:
    """It is whole, or not there yet."""
    before = registered(bus.btf, bus.read, bus.symbols).drivers
    bus.runs = 0

    def read(requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        if bus.runs == run and "nvme" not in bus.drivers:
            bus.add("nvme", [NIC], [DYNID])
        return bus.read(requests)

    found = registered(bus.btf, read, bus.symbols)

    after = (*before, known("nvme", (NIC,), (DYNID,)))
    assert found[:2] in {(before, ()), (after, ())}
    assert len(found.drivers) == len(found.places)


def test_a_bus_that_never_rests(bus: Bus) -> None:
    """After a few attempts what stayed is told, and how much came."""
    count = 0

    def read(requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        nonlocal count
        count += 1
        if not count % 6:
            bus.add(f"new {count}")
        return bus.read(requests)

    try:
        found = registered(bus.btf, read, bus.symbols)
    except BusError as e:
        assert "can't be followed" in str(e)  # noqa: PT017 - either is right
    else:
        assert found.gaps
    assert count < 40 * ATTEMPTS


def breakages() -> dict[str, Callable[[Bus], None]]:
    """Return ways in which the list itself may be broken."""

    def second(bus: Bus) -> int:
        return bus.privates["e1000"] + bus.node

    return {
        "null": lambda bus: bus.put(second(bus), 0),
        "bad": lambda bus: bus.put(second(bus), CUT),
        "itself": lambda bus: bus.put(second(bus), second(bus)),
        "back": lambda bus: bus.put(second(bus), bus.privates["pcieport"] + bus.node),
        # Past e1000: only vfio-pci's own link tells.
        "skipping one": lambda bus: bus.put(
            bus.privates["pcieport"] + bus.node, bus.privates["vfio-pci"] + bus.node
        ),
        "short": lambda bus: bus.put(
            second(bus), bus.klist + bus.at("klist", "k_list")
        ),
        "of another list": lambda bus: bus.put(
            bus.privates["e1000"]
            + bus.at("driver_private", "knode_bus")
            + bus.at("klist_node", "n_klist"),
            bus.klist + 64,
        ),
        "bus": lambda bus: bus.put(bus.subsys + bus.at("subsys_private", "bus"), 0),
        "no bus": lambda bus: bus.unmap(bus.subsys),
    }


@pytest.mark.parametrize("how", breakages())
def test_a_broken_list_is_an_error(bus: Bus, how: str) -> None:
    """A part of the drivers would look like all of them."""
    breakages()[how](bus)
    with pytest.raises(BusError, match="list of PCI drivers can't be followed: "):
        registered(bus.btf, bus.read, bus.symbols)


def test_hidden_symbols(bus: Bus) -> None:
    """The sentence says what is missing."""
    with pytest.raises(BusError, match=r"symbol pci_bus_type is not known"):
        registered(bus.btf, bus.read, {})


def test_nothing_can_be_read() -> None:
    """Neither drivers nor functions are made up."""
    image = Image(btf_of(NEW))
    symbols = {"pci_bus_type": PCI_BUS, "bus_kset": BUS_KSET}
    with pytest.raises(BusError):
        registered(image.btf, image.read, symbols)
    assert {} == store_functions(image.btf, image.read, symbols)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_garbage_is_no_trouble(data: st.DataObject) -> None:
    """Whatever is overwritten: an answer or a BusError, in bounded time."""
    release = data.draw(st.sampled_from([OLD, NEW]))
    bus = Bus(btf_of(release))
    bus.add("e1000", [NIC], [DYNID], module="e1000")
    bus.add("vfio-pci", None, [DYNID, NIC])
    places = [(page, at) for page in bus.pages for at in range(0, 400, 8)]
    values = st.sampled_from([0, 1, CUT, *(page << 12 for page in bus.pages)])
    for _ in range(data.draw(st.integers(1, 30))):
        page, at = data.draw(st.sampled_from(places))
        bus.put((page << 12) + at, data.draw(values | st.integers(0, 2**64 - 1)))
    bus.runs = 0
    try:
        found = registered(bus.btf, bus.read, bus.symbols)
    except BusError:
        pass
    else:
        assert all(driver.origin is Origin.KERNEL_MEMORY for driver in found.drivers)
    store_functions(bus.btf, bus.read, bus.symbols)
    assert bus.runs < 1000


@given(st.binary(min_size=8, max_size=64))
@settings(max_examples=30, deadline=None)
def test_memory_of_noise(noise: bytes) -> None:
    """Every address answers with noise: no list is endless."""

    def read(requests: Sequence[tuple[int, int]]) -> list[bytes | None]:
        return [(noise * (length // len(noise) + 1))[:length] for _, length in requests]

    symbols = {"pci_bus_type": PCI_BUS, "bus_kset": BUS_KSET}
    for release in (OLD, NEW):
        with pytest.raises(BusError):
            registered(btf_of(release), read, symbols)


class Stores(Image):
    """A bus with the attributes of PCI."""

    def __init__(self, btf: Btf) -> None:
        """Write them as this kernel has them."""
        super().__init__(btf)
        self.write(PCI_BUS, bytes(512))
        self.functions = 0xFFFFFFFF81000000
        new_id = (
            self.attribute("driver", b"new_id"),
            self.attribute("driver", b"remove_id"),
        )
        override = self.attribute("device", b"driver_override")
        self.symbols = {
            "pci_bus_type": PCI_BUS,
            "driver_attr_bind": self.attribute("driver", b"bind"),
            "driver_attr_unbind": self.attribute("driver", b"unbind"),
            "bus_attr_drivers_probe": self.attribute("driver", b"drivers_probe"),
        }
        uevent = self.attribute("device", b"uevent")
        devices = [self.group(), self.group(uevent)]
        if btf.has_member("device", "driver_override"):
            self.symbols["driver_override_dev_group"] = self.group(override)
        else:
            devices.append(self.group(uevent, override))
        self.groups("drv_groups", self.group(*new_id))
        self.groups("dev_groups", *devices)

    def attribute(self, kind: str, name: bytes) -> int:
        """Write an attribute whose store is the next function."""
        at = self.allocate(64)
        self.put(at + self.at("attribute", "name"), self.text(name))
        self.functions += 0x100
        self.put(at + self.at(f"{kind}_attribute", "store"), self.functions)
        return at

    def group(self, *attributes: int) -> int:
        """Write a group; one of binary attributes alone has none."""
        at = self.allocate(self.size("attribute_group"))
        if attributes:
            array = self.allocate(8 * len(attributes) + 8, before_page_end=8)
            self.put(array, *attributes, 0)
            self.put(at + self.at("attribute_group", "attrs"), array)
        return at

    def groups(self, member: str, *groups: int) -> None:
        """Write a list of groups."""
        array = self.allocate(8 * len(groups) + 8)
        self.put(array, *groups, 0)
        self.put(PCI_BUS + self.at("bus_type", member), array)


@pytest.mark.parametrize("release", RELEASES)
def test_store_functions(release: str) -> None:
    """PCI's own are found, wherever this kernel has driver_override."""
    image = Stores(btf_of(release))
    expected = {
        StoreFile.NEW_ID: 0xFFFFFFFF81000100,
        StoreFile.REMOVE_ID: 0xFFFFFFFF81000200,
        StoreFile.DRIVER_OVERRIDE: 0xFFFFFFFF81000300,
        StoreFile.BIND: 0xFFFFFFFF81000400,
        StoreFile.UNBIND: 0xFFFFFFFF81000500,
        StoreFile.DRIVERS_PROBE: 0xFFFFFFFF81000600,
    }
    assert expected == store_functions(image.btf, image.read, image.symbols)


@both
def test_a_symbol_of_another_name_is_not_believed(release: str) -> None:
    """An attribute that doesn't say "bind" is not bind's."""
    image = Stores(btf_of(release))
    image.symbols["driver_attr_bind"] = image.symbols["driver_attr_unbind"]
    found = store_functions(image.btf, image.read, image.symbols)
    assert set(StoreFile) - {StoreFile.BIND} == found.keys()


@both
def test_a_hidden_bus_leaves_the_rest(release: str) -> None:
    """bind, unbind and drivers_probe have symbols of their own."""
    image = Stores(btf_of(release))
    del image.symbols["pci_bus_type"]
    image.symbols.pop("driver_override_dev_group", None)
    found = store_functions(image.btf, image.read, image.symbols)
    assert {StoreFile.BIND, StoreFile.UNBIND, StoreFile.DRIVERS_PROBE} == found.keys()


def test_types_that_lack_something() -> None:
    """The sentence names it."""
    data = (BTF / f"{NEW}.btf").read_bytes().replace(b"\0knode_bus\0", b"\0knode_bux\0")
    with pytest.raises(BusError, match=r"lacks driver_private\.knode_bus"):
        registered(Btf(data), Bus(btf_of(NEW)).read, {"pci_bus_type": PCI_BUS})
    data = data.replace(b"\0attrs\0", b"\0attrx\0")
    assert {} == store_functions(Btf(data), Image(Btf(data)).read, {})
