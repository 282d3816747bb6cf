"""The names of all semantics, for who does not need the model itself."""

from __future__ import annotations

from typing import Final

SLUGS: Final = (
    "linux-3.15",
    "linux-3.16",
    "linux-5.15",
    "rfc-2021-06-03",
    "rfc-2021-06-14",
    "rfc-2021-06-14-without-c",
    "rfc-2021-06-17",
    "rfc-flagged-dynids",
)
