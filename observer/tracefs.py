"""The tracing ring in tracefs: read what boot_args.py recorded there, and free it.

Nothing of anybody else's is touched: where other events or a tracer use the ring, it is
left alone.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from observer import boot_args, kernel
from observer.boot_trace import (
    PAGE_BYTES,
    TraceError,
    TraceEvent,
    events,
    name_of,
    shapes_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from observer.layout import Layout

ROOTS: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
CMDLINE: Final = Path("/proc/cmdline")

_SMALLEST_KB: Final = "1"  # a ring's least size, which the kernel rounds up
_NO_TRACER: Final = "nop"


class TracefsError(Exception):
    """The recording can't be used; the sentence says why and what to do."""


class Recorded(NamedTuple):
    """What the ring held."""

    events: list[TraceEvent]
    hits: Mapping[str, int]  # by the event's name: how often it happened
    tgids: Mapping[int, int]  # process by thread


def is_asked_for(*, cmdline: Path = CMDLINE) -> bool:
    """Tell whether the kernel was told to record decisions at boot."""
    return f":{boot_args.PREFIX}" in kernel.command_line(path=cmdline)


def is_armed(*, roots: Sequence[Path] = ROOTS) -> bool:
    """Tell whether events of ours record now, as far as one may know."""
    with suppress(OSError):
        return any(map(_is_armed, roots))
    return False


def append(path: Path, text: str) -> None:
    """Write a text to a file that has others.

    Opened to be replaced it would lose them; as text Python would seek, which fails.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def take(
    layout: Layout,
    *,
    roots: Sequence[Path] = ROOTS,
    cmdline: Path = CMDLINE,
    write: Callable[[Path, str], None] = append,
) -> Recorded | None:
    """Stop the recording, read it and remove it; None: there is none.

    Raises TracefsError when there is one, or should be one, that can't be used.
    """
    asked, root = is_asked_for(cmdline=cmdline), None
    try:
        root = next(filter(_is_armed, roots), None)
        if root is not None:
            return _Ring(root, write).take(layout)
        mounted = any((root / "kprobe_events").exists() for root in roots)
    except OSError as e:
        if root is None and not asked:
            return None
        raise TracefsError(f"{e.filename or 'tracefs'}: {e.strerror}") from None
    except TraceError as e:
        raise TracefsError(f"the tracing ring can't be understood: {e}") from None
    if not asked:
        return None
    if not mounted:
        raise TracefsError(f"tracefs is not mounted: mount -t tracefs none {roots[0]}")
    raise TracefsError(
        "the events of the kernel command line are not there: an earlier start took "
        "them, or the kernel refused them, which its log then tells"
    )


def _is_armed(root: Path) -> bool:
    try:
        return any(_ours(line) for line in _lines(root / "kprobe_events"))
    except FileNotFoundError:
        return False


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="surrogateescape").splitlines()


def _ours(definition: str) -> bool:
    with suppress(TraceError):
        return name_of(definition)[0].startswith(boot_args.PREFIX)
    return False


class _Ring:
    """The ring of the topmost instance, with events of ours."""

    def __init__(self, root: Path, write: Callable[[Path, str], None]) -> None:
        self._root = root
        self._write = write
        every = _lines(root / "kprobe_events")
        self._definitions = [*filter(_ours, every)]
        self._groups = sorted({name_of(line)[0] for line in self._definitions})
        self._profile = [_ours(line) for line in every]

    def take(self, layout: Layout) -> Recorded:
        """Stop, read, remove; whatever can't be used is removed as well."""
        on = self._enabled()
        for group in self._groups:
            self._write(self._root / "set_event", f"!{group}:*\n")
        others = self._others()
        try:
            if not on:
                raise TracefsError(
                    "the recording of the boot was ended before, so what is in the "
                    "tracing ring may not be all of it"
                )
            if others:
                raise TracefsError(
                    f"the kernel's tracing ring is also used by {others}, so it was "
                    "left alone"
                )
            self._check(layout)
            return self._read()
        finally:
            self._remove()
            if not others:
                self._free()

    def _enabled(self) -> bool:
        groups = tuple(f"{group}:" for group in self._groups)
        return any(event.startswith(groups) for event in self._events_on())

    def _events_on(self) -> list[str]:
        return _lines(self._root / "set_event")

    def _others(self) -> str:
        """Name what else uses the ring."""
        found = self._events_on()
        tracer = (self._root / "current_tracer").read_text().strip()
        if tracer != _NO_TRACER:
            found.append(f"the tracer {tracer}")
        return ", ".join(found)

    def _check(self, layout: Layout) -> None:
        """Refuse what was recorded for another kernel, or by another clock."""
        wanted = boot_args.definitions(layout)
        if self._definitions != wanted:
            raise TracefsError(
                f"the kernel command line has events {', '.join(self._groups)}, not "
                f"{boot_args.group(layout)} of this kernel: they belong to another "
                "kernel image or were cut off; take the words that `pci-observer "
                "boot-args` prints now"
            )
        clock = (self._root / "trace_clock").read_text()
        if f"[{boot_args.CLOCK}]" not in clock:
            raise TracefsError(
                f"the tracing ring's clock is not {boot_args.CLOCK}, so its times mean "
                f"nothing here; trace_clock={boot_args.CLOCK} must be on the kernel "
                "command line"
            )

    def _read(self) -> Recorded:
        shapes = shapes_of(self._definitions, dict(self._formats()))
        found: list[TraceEvent] = []
        for directory in sorted((self._root / "per_cpu").glob("cpu[0-9]*")):
            cpu = int(directory.name.removeprefix("cpu"))
            found += events(_drained(directory / "trace_pipe_raw"), cpu, shapes)
        return Recorded(found, dict(self._hits()), dict(self._tgids()))

    def _formats(self) -> Iterator[tuple[str, str]]:
        for group, name in map(name_of, self._definitions):
            with suppress(FileNotFoundError):
                file = self._root / "events" / group / name / "format"
                yield name, file.read_text()

    def _hits(self) -> Iterator[tuple[str, int]]:
        """Yield how often each event happened; the file has them in the same order."""
        lines = _lines(self._root / "kprobe_profile")
        for line, ours in zip(lines, self._profile, strict=True):
            if ours:
                name, hits, _missed = line.split()
                yield name, int(hits)

    def _tgids(self) -> Iterator[tuple[int, int]]:
        with suppress(FileNotFoundError):
            for line in _lines(self._root / "saved_tgids"):
                pid, tgid = map(int, line.split())
                yield pid, tgid

    def _remove(self) -> None:
        for definition in self._definitions:
            group, name = name_of(definition)
            with suppress(OSError):  # in use elsewhere, and off here
                self._write(self._root / "kprobe_events", f"-:{group}/{name}\n")

    def _free(self) -> None:
        """Give the ring's memory back; no kernel makes it smaller than a few KiB."""
        with suppress(OSError):  # an option of newer kernels
            self._write(self._root / "options/record-tgid", "0\n")
        with suppress(OSError):  # busy: what was read must not be lost over it
            self._write(self._root / "buffer_size_kb", f"{_SMALLEST_KB}\n")


def _drained(path: Path) -> bytes:
    """Read the pages of one CPU's ring, which are gone then."""
    pages = bytearray()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while page := os.read(descriptor, PAGE_BYTES):
            pages += page.ljust(PAGE_BYTES, b"\0")
    except OSError as e:
        # ENODEV: a CPU that could be there and never was has no ring.
        if e.errno not in {errno.EAGAIN, errno.ENODEV}:
            raise
    finally:
        os.close(descriptor)
    return bytes(pages)
