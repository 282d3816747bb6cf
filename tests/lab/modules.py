#!/usr/bin/env python3
"""Build kernel modules of ours for a Debian kernel, and print their paths.

modules.py KERNEL      KERNEL is a series, a version or an exact release
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.apt import AptError
from lab.kernels import DEFAULT_CACHE, REPOSITORY, Cache, KernelError
from lab.load import BuildError
from lab.sources import NoMirrorError
from observer.btf import Btf
from observer.kernel_image import btf_of
from observer.layout import Layout, layout_of

SOURCES = Path(__file__).resolve().parent
DEFAULT_OUTPUT = REPOSITORY / "build" / "lab"


def build_toy(
    kernel: str, *, cache: Path = DEFAULT_CACHE, output: Path = DEFAULT_OUTPUT
) -> Path:
    """Compile toy.ko for KERNEL unless it is newer than its source; its path."""
    return _build("toy", Cache(cache).headers(kernel), output) / "toy.ko"


def build_mutants(
    kernel: str, *, cache: Path = DEFAULT_CACHE, output: Path = DEFAULT_OUTPUT
) -> Path:
    """Compile mutant.ko and cases.ko for KERNEL likewise; their directory."""
    headers = Cache(cache).headers(kernel)
    layout = layout_of(Btf(btf_of(Cache(cache).get(kernel))))
    return _build("mutants", headers, output, f"MATCH={' '.join(match_of(layout))}")


def match_of(layout: Layout) -> list[str]:
    """Tell the compiler what pci_match_device() is like on a kernel."""
    found = [f"-DMATCH_ARGS={layout.match_args}"]
    if layout.semantics == "linux-5.15":
        found.append("-DHAS_OVERRIDE_ONLY")
    if str(layout.override_field).startswith("device."):
        found.append("-DOVERRIDE_IN_DEVICE")
    return found


def _build(name: str, headers: Path, output: Path, *variables: str) -> Path:
    """Compile a directory's modules unless they are newer than all that is in it."""
    source = SOURCES / name
    directory = output / name / headers.name.removeprefix("linux-headers-")
    sources = [path for path in source.iterdir() if path.is_file()]
    newest = max(path.stat().st_mtime for path in sources)
    built = list(directory.glob("*.ko"))
    if built and min(path.stat().st_mtime for path in built) >= newest:
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="new-") as temporary:
        work = Path(temporary) / "work"
        work.mkdir()
        for path in sources:  # the build leaves its products beside the sources
            shutil.copy(path, work)
        _make(name, headers, work, variables)
        shutil.rmtree(directory, ignore_errors=True)
        work.rename(directory)
    return directory


def _make(name: str, headers: Path, work: Path, variables: Sequence[str]) -> None:
    # This machine's compiler, where Debian's headers name the one of their release, and
    # not what an older one does not know. No types of the modules, which nobody reads
    # and which would need pahole.
    ours = (
        "CC=gcc",
        "CONFIG_CC_HAS_MIN_FUNCTION_ALIGNMENT=",
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
    )
    command = ["make", "-s", "-C", str(headers), f"M={work}", *ours]
    try:
        done = subprocess.run(
            [*command, *variables, "modules"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise BuildError(
            "make is missing: install the packages make and gcc"
        ) from error
    if done.returncode:
        raise BuildError(
            f"modules of {name} can't be built:\n{done.stdout}{done.stderr}"
        )


def main() -> int:
    """Run the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write(f"{__doc__}")
        return 2
    try:
        sys.stdout.write(f"{build_toy(sys.argv[1])}\n{build_mutants(sys.argv[1])}\n")
    except (AptError, BuildError, KernelError, NoMirrorError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
