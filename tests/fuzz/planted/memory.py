"""An input that takes more memory each time."""

from __future__ import annotations

from time import sleep

from fuzz.target import Target

KEPT: list[bytes] = []


def run(data: bytes) -> None:
    """Keep what is asked."""
    KEPT.append(data * (1 << 20))
    sleep(0.01)


TARGET = Target(run, (), lambda: [b"seed"], share=0, max_bytes=8)
