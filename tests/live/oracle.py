"""Another opinion on a recording, from its JSON alone and without the model.

Written from kernel-facts.md, sections 1.2 and 2, and kept apart from observer/model on
purpose: a mistake there is not repeated here.
"""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANY: Final = 0xFFFFFFFF
Line = dict[str, Any]


def lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a recording, as far as they are whole."""
    with gzip.open(path) if path.suffix == ".gz" else lzma.open(path) as text:
        while True:
            try:
                yield json.loads(text.readline())
            except (EOFError, ValueError, zlib.error):
                return


def decisions(path: Path) -> Iterator[tuple[Line, Line]]:
    """Yield each match with its driver."""
    drivers: dict[int, Line] = {}
    for line in lines(path):
        if line.get("record") == "driver":
            drivers[line["number"]] = line
        elif line.get("record") == "match":
            yield line, drivers[line["driver"]]


def fits(entry: Line, device: Line) -> bool:
    """Tell whether an id fits a device."""
    for name in ("vendor", "device", "subvendor", "subdevice"):
        if entry[name] != ANY and entry[name] != device[name]:
            return False
    return not (entry["class"] ^ device["class"]) & entry["class_mask"]


def first_hit(entries: list[Line] | None, device: Line) -> Line | None:
    """Return the first entry that fits, flagged or not."""
    return next((entry for entry in entries or () if fits(entry, device)), None)


def answer(match: Line, driver: Line) -> tuple[str, int | None]:
    """Work out a decision and its place, by the rules since 3.16.

    No entry is flagged before 5.15, so both releases answer alike.
    """
    override, device = match["driver_override"], match["device"]
    if override not in (None, driver["name"]):
        return "none", None
    for place, entry in enumerate(match["dynids"]):
        if fits(entry, device):
            return "dynid", place
    for place, entry in enumerate(driver["id_table"] or ()):
        if fits(entry, device) and (override or not entry["override_only"]):
            return "static", place
    return ("override" if override else "none"), None


def differs_by_era(match: Line, driver: Line) -> bool:
    """Tell whether linux-3.16 and linux-5.15 answer this decision differently.

    They do where nothing but an override_only entry comes first: no override, no dynid
    that fits, and the first entry that does is flagged.
    """
    if match["driver_override"] is not None:
        return False
    if first_hit(match["dynids"], match["device"]) is not None:
        return False
    hit = first_hit(driver["id_table"], match["device"])
    return hit is not None and bool(hit["override_only"])


def expected_by_wrong_era(path: Path) -> list[tuple[str, str, int]]:
    """List (driver, address, time) of all decisions that the other era disputes."""
    return [
        (driver["name"], match["address"], match["ktime_ns"])
        for match, driver in decisions(path)
        if differs_by_era(match, driver)
    ]


def beyond_the_table(match: Line, driver: Line) -> bool:
    """Tell whether the answer may lie in the part of a table that was not captured."""
    override = match["driver_override"]
    return (
        driver["table_state"] == "truncated"
        and override in (None, driver["name"])
        and first_hit(match["dynids"], match["device"]) is None
        and not any(
            fits(entry, match["device"]) and (override or not entry["override_only"])
            for entry in driver["id_table"]
        )
    )
