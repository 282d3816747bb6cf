"""Many devices, a driver with many ids: python -m live.many DIRECTORY TOY, in a guest.

There is no IOMMU. TOY is the module of tests/lab/toy.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from live import pci
from live.glance import Glance, act, ask, command
from live.scenario import Result, say
from live.steps import Run
from live.troubles import Explained, override, probe

if TYPE_CHECKING:
    from live.troubles import Action

REFUSAL: Final = "/sys/module/toy/parameters/refusal"
COST: Final = (sys.executable, "-m", "live.cost")
TESTDEV: Final = Explained("testdev", ())
EPROBE_DEFER: Final = 517
ENODEV: Final = 19


def refuse(errno: int) -> None:
    """Let toy's probe end with this errno from now on, 0: bind."""
    Path(REFUSAL).write_text(str(errno))


class Many:
    """What is done with them, and seen."""

    def __init__(self, glance: Glance, role: str) -> None:
        """Look at the device of a role among all."""
        self.glance = glance
        self.address = glance.places[role]

    def answered(self, errno: int, finding: str, *, there: bool = True) -> Result:
        """Let toy's probe end so, and look at one of its devices."""
        refuse(errno)
        done = act((probe("testdev"),), self.glance.places)
        return {
            "done": done,
            "waited": self.glance.wait((self.address, finding), there=there),
            "findings": self.glance.findings(),
            "explained": self.glance.explain(TESTDEV),
            "audit": ask("audit", "--json"),
            "bound": pci.driver_of(self.address),
        }


def main(directory: Path, toy: str) -> int:
    """Run all of it."""
    pci.run("ip", "link", "set", "lo", "up")
    pci.run("udevadm", "settle", "--timeout=60")
    places = {
        "testdev": next(a for a in pci.devices() if pci.ids(a)[1] == "0x0005"),
        "edu": next(a for a in pci.devices() if pci.ids(a)[1] == "0x11e8"),
    }
    result: Result = {"release": platform.release(), "places": places}
    before: tuple[Action, ...] = (
        Run(f"insmod {toy} claim=1 refusal={EPROBE_DEFER}"),
        Run("modprobe vfio-pci"),
    )
    result["prepared"] = act(before, places)
    result["devices"] = pci.devices()
    result["cost"] = command(*COST)
    say(f"  {result['cost']}")
    begin = time.monotonic()
    glance = Glance(directory, places)
    say(f"  attached in {glance.watcher.attach_seconds:.1f} s")
    with glance.watcher:
        result["state"] = glance.watcher.state()
        many = Many(glance, "testdev")
        result["at_start"] = {
            "audit": ask("audit", "--json"),
            "explained": glance.explain(TESTDEV),
        }
        result["deferred"] = many.answered(EPROBE_DEFER, "deferred")
        result["refused"] = many.answered(ENODEV, "orphan")
        result["bound"] = many.answered(0, "orphan", there=False)
        no_iommu = (override("edu", "vfio-pci"), probe("edu"))
        result["no_iommu"] = {
            "done": act(no_iommu, places),
            "waited": glance.wait((places["edu"], "orphan"), there=True),
            "explained": glance.explain(Explained("edu", ())),
        }
        result["status"] = ask("status")
        result["state_at_end"] = glance.watcher.state()
        result["metrics"] = glance.watcher.metrics()
    result["seconds"] = time.monotonic() - begin
    (directory / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
