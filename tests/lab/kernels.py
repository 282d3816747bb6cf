#!/usr/bin/env python3
"""Fetch Debian kernels and unpack them where a guest can boot them.

    kernels.py CACHE list [SERIES...]     what could be had, newest last
    kernels.py CACHE get WANTED...        print the path of each one's vmlinuz
    kernels.py CACHE headers WANTED...    ... and of what modules are built with

WANTED is a series (5.10, 7.3), an upstream version (6.12.90) or an exact release
(6.1.0-56-amd64).  Nothing is installed.  The mirror and the keyring are the ones of
this machine's apt sources; apt verifies what it fetches.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.apt import Apt, AptError
from lab.release import Image, natural, resolve, split_packages
from lab.sources import NoMirrorError

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_CACHE = REPOSITORY / "build" / "kernels"
INDEX_LIFETIME_SECONDS = 7 * 24 * 3600
HEADERS = re.compile(r"linux-headers-.*-common|linux-kbuild-.*")
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


class KernelError(Exception):
    """A kernel can't be had; the message says why and what to do."""


class Cache:
    """A directory of unpacked kernels: RELEASE/boot/vmlinuz-RELEASE and modules."""

    def __init__(self, directory: Path, *, apt: Apt | None = None) -> None:
        """Use `directory`, making it when it isn't there."""
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.apt = apt or Apt(self.directory / "apt")
        self._memory = self.directory / "resolved.json"

    def image(self, release: str) -> Path | None:
        """Find the vmlinuz of an exact release, when it is unpacked here."""
        if not release or "/" in release:
            return None
        path = self.directory / release / "boot" / f"vmlinuz-{release}"
        return path if path.is_file() else None

    def get(self, wanted: str) -> Path:
        """Find the vmlinuz of the newest kernel that fits; fetch it if need be."""
        if image := self.image(wanted):
            return image
        with self._locked():
            try:
                release, path = self._fetch(wanted)
            except (AptError, NoMirrorError, KernelError) as error:
                return self._remembered(wanted, error)
            self._remember(wanted, release)
            return path

    def headers(self, wanted: str) -> Path:
        """Find the directory to build modules in, for what `get` finds; fetch both."""
        release = self.get(wanted).name.removeprefix("vmlinuz-")
        unpacked = self.directory / release / "headers"
        directory = unpacked / "usr" / "src" / f"linux-headers-{release}"
        with self._locked():
            if not directory.is_dir():
                self._unpack_headers(release, unpacked)
        return directory

    def images(self, *, today: bool = False) -> dict[str, Image]:
        """Every kernel the mirror serves whole, by release; as of today if need be."""
        with self._locked():
            self._refresh_index(0 if today else INDEX_LIFETIME_SECONDS)
            return self.apt.images()

    def _fetch(self, wanted: str) -> tuple[str, Path]:
        fresh = self._refresh_index()
        try:
            return self._fetch_indexed(wanted)
        except (AptError, KernelError):
            if fresh:
                raise
        _say("not in the package index at hand, reading it again")
        self.apt.update()
        return self._fetch_indexed(wanted)

    def _fetch_indexed(self, wanted: str) -> tuple[str, Path]:
        images = self.apt.images()
        release = resolve(wanted, images)
        if release is None:
            raise KernelError(
                f"kernel {wanted!r} is no longer served by Debian, or never was; "
                "`list` shows what there is"
            )
        return release, self.image(release) or self._unpack(images[release])

    def _unpack(self, image: Image) -> Path:
        """Download and unpack; a half-unpacked kernel never looks finished."""
        release = image.release
        with tempfile.TemporaryDirectory(dir=self.directory, prefix="new-") as name:
            work = Path(name)
            _say(f"fetching Debian's {release} ({image.version})")
            packages = split_packages(release) if image.split else [image.package]
            self._download(packages, image.version, work)
            arrange(work / "root", work / release, release)
            _run("depmod", "-b", str(work / release), release)
            (work / release).rename(self.directory / release)
        path = self.image(release)
        if path is None:
            raise KernelError(
                f"the packages of {release} hold no vmlinuz: Debian moved it again"
            )
        return path

    def _unpack_headers(self, release: str, out: Path) -> None:
        fresh = self._refresh_index()
        package = f"linux-headers-{release}"
        found = self.apt.dependencies(package)
        if found is None and not fresh:
            self.apt.update()
            found = self.apt.dependencies(package)
        if found is None:
            raise KernelError(f"{package} is no longer served by Debian, or never was")
        with tempfile.TemporaryDirectory(dir=self.directory, prefix="new-") as name:
            work = Path(name)
            _say(f"fetching Debian's {package} ({found.version})")
            packages = [package, *header_packages(found.depends)]
            self._download(packages, found.version, work)
            source = work / "root" / "usr" / "src"
            relocate(source / package / "Makefile")
            self._let_run(work / "root" / "usr" / "lib")
            (work / "root").rename(out)

    def _let_run(self, tools: Path) -> None:
        """Have tools built for a newer Debian run here, by that one's C library."""
        newer = [path for path in tools.rglob("*") if needs_glibc(path) > glibc()]
        if not newer:
            return
        libc = self.directory / "libc"
        if not libc.is_dir():
            found = self.apt.dependencies("libc6")
            if found is None:
                raise KernelError("libc6 is not served by Debian")
            with tempfile.TemporaryDirectory(dir=self.directory, prefix="new-") as name:
                work = Path(name)
                _say(f"fetching Debian's libc6 ({found.version}) for the tools")
                self._download(["libc6"], found.version, work)
                (work / "root").rename(libc)
        for path in newer:
            wrap(path, libc / LIBRARIES)

    def _download(self, packages: Sequence[str], version: str, work: Path) -> None:
        """Fetch packages and unpack them below `work`/root."""
        self.apt.download(packages, version, work)
        for deb in sorted(work.glob("*.deb")):
            _run("dpkg-deb", "-x", str(deb), str(work / "root"))
            deb.unlink()

    def _refresh_index(self, lifetime: float = INDEX_LIFETIME_SECONDS) -> bool:
        """Read the package index if there is none or it is old; True when it did."""
        age = self.apt.index_age_seconds(now=time.time())
        if age is not None and age < lifetime:
            return False
        _say("reading Debian's package index (about 32 MB)")
        try:
            self.apt.update()
        except AptError as error:
            if age is None:
                raise
            _say(f"going on with the old package index: {error}")
        return True

    def _remembered(self, wanted: str, reason: Exception) -> Path:
        """Fall back to what WANTED meant the last time, when it is still here."""
        release = self._memories().get(wanted, "")
        image = self.image(release)
        if image is None and isinstance(reason, KernelError):
            raise reason
        if image is None:
            raise KernelError(
                f"kernel {wanted!r} isn't cached and can't be fetched: {reason}"
            )
        _say(f"{reason}; using {release}, which {wanted} meant the last time")
        return image

    def _remember(self, wanted: str, release: str) -> None:
        memories = self._memories() | {wanted: release}
        text = json.dumps(memories, indent=1, sort_keys=True)
        temporary = self._memory.with_suffix(".new")
        temporary.write_text(text + "\n")
        temporary.rename(self._memory)

    def _memories(self) -> dict[str, str]:
        try:
            memories = json.loads(self._memory.read_text())
        except (OSError, ValueError):
            return {}
        if not isinstance(memories, dict):
            return {}
        return {str(wanted): str(release) for wanted, release in memories.items()}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time: two would fetch the same kernel twice."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def arrange(root: Path, out: Path, release: str) -> None:
    """Lay unpacked packages out as virtme-ng looks for them.

    Old packages have /boot/vmlinuz-R and /lib/modules/R, those since 6.19 have
    /usr/lib/modules/R/vmlinuz; here it is always boot/ and lib/modules/.
    """
    modules = out / "lib" / "modules" / release
    (out / "boot").mkdir(parents=True)
    modules.parent.mkdir(parents=True)
    for place in ("lib", "usr/lib"):
        unpacked = root / place / "modules" / release
        if unpacked.is_dir() and not modules.exists():
            unpacked.rename(modules)
        elif unpacked.is_dir():
            shutil.copytree(unpacked, modules, symlinks=True, dirs_exist_ok=True)
    for name in ("vmlinuz", "config"):
        for old in (root / "boot" / f"{name}-{release}", modules / name):
            if old.exists():
                old.rename(out / "boot" / f"{name}-{release}")
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)


