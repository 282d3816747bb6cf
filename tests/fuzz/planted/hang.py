"""An input without end."""

from __future__ import annotations

from fuzz.target import Target


def run(data: bytes) -> None:
    """Go on for ever."""
    while data == b"seed":
        pass


TARGET = Target(run, (), lambda: [b"seed"], share=0, max_bytes=8)
