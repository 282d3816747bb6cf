"""What of a machine's configuration would no longer apply, whatever the devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.module_names import module_name
from observer.preflight.shape import Change, Kind, Note
from observer.text import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.preflight.view import View


def configuration(view: View) -> Iterator[Change | Note]:
    """Yield what is wrong with lists and files under the kernel to be booted."""
    yield from _options(view)
    yield from _blacklists(view)
    yield from _boot_lists(view)
    yield from _modprobe_d(view)


def _becomes_built_in(view: View, module: str) -> bool:
    return (
        module in view.there.modules.built_in
        and module not in view.here.modules.built_in
        and _is_pci(view, module)
    )


def _is_pci(view: View, module: str) -> bool:
    """Tell whether a module drives PCI devices, by aliases or as it is registered."""
    return bool(
        view.names.drivers(module)
        or view.here.modules.aliases.ids(module)
        or view.there.modules.aliases.ids(module)
        or module in {"vfio_pci", "pci_stub"}
    )


def _options(view: View) -> Iterator[Change]:
    """Tell what is set in files for a module that is going to be built in."""
    found: dict[str, tuple[str, dict[str, str]]] = {}  # by module: as written, places
    given = [
        (line.module, word, line.path)
        for line in view.config.modprobe_d.lines
        if line.directive == "options"
        for word in line.words
    ] + [
        (each.name, word, each.place)
        for each in view.config.named
        for word in each.parameters.split()
    ]
    for name, word, place in given:
        module, parameter = module_name(name), word.partition("=")[0]
        on_command_line = dict(view.config.on_command_line(module))
        if _becomes_built_in(view, module) and (
            module_name(parameter) not in on_command_line
        ):
            found.setdefault(module, (name, {}))[1].setdefault(parameter, place)
    for name, places in found.values():
        instead = ", ".join(quoted(f"{name}.{each}") + "=" for each in places)
        text = (
            f"{quoted(name)} is built in in the target kernel; modprobe.d options do "
            f"not apply; use {instead} on the command line"
        )
        yield Change(Kind.BUILT_IN, None, f"{text} ({_places(places.values())})")


def _blacklists(view: View) -> Iterator[Change]:
    for module, place in view.config.modprobe_d.blacklist.items():
        if _becomes_built_in(view, module):
            yield Change(
                Kind.BUILT_IN,
                None,
                f"{quoted(module)} is built in in the target kernel; its blacklist in "
                f"{printable(place)} does not apply",
            )


def _boot_lists(view: View) -> Iterator[Change | Note]:
    places: dict[str, list[str]] = {}
    for each in view.config.named:
        places.setdefault(module_name(each.name), []).append(each.place)
    yield from _gone(view, places, "initramfs or modules-load names")


def _modprobe_d(view: View) -> Iterator[Change | Note]:
    """Tell names in lines that have an effect; a blacklist of what is gone has none."""
    places: dict[str, list[str]] = {}
    for line in view.config.modprobe_d.lines:
        names = [line.module] if line.directive == "options" else []
        if line.directive == "softdep":
            names = [line.module, *line.words]
        for name in names:
            if not name.endswith(":"):
                places.setdefault(module_name(name), []).append(line.path)
    yield from (
        each
        for each in _gone(view, places, "modprobe.d names")
        if isinstance(each, Change)
    )


def _gone(
    view: View, places: dict[str, list[str]], who: str
) -> Iterator[Change | Note]:
    for name, where in places.items():
        if view.there.modules.knows(name):
            continue
        text = f"{who} {quoted(name)}, absent from the target kernel ({_places(where)})"
        if view.here.modules.knows(name) or not view.here.modules.known:
            yield Change(Kind.NAME_GONE, None, text)
        else:
            yield Note(None, f"{text}; it is absent from the running kernel as well")


def _places(places: Iterable[str]) -> str:
    return ", ".join(map(printable, dict.fromkeys(places)))
