"""What an inventory costs, in time and in memory: python -m live.cost prints JSON."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from observer import bus, daemon, inventory, kernel, registered, sysfs

if TYPE_CHECKING:
    from collections.abc import Mapping

LOADED: Final = daemon  # what the daemon has in memory anyway
PAGE_BYTES: Final = 4096


def take() -> Mapping[str, object]:
    """Take the inventory as the loader does, which has types and symbols already."""
    btf = kernel.read_btf()
    symbols = kernel.symbol_addresses(bus.SYMBOLS)
    begin = time.monotonic()
    taken = inventory.take(btf, symbols)
    drivers_seconds = time.monotonic() - begin
    devices, _ = sysfs.devices()
    return {
        "drivers_seconds": drivers_seconds,
        "seconds": time.monotonic() - begin,
        "drivers": len(taken.drivers),
        "longest": max(len(known.driver.id_table or ()) for known in taken.drivers),
        "devices": len(devices),
        "gaps": taken.gaps,
        "inventory": registered.as_object(taken),
    }


def rss_bytes() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def hold() -> Mapping[str, Any]:
    """Let another process take it; keep it, as the daemon does."""
    gc.collect()
    before = rss_bytes()
    words = [sys.executable, "-m", "live.cost", "take"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    taken = json.loads(done.stdout)
    kept = registered.from_object(taken.pop("inventory")), sysfs.devices()
    del done
    gc.collect()
    return {"bytes": rss_bytes() - before, "kept": sum(map(len, kept)), **taken}


if __name__ == "__main__":
    print(json.dumps(take() if sys.argv[1:] else hold()))
