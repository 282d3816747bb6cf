"""Debian's kernel releases: what their names mean and which one fits a wish."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

PACKAGE = re.compile(r"linux-image-(\d[\w.+~-]*?-amd64)$")
OTHER_FLAVOURS = re.compile(r"-(cloud|rt)-amd64$")


@dataclass(frozen=True)
class Image:
    """A kernel that can be fetched whole."""

    release: str  # uname -r
    version: str  # of the package
    split: bool = False  # in three packages, Debian's way from 6.19 on

    @property
    def upstream(self) -> str:
        """Linus's or the stable tree's version: `6.1.192` of 6.1.0-56-amd64."""
        found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", self.version)
        return found[1] if found else ""

    @property
    def package(self) -> str:
        """The package that has it, or that names it where it is split."""
        return f"linux-image-{self.release}"

    def fits(self, wanted: str) -> bool:
        """Whether this is WANTED: a series, a version, or an exact release."""
        return wanted in {self.release, self.upstream} or (
            bool(wanted) and self.upstream.startswith(f"{wanted}.")
        )

    @property
    def of_debian_12(self) -> bool:
        """Whether it was built for Debian 12 itself or its backports."""
        if "deb" in self.release:
            return "deb12" in self.release
        return "deb" not in self.version or "deb12" in self.version


def split_packages(release: str) -> list[str]:
    """Where a kernel lives from 6.19 on; before, all is in linux-image-RELEASE."""
    return [f"linux-{part}-{release}" for part in ("binary", "modules", "base")]


def release_of(package: str) -> str | None:
    """Tell a package's kernel release; None for meta packages and flavours."""
    found = PACKAGE.fullmatch(package)
    if found is None or OTHER_FLAVOURS.search(package):
        return None
    return found[1] if re.match(r"\d+\.\d+\.\d+", found[1]) else None


def natural(text: str) -> list[tuple[int, int, str]]:
    """Make a sorting key that puts 6.12 behind 6.9."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(x), "") if x.isdigit() else (1, 0, x) for x in parts]


def resolve(wanted: str, images: Mapping[str, Image]) -> str | None:
    """Choose what WANTED means: the newest that fits, Debian 12's own first."""
    if wanted in images:
        return wanted
    fitting = [image for image in images.values() if image.fits(wanted)]
    return max(fitting, key=_preference).release if fitting else None


def _preference(image: Image) -> tuple[list[int], bool, list[tuple[int, int, str]]]:
    upstream = [int(number) for number in image.upstream.split(".")]
    return upstream, image.of_debian_12, natural(image.version)
