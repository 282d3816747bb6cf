"""What is otherwise in one picture of a machine than in another.

Devices are compared with themselves: those at the same address, and those whose ids
tell that they are the same ones at another address. Times and findings are no
difference.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from observer import cause
from observer.cause import Pair
from observer.change import Change, Kind
from observer.model.explanation import spelled
from observer.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from observer.change import Value
    from observer.pictured import Pictured, PicturedDevice, PicturedDriver
    from observer.record import Device

    Devices = list[PicturedDevice]
    Same = tuple[PicturedDevice, PicturedDevice]  # in either picture


def difference(before: Pictured, after: Pictured) -> tuple[Change, ...]:
    """Compare two pictures: changes of devices by address, then those of drivers."""
    found: list[Change] = []
    for olds, news in _alike(before, after):
        same, gone, come = _matched(olds, news)
        for old, new in same:
            found += _of_device(Pair(before, after, old, new))
        found += map(_vanished, gone)
        found += map(_appeared, come)
    found.sort(key=lambda change: _place(change.subject))
    return (*found, *_of_drivers(before, after))


def _place(address: str) -> tuple[int, str]:
    """Order addresses as numbers: a domain may have more than four digits."""
    return len(address), address


# Which device is which.


def _alike(before: Pictured, after: Pictured) -> Iterator[tuple[Devices, Devices]]:
    """Yield the devices of either picture that have the same ids, by address."""
    alike: defaultdict[Device, tuple[Devices, Devices]]
    alike = defaultdict(lambda: ([], []))
    for which, picture in enumerate((before, after)):
        for device in picture.devices.values():
            alike[device.ids][which].append(device)
    for olds, news in alike.values():
        olds.sort(key=lambda device: _place(device.address))
        news.sort(key=lambda device: _place(device.address))
        yield olds, news


def _matched(olds: Devices, news: Devices) -> tuple[list[Same], Devices, Devices]:
    """Match devices with the same ids; return those that vanished and appeared, too.

    As many as before are matched those first that kept their address, or all in the
    order of address if that leaves less changed. Of more or fewer than before nobody
    can tell which is at another address.
    """
    there = {old.address for old in olds} & {new.address for new in news}
    gone = [old for old in olds if old.address not in there]
    come = [new for new in news if new.address not in there]
    kept = [
        *zip(
            (old for old in olds if old.address in there),
            (new for new in news if new.address in there),
            strict=True,
        )
    ]
    if len(gone) != len(come):
        return kept, gone, come
    by_address = [*kept, *zip(gone, come, strict=True)]
    in_order = [*zip(olds, news, strict=True)]
    return min(by_address, in_order, key=_changed), [], []


def _changed(matched: Iterable[Same]) -> int:
    """Count what is otherwise about the bindings."""
    return sum(
        (old.driver != new.driver) + (old.driver_override != new.driver_override)
        for old, new in matched
    )


# What is otherwise.


def _vanished(old: PicturedDevice) -> Change:
    why = cause.of_presence(old)
    return Change(Kind.VANISHED, None, old.address, None, old.driver, None, why)


def _appeared(new: PicturedDevice) -> Change:
    why = cause.of_presence(new)
    return Change(Kind.APPEARED, new.address, None, None, None, new.driver, why)


def _of_device(pair: Pair) -> Iterator[Change]:
    old, new = pair.old, pair.new
    if old.address != new.address:
        yield _change(pair, Kind.MOVED, old.address, new.address, "told by its ids")
    if old.driver != new.driver:
        kind = _kind_of_driver(old.driver, new.driver)
        yield _change(pair, kind, old.driver, new.driver, cause.of_driver(pair))
    if old.driver_override == new.driver_override:
        yield from _of_candidates(pair)
    else:  # others match only because of it
        told = cause.of_override(pair)
        kind = _kind_of_override(old.driver_override, new.driver_override)
        yield _change(pair, kind, old.driver_override, new.driver_override, told)


def _of_candidates(pair: Pair) -> Iterator[Change]:
    """Compare the drivers that match in one picture and are known not to in another."""
    if not (pair.before.drivers and pair.after.drivers):
        return
    old, new = pair.old, pair.new
    olds = tuple(name for name in old.candidates if name not in new.possible)
    news = tuple(name for name in new.candidates if name not in old.possible)
    gone = [name for name in olds if name not in news]
    come = [name for name in news if name not in olds]
    if gone or come:
        told = cause.of_candidates(pair, gone, come)
        yield _change(pair, Kind.CANDIDATES_CHANGED, olds, news, told)
    then = tuple(name for name in old.candidates if name in new.candidates)
    now = tuple(name for name in new.candidates if name in old.candidates)
    if then != now and pair.before.order_known and pair.after.order_known:
        told = cause.of_order(pair, then, now)
        yield _change(pair, Kind.ORDER_FLIPPED, then, now, told)


def _change(pair: Pair, kind: Kind, before: Value, after: Value, told: str) -> Change:
    here, there = pair.new.address, pair.old.address
    return Change(kind, here, there, None, before, after, told)


def _kind_of_driver(old: str | None, new: str | None) -> Kind:
    if new is None:
        return Kind.DRIVER_LOST
    return Kind.DRIVER_GAINED if old is None else Kind.DRIVER_CHANGED


def _kind_of_override(old: str | None, new: str | None) -> Kind:
    if new is None:
        return Kind.OVERRIDE_LOST
    return Kind.OVERRIDE_SET if old is None else Kind.OVERRIDE_CHANGED


def _of_drivers(before: Pictured, after: Pictured) -> Iterator[Change]:
    """Compare the drivers that were registered both times."""
    for name in sorted(before.drivers.keys() & after.drivers.keys()):
        old, new = before.drivers[name], after.drivers[name]
        for kind, then, now, told in (*_of_module(old, new), *_of_dynids(old, new)):
            devices = _concerned(name, before, after)
            yield Change(kind, None, None, name, then, now, told, devices)


def _of_module(
    old: PicturedDriver, new: PicturedDriver
) -> Iterator[tuple[Kind, Value, Value, str]]:
    if old.built_in is False and new.built_in:
        yield Kind.BUILT_IN, old.module, None, cause.of_built_in(new.name)
    if old.built_in and new.built_in is False:
        yield Kind.MODULAR, None, new.module, f"{quoted(new.name)} is a module now"


def _of_dynids(
    old: PicturedDriver, new: PicturedDriver
) -> Iterator[tuple[Kind, Value, Value, str]]:
    if old.dynids is None or new.dynids is None:
        return
    then, now = (tuple(map(spelled, dynids)) for dynids in (old.dynids, new.dynids))
    if then != now:
        yield Kind.DYNIDS_CHANGED, then, now, ""


def _concerned(name: str, *pictures: Pictured) -> tuple[str, ...]:
    """Name the devices that the driver has, or could have."""
    found = {
        device.address
        for picture in pictures
        for device in picture.devices.values()
        if name == device.driver or name in device.candidates
    }
    return tuple(sorted(found, key=_place))
