"""Bytes of the kernel's tracing ring, as `trace_pipe_raw` gives them, to events.

What the fields of an event are is told by its `format` file; where there is none, by
its definition in `kprobe_events`. Any bytes give events or one TraceError. The form of
a page is that of the kernel's ring_buffer.h on 64-bit machines.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PAGE_BYTES: Final = 4096

_PAGE: Final = struct.Struct("<QQ")  # time, and how many bytes are used, with flags
_USED: Final = 0xFFFFF  # of the second
_WORD: Final = struct.Struct("<I")
_PADDING, _TIME_EXTEND, _TIME_STAMP = 29, 30, 31  # values of type_len
_STAMP_BITS: Final = 59  # of an absolute time; what is above is the page's

_FIELD: Final = re.compile(r"\tfield:[^;]* (\w+)(?:\[\w*\])?;\toffset:(\d+);")
_FETCH: Final = re.compile(r"([^=]+)=(.+?)(?::([a-z]+)(\d*)(?:\[(\d+)\])?)?")
_DEFINITION: Final = re.compile(r"([pr])\d*:(\w+)/(\w+)")
_HEAD: Final = (("common_type", 0, "H"), ("common_pid", 4, "i"))
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_MOST: Final = 64  # numbers in an array

Value = int | str | tuple[int, ...] | None


class TraceError(ValueError):
    """These bytes or texts are not what the kernel writes; the message says why."""


class TraceEvent(NamedTuple):
    """One event of the ring."""

    name: str
    ktime_ns: int  # of the ring's clock
    cpu: int
    pid: int  # the thread
    values: Mapping[str, Value]  # None: a text that could not be read

    def number(self, name: str) -> int:
        """Return a number. Raises TraceError when there is none, as all below."""
        value = self.values.get(name)
        if isinstance(value, int):
            return value
        raise TraceError(f"the event {self.name} has no number {name}")

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return an array of numbers."""
        value = self.values.get(name)
        if isinstance(value, tuple):
            return value
        raise TraceError(f"the event {self.name} has no numbers {name}")

    def text(self, name: str) -> str | None:
        """Return a text, None where the kernel could not read it."""
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise TraceError(f"the event {self.name} has no text {name}")


class _Field(NamedTuple):
    name: str
    offset: int
    code: str  # of `struct`; several letters or a number first: an array
    text: bool  # it holds where a text lies, and how long it is


class Shape:
    """Where the fields of one kind of event lie."""

    def __init__(self, name: str, fields: Sequence[_Field]) -> None:
        """Take the fields in the order in which they lie."""
        self.name = name
        self._fields = fields
        form, at = "<", 0
        for field in fields:
            form += f"{field.offset - at}x{field.code}"
            at = field.offset + struct.calcsize(f"<{field.code}")
        self._struct = struct.Struct(form)
        self.offsets = {field.name: field.offset for field in self._fields}

    def read(self, record: bytes) -> dict[str, Value]:
        """Return the values in a record. Raises TraceError when it is too short."""
        if len(record) < self._struct.size:
            raise TraceError(f"{len(record)} bytes are no event {self.name}")
        numbers = iter(self._struct.unpack_from(record))
        values: dict[str, Value] = {}
        for field in self._fields:
            count = int(field.code[:-1] or 1)
            if field.text:
                values[field.name] = _text(record, next(numbers))
            elif count > 1:
                values[field.name] = tuple(next(numbers) for _ in range(count))
            else:
                values[field.name] = next(numbers)
        return values


def name_of(definition: str) -> tuple[str, str]:
    """Return group and name of an event, of its line in `kprobe_events`.

    Raises TraceError.
    """
    found = _DEFINITION.match(definition)
    if found is None:
        raise TraceError(f"{definition!r} defines no event")
    return found[2], found[3]


def shape_of(definition: str) -> Shape:
    """Work out the shape from a line of `kprobe_events`. Raises TraceError.

    Behind what all events have lie the addresses of the probe, then the fields one
    after the other, without padding.
    """
    words = definition.split()
    _, name = name_of(definition)
    fields = [_Field(*field, text=False) for field in _HEAD]
    at = 24 if definition.startswith("r") else 16
    for word in words[2:]:
        found = _FETCH.fullmatch(word)
        if found is None:
            raise TraceError(f"{word!r} fetches nothing")
        field, fetched, kind, bits, array = found.groups()
        is_text = kind == "string" or fetched == "$comm"
        size = 4 if is_text else int(bits or 64) // 8
        count = int(array or 1)
        code = _code(size, count, signed=kind == "s")
        fields.append(_Field(field, at, code, is_text))
        at += size * count
    return Shape(name, fields)


