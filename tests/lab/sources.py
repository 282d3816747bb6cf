"""Where this machine gets its packages from: the apt sources, read, not changed."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEFAULT_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MAIN_SUITES = "bookworm bookworm-backports trixie trixie-backports sid"
SECURITY_SUITES = "bullseye-security bookworm-security trixie-security"


class NoMirrorError(Exception):
    """No apt source of this machine serves its own Debian release."""


@dataclass(frozen=True)
class Source:
    """One suite of one archive."""

    uri: str
    suite: str
    keyring: str | None  # a path; None leaves the choice to apt


@dataclass(frozen=True)
class Mirrors:
    """The archives that Debian kernels come from, as this machine reaches them."""

    main: str
    security: str | None
    keyring: str

    def stanzas(self) -> str:
        """Write an apt source list of every suite that has kernels, indexes only."""
        archives = ((self.main, MAIN_SUITES), (self.security, SECURITY_SUITES))
        return "\n".join(
            f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\n"
            f"Targets: Packages\nSigned-By: {self.keyring}\n"
            for uri, suites in archives
            if uri
        )


def parse_deb822(text: str) -> Iterator[Source]:
    """Read the enabled binary sources of a `.sources` file."""
    for fields in _paragraphs(text):
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in {"no", "false", "0"}:
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri.rstrip("/"), suite, fields.get("signed-by"))


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """deb822: paragraphs of `Field: value`, continuation lines, comment lines."""
    for block in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = re.findall(r"(?m)^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", block)
        if fields:
            yield {key.lower(): " ".join(value.split()) for key, value in fields}


def parse_one_line(text: str) -> Iterator[Source]:
    """Binary sources of a `.list` file: `deb [options] uri suite components`."""
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[(.*?)\]\s*)?(\S+)\s+(\S+)", line)
        if found:
            words = (found[1] or "").split()
            options = dict(word.split("=", 1) for word in words if "=" in word)
            yield Source(found[2].rstrip("/"), found[3], options.get("signed-by"))


def machine_sources(*, etc: Path = Path("/etc/apt")) -> Iterator[Source]:
    """Every enabled binary source of this machine."""
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix == ".sources":
            yield from parse_deb822(path.read_text())
        elif path.suffix == ".list" and path.is_file():
            yield from parse_one_line(path.read_text())


def mirrors(sources: Iterator[Source], codename: str) -> Mirrors:
    """Pick the archives of the machine's own release out of its sources."""
    main = security = keyring = None
    own = rf"{re.escape(codename)}|stable|oldstable|oldoldstable"
    for source in sources:
        if re.fullmatch(own, source.suite):
            main = main or source.uri
            keyring = keyring or source.keyring
        elif re.fullmatch(rf"({own})(-security|/updates)", source.suite):
            security = security or source.uri
    if main is None:
        raise NoMirrorError(
            f"no apt source for Debian {codename} under /etc/apt: kernels need one"
        )
    if keyring is None or not os.path.isfile(keyring):  # noqa: PTH113 - may be a key
        keyring = DEFAULT_KEYRING
    return Mirrors(main, security, keyring)


def codename(*, os_release: Path = Path("/etc/os-release")) -> str:
    """Tell this machine's Debian release, `bookworm` for one."""
    found = re.search(r'(?m)^VERSION_CODENAME="?([\w-]+)', os_release.read_text())
    if found is None:
        raise NoMirrorError(
            f"{os_release} has no VERSION_CODENAME: is this a Debian release?"
        )
    return found[1]
