"""What is lost when things go wrong: one boot each, then a test for each fault.

tests/live/faults.py runs in the guest. Other kernels: PCI_OBSERVER_KERNELS="5.10 7.3".
PCI_OBSERVER_SEED chooses the random moments, PCI_OBSERVER_STORM how many seconds the
storm lasts. docs/faults.md lists the faults; what is tested elsewhere is named there.
"""

from __future__ import annotations

import os
import random
from typing import Any, Final

import pytest
from live.boots import Boots, boot, progress
from test_live import labelled, lost_stages

pytestmark = pytest.mark.guest

KERNELS: Final = os.environ.get("PCI_OBSERVER_KERNELS", "6.1").split()
SEED: Final = os.environ.get("PCI_OBSERVER_SEED") or str(random.randrange(1 << 32))
STORM_SECONDS: Final = os.environ.get("PCI_OBSERVER_STORM", "60")
KIB_A_MINUTE: Final = 256  # that memory may grow by in a storm
LEFT: Final = ("programs", "maps", "links", "kprobe_events", "kprobes", "processes")
# What befalls one observer, and what of it is about decisions alone.
LOSSLESS: Final = (*("second", "clock", "descriptors", "cpus", "unplugged", "storm"),)

every_fault = pytest.mark.parametrize("fault", [*LOSSLESS, "races", "suspended"])


@pytest.fixture(scope="session")
def boots(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Boots:
    """All guests; each boots when a test first asks for it."""

    def start(kernel: str) -> dict[str, Any]:
        directory = tmp_path_factory.mktemp(f"faults-{kernel}")
        say = progress(pytestconfig)
        say(f"the seed of what is random is PCI_OBSERVER_SEED={SEED}")
        arguments = (SEED, STORM_SECONDS)
        result: dict[str, Any] = boot(
            kernel, "live.faults", directory, say, *arguments, cpus=2
        )
        return result

    return Boots(start)


@pytest.fixture(params=KERNELS)
def faults(request: pytest.FixtureRequest, boots: Boots) -> dict[str, Any]:
    """Return what happened under one kernel."""
    result = boots[request.param]
    parts: dict[str, Any] = result["parts"]
    return parts
