"""modules.alias and the other files of a kernel's modules, behind each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.target import Target
from observer.aliases import Aliases, built_in_aliases, odd_aliases
from observer.kernel_modules import FILES, KernelModules
from observer.model.primitives import id_matches
from observer.record import Device

if TYPE_CHECKING:
    from collections.abc import Iterable

MODULES = Path(__file__).parents[2] / "modules/7.3.4"
END = b"\f"  # of a file
DEVICES = (
    Device(0x8086, 0x100E, 0x1AF4, 0x1100, 0x020000),
    Device(0x1AF4, 0x1000, 0x1AF4, 1, 0x020000),
)


def run(data: bytes) -> None:
    """Ask for two devices; the index finds what a look at each alias finds."""
    parts = data.decode("utf-8", "surrogateescape").split("\f", len(FILES) - 1)
    files = dict(zip(FILES, parts + [""] * len(FILES), strict=False))
    modules = KernelModules.of(files)
    aliases = modules.aliases
    odd_aliases(files["modules.alias"])
    loadable = Aliases(files["modules.alias"])
    for device in DEVICES:
        found = {(each.module, each.id) for each in aliases.of(device)}
        for module, entry in found:
            assert id_matches(entry, device)
            assert entry in aliases.ids(module)
        plain = {
            (each.module, each.id)
            for each in built_in_aliases(files["modules.builtin.modinfo"])
            if id_matches(each.id, device)
        }
        assert plain <= found
        assert {each.module for each in loadable.of(device)} == {
            *loadable.modules(device),
            *loadable.override_only_modules(device),
        }
    for name in modules.loadable:
        modules.needs(name)


def seeds() -> Iterable[bytes]:
    """Yield some lines of a kernel's files, and lines for these devices."""
    texts = [
        (MODULES / name).read_bytes() if (MODULES / name).exists() else b""
        for name in FILES
    ]
    for start in range(0, 6000, 500):
        part = texts[0][start : start + 500]
        yield END.join([b"alias" + part.partition(b"\nalias")[2], *texts[1:]])
    yield (
        b"alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000\n"
        b"alias pci:v00008086d*sv*sd*bc02sc00i* any\n"
        b"alias pci:v*d*sv*sd*bc02sc*i* wild-one\n"
        b"alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
        b"\fe1000.alias=pci:v00008086d0000100Esv*sd*bc*sc*i*\0x.license=GPL\0"
        b"\fkernel/drivers/net/e1000.ko\n"
        b"\fkernel/a.ko: kernel/b.ko.xz kernel/c.ko\n"
        b"\fsoftdep a pre: b post: c\n"
    )


TARGET = Target(
    run,
    (),
    seeds,
    share=2,
    words=("alias ", "pci:v", "vfio_pci:v", "sv*sd*bc*sc*i*", "00008086d", "\f"),
)
