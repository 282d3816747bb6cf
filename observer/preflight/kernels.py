"""What the prediction is made from: two kernels, and what stays between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from observer.kernel_modules import KernelModules


class Rules(NamedTuple):
    """How a kernel matches, as its type information tells: see observer.layout."""

    layout: str
    semantics: str  # slug
    new_id_rules: str  # slug


class Kernel(NamedTuple):
    """A kernel of this machine, running or not, as far as its files tell."""

    release: str
    modules: KernelModules
    rules: Rules | None  # None: `gaps` has a sentence why not
    config: Mapping[str, str] | None = None  # "CONFIG_SYSFB": "y"; None: not readable
    gaps: tuple[str, ...] = ()  # what could not be learned, a sentence each


def config_of(text: str) -> dict[str, str]:
    """Read a kernel's configuration; options that are not set are left out."""
    return {
        name: value
        for line in text.splitlines()
        if line.startswith("CONFIG_")
        for name, _, value in [line.partition("=")]
    }
