#!/usr/bin/env python3
"""Build the toy driver for a Debian kernel, and print the module's path.

modules.py KERNEL      KERNEL is a series, a version or an exact release
"""

import shutil
import subprocess
import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.apt import AptError
from lab.kernels import DEFAULT_CACHE, REPOSITORY, Cache, KernelError
from lab.load import BuildError
from lab.sources import NoMirrorError

SOURCE = Path(__file__).resolve().with_name("toy")
DEFAULT_OUTPUT = REPOSITORY / "build" / "lab" / "toy"


def build_toy(
    kernel: str, *, cache: Path = DEFAULT_CACHE, output: Path = DEFAULT_OUTPUT
) -> Path:
    """Compile toy.ko for KERNEL unless it is newer than its source; its path."""
    headers = Cache(cache).headers(kernel)
    directory = output / headers.name.removeprefix("linux-headers-")
    module = directory / "toy.ko"
    sources = [path for path in SOURCE.iterdir() if path.is_file()]
    newest = max(path.stat().st_mtime for path in sources)
    if module.is_file() and module.stat().st_mtime >= newest:
        return module
    directory.mkdir(parents=True, exist_ok=True)
    for path in sources:  # the build leaves its products beside the sources
        shutil.copy(path, directory)
    command = ["make", "-s", "-C", str(headers), f"M={directory}", "modules"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(
            "make is missing: install the packages make and gcc"
        ) from error
    if done.returncode:
        raise BuildError(f"the toy module can't be built:\n{done.stdout}{done.stderr}")
    return module


def main() -> int:
    """Run the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write(f"{__doc__}")
        return 2
    try:
        sys.stdout.write(f"{build_toy(sys.argv[1])}\n")
    except (AptError, BuildError, KernelError, NoMirrorError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
