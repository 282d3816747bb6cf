"""What to hook on a kernel of a given layout, and the constants of the programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer.record import StoreFile

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from observer.layout import Layout

# bpf/ in the order in which one program text is made of it.
SOURCES: Final = (
    "maps.bpf.h",
    "driver.bpf.c",
    "match.bpf.c",
    "probe.bpf.c",
    "store.bpf.c",
    "fallback.bpf.c",
)

RING_BYTES: Final = 1 << 20  # 8,000 decisions, for repeats take no room
RING_BYTES_OF_ALL: Final = 4 << 20  # where every decision is sent
TABLE_CHUNKS: Final = 64  # of 32 entries: id_tables of up to 2,048 come whole

PCI_MATCH_DEVICE: Final = "pci_match_device"
PCI_UNREGISTER_DRIVER: Final = "pci_unregister_driver"
DRIVER_PROBE_DEVICE: Final = "driver_probe_device"
PCI_BUS_MATCH: Final = "pci_bus_match"
PCI_DEVICE_PROBE: Final = "pci_device_probe"
INNER_PROBE: Final = "__driver_probe_device"
STORES: Final = {file: f"{file}_store" for file in StoreFile}
HOOKS: Final = (
    PCI_MATCH_DEVICE,
    PCI_UNREGISTER_DRIVER,
    INNER_PROBE,
    DRIVER_PROBE_DEVICE,
    *STORES.values(),
    PCI_BUS_MATCH,
    PCI_DEVICE_PROBE,
)
# What is hooked where pci_match_device, or the probe function, can't be.
FALLBACKS: Final = (PCI_BUS_MATCH, PCI_DEVICE_PROBE)
METHODS: Final = ("fentry", "kprobe")

# Offsets that the programs use; the others of the layout serve elsewhere.
_OFFSETS: Final = (
    "DRV_NAME",
    "DRV_DRIVER",
    "DRV_PRIVATE",
    "DRV_PROBE",
    "DRV_ID_TABLE",
    "DRV_DYNIDS",
    "DYNID_ID",
    "ID_SIZE",
    "DEV_DEVICE",
    "DEV_NAME",
    "DEV_BUS",
    "DEV_VENDOR",
    "DEV_IS_VIRTFN_BYTE",
    "DEV_IS_VIRTFN_MASK",
    "DEVICE_BUS",
    "DEVICE_DRIVER",
    "DRIVER_NAME",
    "DRIVER_BUS",
    "BUS_NAME",
    "MATCH_ARGS",
)
CONSTANTS: Final = (*_OFFSETS, "DEV_OVERRIDE", "PROBE_SPLIT")


_INSTEAD: Final = {
    PCI_MATCH_DEVICE: "no decision is seen",
    PCI_UNREGISTER_DRIVER: "uevents tell which drivers go",
    DRIVER_PROBE_DEVICE: "all probes look direct",
}


class Hook(NamedTuple):
    """A kernel function and the programs that run at its entry and return."""

    function: str
    enter: str
    leave: str | None = None
    # Set: PCI's own of several functions of this name, or one that serves all buses.
    # Hooked at the address where this file's attribute points to, by kprobes only.
    file: StoreFile | None = None
    # Hooked where this one can't be: it tells less.
    fallback: Hook | None = None


def plan(layout: Layout) -> tuple[Hook, ...]:
    """List the hooks for this layout, the indispensable one first."""
    match, probe = (
        Hook(
            *(function, f"enter_{program}", f"leave_{program}"),
            fallback=Hook(fallback, f"enter_{fallback}", f"leave_{fallback}"),
        )
        for function, program, fallback in (
            (PCI_MATCH_DEVICE, PCI_MATCH_DEVICE, PCI_BUS_MATCH),
            (layout.probe_function, "probe_function", PCI_DEVICE_PROBE),
        )
    )
    hooks: tuple[Hook, ...] = (
        match,
        Hook(PCI_UNREGISTER_DRIVER, "enter_pci_unregister_driver"),
        probe,
    )
    if probe.function == INNER_PROBE:
        hooks += (Hook(DRIVER_PROBE_DEVICE, "enter_outer_probe_function"),)
    return hooks + tuple(
        Hook(function, f"enter_{function}", "leave_store", file)
        for file, function in STORES.items()
    )


def instead(layout: Layout, function: str, attached: Container[str]) -> str:
    """Say what stands in for a hook of this kernel, where these are attached."""
    for file, store in STORES.items():
        if function == store:
            return f"writes to {file} are not seen; sysfs shows what they changed"
    if function == PCI_MATCH_DEVICE and PCI_BUS_MATCH in attached:
        return f"{PCI_BUS_MATCH} tells whether there is a match, not by which id"
    if function == layout.probe_function:
        if PCI_DEVICE_PROBE in attached:
            return f"{PCI_DEVICE_PROBE} tells of probes, but of none the core refuses"
        return "probes are not seen; uevents and sysfs tell what is bound"
    return _INSTEAD[function]


def told_by(layout: Layout, attached: Container[str]) -> tuple[str, str]:
    """Return which functions tell of decisions and of probes, with these attached."""
    match, probe = PCI_MATCH_DEVICE, layout.probe_function
    return (
        PCI_BUS_MATCH if PCI_BUS_MATCH in attached else match,
        PCI_DEVICE_PROBE if PCI_DEVICE_PROBE in attached else probe,
    )


def method_of(function: str, method: str) -> str:
    """Return how a function is hooked where the attach method is this."""
    return "kprobe" if function in STORES.values() else method


def constants(layout: Layout) -> dict[str, int]:
    """Return what the programs must know of a kernel, by name: KERNEL of bpf/."""
    values = {name: layout.offsets[name] for name in _OFFSETS}
    if "DEV_OVERRIDE" in layout.offsets:
        values["DEV_OVERRIDE"] = layout.offsets["DEV_OVERRIDE"]
    values["PROBE_SPLIT"] = int(layout.probe_function == INNER_PROBE)
    return values


def defines(
    method: str, *, table_chunks: int = TABLE_CHUNKS, extra: Iterable[str] = ()
) -> dict[str, int | None]:
    """Return the other -D constants; None stands for a bare -D."""
    # bcc asks for a size in pages; the ring gets its own when it is created.
    values: dict[str, int | None] = {"RING_PAGES": 1, "PAGE_SIZE": 4096}
    values["TABLE_CHUNKS"] = table_chunks
    if method == "fentry":
        values["FENTRY"] = None
    return values | dict.fromkeys(extra)