def header_packages(depends: Sequence[str]) -> list[str]:
    """Choose what a headers package needs beside it; the compiler is this machine's."""
    return [name for name in depends if HEADERS.fullmatch(name)]


def relocate(makefile: Path) -> None:
    """Let a headers package's Makefile find what is beside it, not in /usr."""
    here = "$(dir $(lastword $(MAKEFILE_LIST)))"
    text = makefile.read_text().replace("include /usr/src/", f"include {here}../")
    text = text.replace("KBUILD_OUTPUT=/usr/src/", f"KBUILD_OUTPUT={here}../")
    makefile.write_text(text)


def glibc() -> int:
    """Return the minor version of this machine's C library, 2.N."""
    version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return int(version.rpartition(".")[2] or 0)


def needs_glibc(path: Path) -> int:
    """Return the minor version of the C library that a program asks for; 0: none."""
    if path.is_symlink() or not path.is_file():
        return 0
    content = path.read_bytes()
    if not content.startswith(b"\x7fELF"):
        return 0
    return max(map(int, re.findall(rb"GLIBC_2\.(\d+)", content)), default=0)


def wrap(program: Path, libraries: Path) -> None:
    """Put a script in the place of a program that runs it by other libraries."""
    program.rename(program.with_name(f"{program.name}.elf"))
    interpreter = libraries / "ld-linux-x86-64.so.2"
    words = shlex.join([str(interpreter), "--library-path", str(libraries)])
    program.write_text(f'#!/bin/sh\nexec {words} "$0.elf" "$@"\n')
    program.chmod(0o755)