def number_of(file: str, shape: Shape) -> int:
    """Read an event's id from its `format` file, which must confirm the shape.

    Raises TraceError.
    """
    number = re.search(r"(?m)^ID: (\d{1,5})$", file)
    if number is None:
        raise TraceError(f"the format file of the event {shape.name} has no ID")
    offsets = {field: int(offset) for field, offset in _FIELD.findall(file)}
    if not shape.offsets.items() <= offsets.items():
        raise TraceError(f"this kernel lays out the event {shape.name} otherwise")
    return int(number[1])


def shapes_of(
    definitions: Sequence[str], formats: Mapping[str, str]
) -> dict[int, Shape]:
    """Return the shapes of these events by id; `formats` has their files by name.

    Linux 6.1 makes no directory for the first events of the command line, sometimes.
    Events have consecutive ids in the order of their definitions, which those that have
    a format must confirm. Raises TraceError.
    """
    shapes = [shape_of(definition) for definition in definitions]
    firsts = {
        number_of(formats[shape.name], shape) - place
        for place, shape in enumerate(shapes)
        if shape.name in formats
    }
    if len(firsts) != 1:
        raise TraceError("the ids of the events are not in the order of their names")
    return dict(enumerate(shapes, firsts.pop()))


def events(pages: bytes, cpu: int, shapes: Mapping[int, Shape]) -> Iterator[TraceEvent]:
    """Yield the events in the pages of one CPU's ring, oldest first.

    Those of other kinds are left out. Raises TraceError.
    """
    for start in range(0, len(pages), PAGE_BYTES):
        for ktime_ns, record in _records(pages[start : start + PAGE_BYTES]):
            if len(record) < 8:  # noqa: PLR2004 - what all events begin with
                raise TraceError(f"{len(record)} bytes are no event")
            kind, pid = struct.unpack_from("<H2xi", record)
            shape = shapes.get(kind)
            if shape is not None:
                values = shape.read(record)
                yield TraceEvent(shape.name, ktime_ns, cpu, pid, values)


def _records(page: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield time and bytes of each record in a page. Raises TraceError."""
    try:
        ktime_ns, used = _PAGE.unpack_from(page)
        at, end = _PAGE.size, _PAGE.size + (used & _USED)
        if end > len(page):
            raise TraceError(f"a page of {end} bytes in {len(page)} bytes")
        while at < end:
            (word,) = _WORD.unpack_from(page, at)
            length, delta = word & 31, word >> 5
            at += _WORD.size
            if length == _PADDING and not delta:
                return  # up to the end of the page
            if 0 < length < _PADDING:
                ktime_ns += delta
                begin, at = at, at + 4 * length
                yield ktime_ns, _cut(page, begin, at, end)
                continue
            (more,) = _WORD.unpack_from(page, at)
            if length == _TIME_STAMP:
                above = ktime_ns >> _STAMP_BITS << _STAMP_BITS
                ktime_ns = above | (more << 27) + delta
                at += _WORD.size
            elif length == _TIME_EXTEND:
                ktime_ns += (more << 27) + delta
                at += _WORD.size
            else:  # padding or a record, whose length is the next word
                ktime_ns += delta
                begin, at = at + _WORD.size, at + max(more, _WORD.size)
                if not length:
                    yield ktime_ns, _cut(page, begin, at, end)
    except struct.error:
        raise TraceError("a page ends within a record") from None


def _cut(page: bytes, begin: int, at: int, end: int) -> bytes:
    if at > end:
        raise TraceError("a record ends behind its page")
    return page[begin:at]


def _text(record: bytes, place: int) -> str | None:
    """Return a text by where it lies and how long it is, its NUL included."""
    at, length = place & 0xFFFF, place >> 16
    if at + length > len(record):
        raise TraceError("a text ends behind its event")
    if not length:
        return None
    raw = record[at : at + length].partition(b"\0")[0]
    return raw.decode("utf-8", "surrogateescape")


def _code(size: int, count: int, *, signed: bool) -> str:
    """Return the letter of `struct` for a number of so many bytes, or for several."""
    if size not in _CODES or not 0 < count <= _MOST:
        raise TraceError(f"{count} numbers of {size} bytes")
    letter = _CODES[size].lower() if signed else _CODES[size]
    return f"{count}{letter}" if count > 1 else letter
