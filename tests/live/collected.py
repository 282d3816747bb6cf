"""What the daemon hands over, collected in a guest: python -m live.collected DIRECTORY.

A journald takes its log, as under systemd.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import Final

from live import pci
from live.journal import Journal
from live.watcher import Watcher

PORT: Final = 9918
IDENTIFIER: Final = "pci-observer"
# In its comm a writer may put what would end a line, or begin one with a priority.
FORGER: Final = b'a\n<0>{"b":1}'
SETTLE_SECONDS: Final = 5


def act(places: dict[str, str]) -> None:
    """Override, bind and unbind a device, by a task with a hostile name."""
    edu = places["edu"]
    Path("/proc/self/comm").write_bytes(FORGER)
    pci.write(f"devices/{edu}/driver_override", "pci-stub\n")
    pci.write("drivers_probe", f"{edu}\n")
    pci.write("drivers/pci-stub/unbind", f"{edu}\n")
    pci.write(f"devices/{edu}/driver_override", "absent\x1b[31m\n")


def main(directory: Path) -> int:
    """Observe, act, and collect."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    pci.run("modprobe", "pci-stub")
    places = pci.addresses()
    with Journal() as journal:
        stream, environ = journal.stream(IDENTIFIER)
        with (
            stream,
            Watcher(
                port=PORT, log=directory / "stdout", stderr=stream, environ=environ
            ) as watcher,
        ):
            act(places)
            time.sleep(SETTLE_SECONDS)  # findings last three seconds before they count
            metrics = watcher.metrics()
            stopped = watcher.stop()
        result = {
            "release": platform.release(),
            "places": places,
            "metrics": metrics,
            "stopped": stopped,
            "entries": journal.entries(IDENTIFIER),
            "read": journal.read(IDENTIFIER),
        }
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
