#!/usr/bin/env python3
"""Build matchload, the generator of pci_match_device() calls, and print its path."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().with_name("matchload.c")
DEFAULT_OUTPUT = SOURCE.parents[2] / "build" / "lab" / "matchload"


class BuildError(Exception):
    """The compiler is missing or refused; the message says what to do."""


def build_matchload(output: Path = DEFAULT_OUTPUT) -> Path:
    """Compile matchload unless it is newer than its source; its path."""
    if output.is_file() and output.stat().st_mtime >= SOURCE.stat().st_mtime:
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    fresh = output.with_suffix(f".{os.getpid()}")  # another may build it as well
    flags = ["-O2", "-static", "-Wall", "-Wextra", "-Werror"]
    command = ["gcc", *flags, "-o", str(fresh), str(SOURCE)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(
            "gcc is missing: install the packages gcc and libc6-dev"
        ) from error
    if done.returncode:
        raise BuildError(f"gcc refused {SOURCE.name}:\n{done.stderr}")
    return fresh.rename(output)


def main() -> int:
    """Run the command line."""
    try:
        sys.stdout.write(f"{build_matchload()}\n")
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
