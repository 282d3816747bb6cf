"""Recordings: decisions in a file, for replay, bug reports and tests.

JSON Lines in ASCII, compressed where the name ends in .gz or .xz; the shape stands in
contracts.md.  Kernel addresses never get into one.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, cast

from observer.appending import Appending
from observer.drivers import Drivers
from observer.fields import FieldError, Fields
from observer.notation import read_record, record_object
from observer.pointers import hide_pointers
from observer.record import Driver, Match, Record, Repeat, Task, Unregister

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

FORMAT = "pci-observer-recording"
VERSION = 1
MAX_VERSION = 0xFFFFFFFF
LINE_BYTES = 8 << 20  # at most; a driver with the longest table has 6.4 million
BATCH = 256  # lines between two flushes
LAST_NS = (1 << 64) - 1  # when the last of many was is not looked up

# A match as a writer of ours spells it, but for what may be in a comm; what comes
# behind it is the same for the same device, inputs and outcome.
_NUMBER = rb"(0|[1-9][0-9]{0,%d})"
_MATCH = re.compile(
    rb'\{"record":"match","ktime_ns":%s,"pid":%s,"tgid":%s,"comm":"([ !#-\[\]-~]*)",'
    rb'"cpu":%s(,"address":.*\n)' % (_NUMBER % 18, *[_NUMBER % 8] * 3)
)


class RecordingError(ValueError):
    """A file is no recording we can read; the message names file, line and field."""


class Header(NamedTuple):
    """Where a recording comes from."""

    release: str  # of the kernel, as uname has it
    machine: str
    layout: dict[str, object]
    semantics: str  # slug


class Writer:
    """Writes one recording; a context manager, to be closed."""

    def __init__(self, path: Path, header: Header) -> None:
        """Create the file, or empty it; nothing gets there before a flush.

        Raises OSError, as `flush` and `close` do. What could not be written waits.
        """
        self._file = _create(path)
        self.can_go_on = isinstance(self._file, Appending)  # after such an error
        self.holding = False  # set it to have `flush` alone write
        self._drivers = Drivers()  # as the reader will know them
        self._lines: list[str] = []
        self._append(
            {
                "format": FORMAT,
                "version": VERSION,
                "kernel": {"release": header.release, "machine": header.machine},
                "layout": header.layout,
                "semantics": header.semantics,
            }
        )

    def write(self, record: Record) -> None:
        """Add a record, and before it the driver of a match unless it stands there.

        Raises OSError if that made it time for a flush.
        """
        if isinstance(record, Match):
            driver = record.inputs.driver
            if driver != self._drivers.find(driver.number, driver.name):
                self._drivers.learn(driver)
                self._append(record_object(_without_pointers(driver)))
        elif isinstance(record, Driver):
            self._drivers.learn(record)
        elif isinstance(record, Unregister):
            self._drivers.forget(record.driver)
        self._append(record_object(_without_pointers(record)))
        if self.waiting >= BATCH and not self.holding:
            self.flush()

    @property
    def waiting(self) -> int:
        """Return how many lines wait for a flush."""
        return len(self._lines)

    def forget(self) -> None:
        """Tell every driver again, for some lines were left out."""
        self._drivers = Drivers()

    def flush(self) -> None:
        """Give all lines to the operating system; .xz keeps some until the end."""
        self._file.write("".join(self._lines).encode("ascii"))
        self._file.flush()
        self._lines = []

    def close(self) -> None:
        """Write what is left and close the file; once more does nothing."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def _append(self, line: dict[str, object]) -> None:
        self._lines.append(json.dumps(line, separators=(",", ":")) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Recording:
    """A recording to read: a header, and records to iterate over once.

    After that `truncated` tells whether the end of the file is missing.
    """

    def __init__(self, path: Path) -> None:
        """Read the header. Raises RecordingError, or OSError."""
        self._path = path
        self._file = _open(path)
        self._lines = enumerate(self._raw_lines(), 1)
        self.truncated = False
        try:
            self.header = self._read_header()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Record]:
        """Yield the records. Raises RecordingError at a line that is none."""
        drivers = Drivers()
        for number, line in self._lines:
            record = self._record(number, line, drivers)
            if record is not None:
                yield record

    def folded(self, repeatable: Callable[[Match], bool]) -> Iterator[Record]:
        """Yield the records, those that repeat a decision as a `Repeat` of it.

        A decision has its device's address here, and only its first time is told.
        `repeatable` says which ones may be folded; their order is lost against others,
        but no driver comes or goes between them. Raises RecordingError, as above.
        """
        drivers, digests = Drivers(), count()
        told: dict[bytes, _Told] = {}  # by all but time and task
        for number, line in self._lines:
            same = _MATCH.fullmatch(line)
            if same is not None and (known := told.get(same[6])) is not None:
                if known.match.digest is None:
                    yield known.match._replace(**_when(same))
                else:
                    known.repeats += 1
                continue
            record = self._record(number, line, drivers)
            if isinstance(record, Match):
                if same is not None and _when(same) == _when_of(record):
                    if repeatable(record):
                        record = record._replace(digest=next(digests))
                    told[same[6]] = _Told(record)
            elif isinstance(record, Driver | Unregister):
                yield from _repeats(told)
                told.clear()
            if record is not None:
                yield record
        yield from _repeats(told)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_header(self) -> Header:
        with self._blaming(1):
            number, line = next(self._lines, (1, b"{}\n"))
            fields = Fields(self._object(number, line))
            if fields.value("format") != FORMAT:
                raise FieldError(f"format: not {FORMAT}")
            if fields.integer("version", MAX_VERSION) > VERSION:
                raise FieldError(f"version: newer than {VERSION}, this program's")
            kernel = fields.nested("kernel")
            return Header(
                kernel.text("release"),
                kernel.text("machine"),
                fields.nested("layout").all,
                fields.text("semantics"),
            )

    def _object(self, number: int, line: bytes) -> object:
        """Return the JSON value of a line; a last one may be cut short, and is {}."""
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            if len(line) == LINE_BYTES:
                raise self._error(number, f"longer than {LINE_BYTES} bytes") from None
            if line.endswith(b"\n"):
                raise self._error(number, "not JSON") from None
            self.truncated = True
            return {}

    def _record(self, number: int, line: bytes, drivers: Drivers) -> Record | None:
        """Return a line's record; None: it has none that we know, or is cut short."""
        value = self._object(number, line)
        if self.truncated:
            return None
        with self._blaming(number):
            return read_record(Fields(value), drivers)

    def _raw_lines(self) -> Iterator[bytes]:
        try:
            # A file of a few KB can have a line of many GB.
            yield from iter(partial(self._file.readline, LINE_BYTES), b"")
        except EOFError:  # of a compressed stream without its end
            self.truncated = True
        except (gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
            raise RecordingError(f"{self._path}: {error}") from None

    @contextmanager
    def _blaming(self, number: int) -> Iterator[None]:
        """Turn a FieldError into a RecordingError that names file and line."""
        try:
            yield
        except FieldError as error:
            raise self._error(number, str(error)) from None

    def _error(self, number: int, problem: str) -> RecordingError:
        return RecordingError(f"{self._path}: line {number}: {problem}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Told:
    """A decision of which all but time and task may come again."""

    match: Match
    repeats: int = 0


def _when(same: re.Match[bytes]) -> dict[str, Any]:
    ktime_ns, pid, tgid, comm, cpu = same.group(1, 2, 3, 4, 5)
    task = Task(int(pid), int(tgid), comm.decode("ascii"), int(cpu))
    return {"ktime_ns": int(ktime_ns), "task": task}


def _when_of(match: Match) -> dict[str, Any]:
    return {"ktime_ns": match.ktime_ns, "task": match.task}


def _repeats(told: dict[bytes, _Told]) -> Iterator[Repeat]:
    for match, repeats in ((each.match, each.repeats) for each in told.values()):
        if repeats and match.digest is not None:
            yield Repeat(match.digest, repeats, match.ktime_ns, LAST_NS)


def _without_pointers(record: Record) -> Record:
    if isinstance(record, Driver) and record.id_table:
        return record._replace(id_table=hide_pointers(record.id_table))
    if isinstance(record, Match) and record.inputs.dynids:
        dynids = hide_pointers(record.inputs.dynids)
        return record._replace(inputs=record.inputs._replace(dynids=dynids))
    return record


def _create(path: Path) -> Appending | IO[bytes]:
    """Create a file as its name says. The compressor of .xz can't take a step back."""
    if path.suffix == ".xz":
        return cast("IO[bytes]", lzma.open(path, "wb"))
    return Appending(path, compress=path.suffix == ".gz")


def _open(path: Path) -> IO[bytes]:
    """Open a file as its name says; reading ends with EOFError where it is cut."""
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    if path.suffix == ".xz":
        return cast("IO[bytes]", lzma.open(path))
    return path.open("rb")
