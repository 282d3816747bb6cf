#!/usr/bin/env python3
"""QEMU arguments for many PCI functions: eight a slot, behind bridges.

functions.py N [KIND]      print the arguments of N more functions of KIND (pci-testdev)
"""

import argparse
import sys
from collections.abc import Iterator

FUNCTIONS_PER_SLOT = 8
SLOTS_PER_BRIDGE = 31
FUNCTIONS_PER_BRIDGE = FUNCTIONS_PER_SLOT * SLOTS_PER_BRIDGE
FIRST_CHASSIS = 20

# Measured: 200 boot in 25 s; with one bridge full (248) or more the guest hangs.
MOST_THAT_BOOT = 200


def functions(count: int, kind: str = "pci-testdev") -> list[str]:
    """Arguments for `count` functions of `kind`, in QEMU's order."""
    if count < 0:
        raise ValueError(f"{count} functions: the count can't be negative")
    return list(_arguments(count, kind))


def _arguments(count: int, kind: str) -> Iterator[str]:
    for index in range(count):
        bridge, place = divmod(index, FUNCTIONS_PER_BRIDGE)
        slot, function = divmod(place, FUNCTIONS_PER_SLOT)
        if place == 0:
            yield "-device"
            yield f"pci-bridge,id=many{bridge},chassis_nr={FIRST_CHASSIS + bridge}"
        multifunction = ",multifunction=on" if function == 0 else ""
        yield "-device"
        yield f"{kind},bus=many{bridge},addr={slot + 1:#x}.{function}{multifunction}"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("kind", nargs="?", default="pci-testdev")
    args = parser.parse_args()
    try:
        sys.stdout.write(" ".join(functions(args.count, args.kind)) + "\n")
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
