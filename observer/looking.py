"""Look at sysfs in a thread of its own, for a look can take minutes.

Up to Linux 7.0 the kernel shows a driver_override under the device's lock, which a
probe holds; the ring must be read meanwhile.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from observer import sysfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from observer.machine import PciDevice


class Look(NamedTuple):
    """What sysfs showed."""

    began_ns: int  # CLOCK_MONOTONIC: nothing here is older
    whole: bool  # all devices and drivers; else some devices
    devices: Mapping[str, PciDevice | None]  # by address; None: it is gone
    drivers: Mapping[str, str | None]  # module by name; None: built in
    drivers_autoprobe: bool | None
    gaps: tuple[str, ...]

    def devices_there(self) -> dict[str, PciDevice]:
        """Return the devices without those that are gone."""
        return {a: device for a, device in self.devices.items() if device}


def look() -> Look:
    """Look at all devices and drivers."""
    began_ns = monotonic_ns()
    devices, gaps = sysfs.devices()
    return Look(
        began_ns, True, devices, sysfs.drivers(), sysfs.drivers_autoprobe(), gaps
    )


def look_at(addresses: Iterable[str]) -> Look:
    """Look at these devices alone."""
    began_ns = monotonic_ns()
    gaps: list[str] = []
    devices = {address: sysfs.device(address, gaps=gaps) for address in addresses}
    return Look(began_ns, False, devices, {}, None, tuple(gaps))


class Looker:
    """Looks when asked; the answers are fetched without waiting."""

    def __init__(
        self,
        *,
        whole: Callable[[], Look] = look,
        some: Callable[[Iterable[str]], Look] = look_at,
    ) -> None:
        """Look by these functions; nothing runs before `start`."""
        self._whole = whole
        self._some = some
        self._wanted: SimpleQueue[frozenset[str] | None] = SimpleQueue()
        self._seen: SimpleQueue[Look] = SimpleQueue()
        self._asked = self._answered = 0

    def start(self) -> None:
        """Start the thread; it ends with the process."""
        Thread(target=self._run, name="looker", daemon=True).start()

    def ask(self, addresses: frozenset[str] | None = None) -> None:
        """Ask for a look at these devices, by default at everything."""
        self._asked += 1
        self._wanted.put(addresses)

    def busy(self) -> bool:
        """Say whether an answer is still to come."""
        return self._asked > self._answered

    def wait(self, timeout_seconds: float) -> Look | None:
        """Return the next look; None: it takes longer than that."""
        try:
            look = self._seen.get(timeout=timeout_seconds)
        except Empty:
            return None
        self._answered += 1
        return look

    def answers(self) -> list[Look]:
        """Return the looks since the last call."""
        looks = []
        while True:
            try:
                looks.append(self._seen.get_nowait())
            except Empty:
                self._answered += len(looks)
                return looks

    def _run(self) -> None:
        while True:
            addresses = self._wanted.get()
            try:
                seen = self._whole() if addresses is None else self._some(addresses)
            except Exception as error:  # noqa: BLE001 - whoever asked must hear of it
                gap = f"Sysfs could not be read: {error!r}."
                seen = Look(monotonic_ns(), False, {}, {}, None, (gap,))
            self._seen.put(seen)
