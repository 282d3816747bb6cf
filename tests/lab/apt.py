"""Debian's archive through apt, with a configuration and a state of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from lab.release import Image, release_of, split_packages
from lab.sources import codename, machine_sources, mirrors

# Read with -c, last of all: the machine's own files (a proxy, credentials) stay in
# force, and #clear takes the hooks away that container images add.
CONFIGURATION = """\
#clear APT::Update;
#clear DPkg;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "3";
Dir::Etc::sourcelist "{0}/kernels.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{0}/state";
Dir::State::lists "{0}/lists";
Dir::State::status "{0}/state/status";
Dir::Cache "{0}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
"""


class AptError(Exception):
    """apt failed, which has already said why on stderr."""


class Dependencies(NamedTuple):
    """What one version of a package asks for, without the versions it asks of it."""

    version: str
    depends: Sequence[str]


class Apt:
    """apt below a directory, knowing nothing but the suites that have kernels."""

    def __init__(self, root: Path) -> None:
        """Keep configuration, indexes and state below `root`."""
        self.root = root
        self._configuration = root / "apt.conf"
        self._updated = root / "updated"

    def update(self) -> None:
        """Read the package indexes; some suites may fail, not all."""
        archives = mirrors(machine_sources(), codename())
        for directory in ("state", "lists/partial", "cache/archives/partial"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        (self.root / "state" / "status").touch()
        self._configuration.write_text(CONFIGURATION.format(self.root))
        (self.root / "kernels.sources").write_text(archives.stanzas())
        command = ["apt-get", "-q", "--error-on=any", "update"]
        if self._run(command, stdout=sys.stderr).returncode == 0:
            self._updated.touch()
        elif not self._indexes() or not self.images():
            raise AptError("the package index of Debian's archive can't be read")

    def index_age_seconds(self, *, now: float) -> float | None:
        """How old the package index is; None when there is none."""
        if not self._indexes() or not self._configuration.is_file():
            return None
        try:
            return max(0.0, now - self._updated.stat().st_mtime)
        except FileNotFoundError:
            return float("inf")

    def images(self) -> dict[str, Image]:
        """Every kernel that can be fetched whole, by release.

        The archive drops the modules of older builds before their images; a kernel
        whose modules are gone boots no guest, since 9p is a module.
        """
        names = set(self._query("pkgnames", "linux-").split())
        packages = [name for name in sorted(names) if release_of(name)]
        found: dict[str, Image] = {}
        for line in self._query("madison", *packages).splitlines():
            package, version, _ = (cell.strip() for cell in line.split("|", 2))
            release = release_of(package)
            if release is None:
                continue
            parts = split_packages(release)
            image = Image(release, version, split=parts[0] in names)
            if not image.split or names.issuperset(parts):
                found.setdefault(release, image)  # madison: newest first
        return found

    def dependencies(self, package: str) -> Dependencies | None:
        """Tell what the newest version of a package depends on; None: not served."""
        if package not in self._query("pkgnames", package).split():
            return None
        text = self._query("show", "--no-all-versions", package)
        fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        names = [word.split()[0] for word in fields["Depends"].split(", ")]
        return Dependencies(fields["Version"], names)

    def download(self, packages: Sequence[str], version: str, into: Path) -> None:
        """Fetch and verify packages; the .deb files end up in `into`."""
        wanted = [f"{package}={version}" for package in packages]
        command = ["apt-get", "-q", "download", *wanted]
        if self._run(command, stdout=sys.stderr, cwd=into).returncode:
            raise AptError(f"apt can't fetch {' '.join(wanted)}")

    def _indexes(self) -> bool:
        return any((self.root / "lists").glob("*_Packages*"))

    def _query(self, *words: str) -> str:
        done = self._run(["apt-cache", *words], stdout=subprocess.PIPE)
        if done.returncode:
            raise AptError(f"apt-cache {words[0]} failed")
        return done.stdout

    def _run(
        self,
        command: Sequence[str],
        *,
        stdout: int | TextIO,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        tool, *words = command
        return subprocess.run(
            [tool, "-c", str(self._configuration), *words],
            stdout=stdout,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            check=False,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
