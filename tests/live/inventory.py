"""Inventories of a real kernel, in a guest: python -m live.inventory DIR.

What is right is for tests/test_inventory_live.py to say.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from live import kcore, pci
from observer import attachment, bus, inventory, kernel, sysfs
from observer.kernel_memory import KernelMemory
from observer.registered import Inventory, as_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
KPTR_RESTRICT: Final = Path("/proc/sys/kernel/kptr_restrict")
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
KALLSYMS: Final = Path("/proc/kallsyms")
RACES, RACE_SECONDS = 60, 25

# Written before anything of the observer runs: (driver, text).
DYNIDS: Final = (
    ("pci-stub", "8086 9999 1 2 020000 ffff00"),
    ("pci-stub", "1234 5678"),
    ("ahci", "1234 9abc ffffffff ffffffff 0 0 1"),
)
LOOP: Final = "while :; do rmmod e1000; modprobe e1000; done"


def plain(taken: Inventory) -> Any:  # noqa: ANN401 - JSON
    """Return an inventory as JSON has it."""
    return json.loads(json.dumps(as_object(taken)))


def resident(key: str) -> int:
    """Return KiB of this process."""
    found = re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def cost() -> dict[str, float]:
    """Return what an inventory costs, without reading types and symbols."""
    begin = time.monotonic()
    btf = kernel.read_btf()
    read_btf = time.monotonic()
    symbols = kernel.symbol_addresses(bus.SYMBOLS)
    read_symbols = time.monotonic()
    before = resident("VmRSS")
    readers: list[KernelMemory] = []

    def memory() -> KernelMemory:
        readers.append(KernelMemory())
        return readers[0]

    taken = inventory.take(btf, symbols, memory=memory)
    end = time.monotonic()
    return {
        "btf_seconds": read_btf - begin,
        "kallsyms_seconds": read_symbols - read_btf,
        "inventory_seconds": end - read_symbols,
        "runs": sum(reader.runs for reader in readers),
        "more_kib": resident("VmRSS") - before,
        "drivers": len(taken.drivers),
        "entries": sum(len(known.driver.id_table or ()) for known in taken.drivers),
    }


def apart(*prefix: str, what: str) -> Any:  # noqa: ANN401 - JSON
    """Do something in a process of its own, which may be somebody else's."""
    command = [*prefix, sys.executable, "-m", "live.inventory", what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"crash": f"status {done.returncode}: {done.stderr}"}


@contextlib.contextmanager
def hidden_by_sysctl() -> Iterator[None]:
    """Hide addresses of symbols from everybody."""
    before = KPTR_RESTRICT.read_text()
    KPTR_RESTRICT.write_text("2")
    try:
        yield
    finally:
        KPTR_RESTRICT.write_text(before)


@contextlib.contextmanager
def hidden_by_mount() -> Iterator[None]:
    """Put an empty file in the place of kallsyms."""
    subprocess.run(["mount", "--bind", "/dev/null", KALLSYMS], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", KALLSYMS], check=True)


def race() -> dict[str, Any]:
    """Take inventories while a module comes and goes; return every distinct one."""
    btf, symbols = kernel.read_btf(), kernel.symbol_addresses(bus.SYMBOLS)
    distinct: dict[str, int] = {}
    count = 0
    loop = subprocess.Popen(["bash", "-c", LOOP])
    begin = time.monotonic()
    try:
        while count < RACES or time.monotonic() - begin < RACE_SECONDS:
            text = json.dumps(as_object(inventory.take(btf, symbols)))
            distinct[text] = distinct.get(text, 0) + 1
            count += 1
    finally:
        loop.kill()
        loop.wait()
    pci.run("modprobe", "e1000")
    return {
        "count": count,
        "seconds": time.monotonic() - begin,
        "distinct": [[json.loads(text), times] for text, times in distinct.items()],
    }


def stores(btf: Any, symbols: Mapping[str, int]) -> dict[str, list[str]]:  # noqa: ANN401
    """Name the symbols at the addresses of the store functions."""
    with KernelMemory() as memory:
        found = bus.store_functions(btf, memory.read, symbols)
    names = kcore.symbols()
    return {file: names.get(address, []) for file, address in found.items()}


def main(directory: Path) -> int:
    """Look at a kernel in all ways."""
    for module in ("pci-stub", "vfio-pci", "e1000", "ahci"):
        pci.run("modprobe", module)
    written = [pci.write(f"drivers/{d}/new_id", text) for d, text in DYNIDS]
    btf, symbols = kernel.read_btf(), kernel.symbol_addresses(bus.SYMBOLS)
    result: dict[str, Any] = {
        "release": kernel.running().release,
        "written": written,
        "taken": plain(inventory.take(btf)),
        "oracle": kcore.drivers(),
        "sysfs": sysfs.drivers(),
        "aliases": Path(
            "/lib/modules", kernel.running().release, "modules.alias"
        ).read_text(),
        "stores": stores(btf, symbols),
    }
    result["cost"] = apart(what="cost")
    print("cost:", result["cost"], flush=True)
    result["nobody"] = apart(*NOBODY, what="take")
    with hidden_by_sysctl():
        result["kptr_restrict"] = apart(what="take")
    with hidden_by_mount():
        result["no_kallsyms"] = apart(what="take")
    attached = attachment.attach()
    result["handed_over"] = plain(attached.inventory)
    attached.detach()
    result["race"] = race()
    seen = [len(taken["drivers"]) for taken, _ in result["race"]["distinct"]]
    print(f"race: {result['race']['count']} inventories, drivers {seen}", flush=True)
    LOCKDOWN.write_text("confidentiality")
    result["locked_down"] = apart(what="take")
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    match sys.argv[1]:
        case "cost":
            print(json.dumps(cost()))
        case "take":
            print(json.dumps(as_object(inventory.take(kernel.read_btf()))))
        case directory:
            sys.exit(main(Path(directory)))
