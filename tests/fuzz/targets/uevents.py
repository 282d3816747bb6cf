"""The kernel's messages on netlink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.target import Target
from observer.uevents import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPTURED = Path(__file__).parents[2] / "uevents"


def run(data: bytes) -> None:
    """Understand a message, or leave it."""
    found = parse(data, 1)
    if found is not None:
        assert (found.address is None) is not (found.driver is None) or found.address


def seeds() -> Iterable[bytes]:
    """Yield what kernels sent."""
    for path in sorted(CAPTURED.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            yield json.loads(line)[2].encode("utf-8", "surrogateescape")


TARGET = Target(
    run, (), seeds, share=42, max_bytes=1024, words=("SUBSYSTEM=pci", "ACTION=bind")
)