def vmlinuz(kernel: str, *, cache: Path = DEFAULT_CACHE) -> Path:
    """Find the boot image of KERNEL: a path, a series, a version or a release."""
    if "/" in kernel:
        path = Path(kernel).resolve()
        if not path.is_file():
            raise KernelError(f"{kernel}: no such kernel image")
        return path
    return Cache(cache).get(kernel)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    if done.returncode:
        raise KernelError(f"{' '.join(command)} failed with status {done.returncode}")


def _say(text: str) -> None:
    sys.stderr.write(f"kernels: {text}\n")
    sys.stderr.flush()


def _list(cache: Cache, series: list[str]) -> None:
    images = cache.images().values()
    for image in sorted(images, key=lambda image: natural(image.version)):
        if not series or any(image.fits(wanted) for wanted in series):
            sys.stdout.write(f"{image.release:34}{image.version}\n")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cache", type=Path)
    parser.add_argument("verb", choices=("list", "get", "headers"))
    parser.add_argument("wanted", nargs="*")
    args = parser.parse_args()
    if args.verb != "list" and not args.wanted:
        parser.error(f"{args.verb} what? Name a series, a version or a release")
    cache = Cache(args.cache)
    find = cache.headers if args.verb == "headers" else cache.get
    try:
        if args.verb == "list":
            _list(cache, args.wanted)
        for wanted in args.wanted if args.verb != "list" else ():
            sys.stdout.write(f"{find(wanted)}\n")
            sys.stdout.flush()
    except (KernelError, AptError, NoMirrorError) as error:
        _say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
