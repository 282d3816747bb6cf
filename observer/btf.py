"""Read the kernel's own type information (BTF): offsets, sizes, prototypes.

The format is the kernel's Documentation/bpf/btf.rst. Opening a blob notes where each
of its more than 100 thousand types begins and decodes nothing else; a question then
reads only the types on its way. Names are those of the C source.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_LITTLE_ENDIAN: Final = b"\x9f\xeb"  # 0xeb9f
_BIG_ENDIAN: Final = b"\xeb\x9f"

# magic, version, flags, hdr_len, type_off, type_len, str_off, str_len
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")  # name_off, info, size or type
_WORD: Final = struct.Struct("<I")

_INT: Final = 1
_STRUCT: Final = 4
_UNION: Final = 5
_ENUM: Final = 6
_TYPEDEF: Final = 8
_VOLATILE: Final = 9
_CONST: Final = 10
_RESTRICT: Final = 11
_FUNC: Final = 12
_FUNC_PROTO: Final = 13
_FLOAT: Final = 16
_TYPE_TAG: Final = 18
_ENUM64: Final = 19

_AGGREGATES: Final = frozenset({_STRUCT, _UNION})
_SIZED: Final = _AGGREGATES | {_ENUM, _FLOAT, _ENUM64}
_MODIFIERS: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})
_MODIFIERS_IN_A_ROW: Final = 64  # of a sane type; the kernel's have less than 10

# kind: (bytes of a type, bytes of each element that follows it)
_BYTES: Final = {
    _INT: (16, 0),
    2: (12, 0),  # PTR
    3: (24, 0),  # ARRAY
    _STRUCT: (12, 12),
    _UNION: (12, 12),
    _ENUM: (12, 8),
    7: (12, 0),  # FWD
    _TYPEDEF: (12, 0),
    _VOLATILE: (12, 0),
    _CONST: (12, 0),
    _RESTRICT: (12, 0),
    _FUNC: (12, 0),  # its element count is the linkage
    _FUNC_PROTO: (12, 8),
    14: (16, 0),  # VAR
    15: (12, 12),  # DATASEC
    _FLOAT: (12, 0),
    17: (16, 0),  # DECL_TAG
    _TYPE_TAG: (12, 0),
    _ENUM64: (12, 12),
}


def is_btf(data: bytes) -> bool:
    """Tell whether a file that begins with these bytes is meant as BTF."""
    return data[:2] in (_LITTLE_ENDIAN, _BIG_ENDIAN)


class BtfError(Exception):
    """These bytes are no BTF that can be read; the message says why."""


class Member(NamedTuple):
    """A member of a struct or union, found by name."""

    type_id: int
    bit_offset: int  # from the start of the struct asked about
    bitfield_bits: int  # 0: not a bit-field


class _Type(NamedTuple):
    """The fixed part of a type."""

    kind: int
    elements: int  # how many follow
    kind_flag: int
    size_or_type: int
    body: int  # where the elements begin


class Btf:
    """The types of one kernel."""

    def __init__(self, data: bytes) -> None:
        """Check the header of `data` and note where each type begins."""
        self._data: Final = data
        self._types, self._strings = _sections(data)
        self._starts: Final = _starts(data, self._types)
        self._structs: dict[str, int | None] = {}  # that were asked for

    def struct(self, name: str) -> int | None:
        """Find the first struct of that name which has members: its type id."""
        if name not in self._structs:  # a search of megabytes
            found = self._named(name, _STRUCT)
            whole = (type_id for type_id in found if self._type(type_id).elements)
            self._structs[name] = next(whole, None)
        return self._structs[name]

    def function(self, name: str) -> int | None:
        """Find a function, static ones included: its type id."""
        return next(self._named(name, _FUNC), None)

    def parameters(self, function: str) -> int | None:
        """Count the parameters of a function; None if there is no such function."""
        type_id = self.function(function)
        if type_id is None:
            return None
        prototype = self._type(self._type(type_id).size_or_type)
        if prototype.kind != _FUNC_PROTO:
            raise BtfError(f"BTF function {function} has no prototype")
        return prototype.elements

    def size(self, struct: str) -> int | None:
        """Give the bytes a struct takes, padding included."""
        type_id = self.struct(struct)
        return None if type_id is None else self._type(type_id).size_or_type

    def has_member(self, struct: str, *path: str) -> bool:
        """Tell whether `offset` would find this member."""
        return self._find(struct, path) is not None

    def offset(self, struct: str, *path: str) -> int | None:
        """Give the byte offset of a member, or of a member's member and so on.

        Anonymous structs and unions, typedefs and qualifiers on the way are looked
        through, as in C. Pointers and arrays are not.
        """
        found = self._find(struct, path)
        return None if found is None else found.bit_offset // 8

    def bit_offset(self, struct: str, member: str) -> tuple[int, int] | None:
        """Give the bit offset and the width in bits of a bit-field or an integer.

        The width is 0 where BTF tells none, as for pointers and arrays.
        """
        found = self._find(struct, (member,))
        if found is None:
            return None
        if found.bitfield_bits:
            return found.bit_offset, found.bitfield_bits
        resolved = self._type(self._resolve(found.type_id))
        if resolved.kind == _INT:  # before kind_flag, bit-fields had INTs of their own
            (encoding,) = _WORD.unpack_from(self._data, resolved.body)
            return found.bit_offset + (encoding >> 16 & 0xFF), encoding & 0xFF
        bits = resolved.size_or_type * 8 if resolved.kind in _SIZED else 0
        return found.bit_offset, bits

    def member(self, type_id: int, name: str) -> Member | None:
        """Find a member of a struct or union, looking through anonymous ones in it."""
        wanted = name.encode() + b"\0"
        pending, seen = [(type_id, 0)], {type_id}
        while pending:
            outer, base = pending.pop()
            for name_offset, member in self._members(outer, base):
                if self._is(name_offset, wanted):
                    return member
                if not self._is(name_offset, b"\0"):
                    continue
                inner = self._resolve(member.type_id)
                if inner not in seen:
                    seen.add(inner)
                    pending.append((inner, member.bit_offset))
        return None

    def _find(self, struct: str, path: tuple[str, ...]) -> Member | None:
        type_id = self.struct(struct)
        if type_id is None:
            return None
        found = Member(type_id, 0, 0)
        for name in path:
            inner = self.member(self._resolve(found.type_id), name)
            if inner is None:
                return None
            found = inner._replace(bit_offset=found.bit_offset + inner.bit_offset)
        return found

    def _members(self, type_id: int, base: int) -> Iterator[tuple[int, Member]]:
        """Yield name offset and member of an aggregate that begins at bit `base`."""
        outer = self._type(type_id)
        if outer.kind not in _AGGREGATES:
            return
        for at in range(outer.body, outer.body + outer.elements * 12, 12):
            name_offset, member_type, bits = struct.unpack_from("<III", self._data, at)
            width, bits = divmod(bits, 1 << 24) if outer.kind_flag else (0, bits)
            yield name_offset, Member(member_type, base + bits, width)

    def _type(self, type_id: int) -> _Type:
        if not 1 <= type_id <= len(self._starts):
            raise BtfError(f"BTF is corrupt: type id {type_id} of {len(self._starts)}")
        at = self._types.start + _WORD.size * self._starts[type_id - 1]
        _, info, size_or_type = _TYPE.unpack_from(self._data, at)
        kind, elements = _kind_and_count(info)
        return _Type(kind, elements, info >> 31, size_or_type, at + _TYPE.size)

    def _resolve(self, type_id: int) -> int:
        """Find the type behind typedefs and qualifiers; void stays 0."""
        for _ in range(_MODIFIERS_IN_A_ROW):
            if type_id == 0 or (found := self._type(type_id)).kind not in _MODIFIERS:
                return type_id
            type_id = found.size_or_type
        raise BtfError(f"BTF is corrupt: the typedefs at type id {type_id} never end")

    def _named(self, name: str, kind: int) -> Iterator[int]:
        """Yield the ids of the types of a kind that have this name, in order.

        A type begins with its name's offset, so the search is for these four bytes:
        that needs no index and no look at each type.
        """
        for name_offset in self._name_offsets(name):
            for at in _occurrences(self._data, _WORD.pack(name_offset), self._types):
                word, rest = divmod(at - self._types.start, _WORD.size)
                type_id = bisect_right(self._starts, word)
                if rest or type_id == 0 or self._starts[type_id - 1] != word:
                    continue
                if self._type(type_id).kind == kind:
                    yield type_id

    def _name_offsets(self, name: str) -> Iterator[int]:
        wanted = b"\0%s\0" % name.encode()
        for at in _occurrences(self._data, wanted, self._strings):
            yield at + 1 - self._strings.start

    def _is(self, name_offset: int, wanted: bytes) -> bool:
        """Tell whether this string is `wanted`, which ends with its NUL."""
        return self._data.startswith(wanted, self._strings.start + name_offset)


def _sections(data: bytes) -> tuple[range, range]:
    """Find where the types and where the strings lie."""
    if data.startswith(_BIG_ENDIAN):
        raise BtfError("BTF is big-endian; only little-endian kernels can be read")
    if not data.startswith(_LITTLE_ENDIAN):
        raise BtfError(f"not BTF: starts with {data[:2].hex() or 'nothing'}, not 9feb")
    if len(data) < _HEADER.size:
        raise BtfError(f"BTF is cut short: {len(data)} bytes are less than its header")
    _, version, flags, length, *numbers = _HEADER.unpack_from(data)
    if (version, flags) != (1, 0):
        raise BtfError(
            f"BTF has version {version}, flags {flags:#x}; known are 1 and 0"
        )
    type_offset, type_length, string_offset, string_length = numbers
    return (
        _section(data, "type", length + type_offset, type_length),
        _section(data, "string", length + string_offset, string_length),
    )


def _section(data: bytes, name: str, begin: int, length: int) -> range:
    end = begin + length
    if end > len(data):
        raise BtfError(
            f"BTF is cut short: its {name} section ends at {end} of {len(data)}"
        )
    if begin < _HEADER.size:
        raise BtfError(f"BTF is corrupt: its {name} section lies in the header")
    if name == "string" and not (length and data[begin] == data[end - 1] == 0):
        raise BtfError("BTF is corrupt: its strings don't begin and end with NUL")
    return range(begin, end)


class _Sizes(dict[int, int]):
    """How many words a type takes, by its `info`, of which few differ."""

    def __missing__(self, info: int) -> int:
        kind, elements = _kind_and_count(info)
        fixed, each = _BYTES[kind]
        size = self[info] = (fixed + each * elements) // _WORD.size
        return size


def _starts(data: bytes, types: range) -> array[int]:
    """Note in which word each type begins; the one with id 1 comes first."""
    starts = array("I")
    append, sizes = starts.append, _Sizes()  # for 127 thousand rounds
    words = memoryview(data)[types.start : types.stop]
    words = words[: len(words) - len(words) % _WORD.size].cast("I")
    word, end = 0, len(words)
    try:
        while word < end:
            append(word)
            word += sizes[words[word + 1]]
    except KeyError as error:
        raise BtfError(
            f"BTF type id {len(starts)} has the unknown kind {error}"
        ) from None
    except IndexError:
        word = end + 1
    if word != end or len(types) % _WORD.size:
        raise BtfError(f"BTF is corrupt: type id {len(starts)} ends behind its section")
    return starts


def _kind_and_count(info: int) -> tuple[int, int]:
    """Split `info`; its spare bits, 0 in all kernels seen, count as part of each."""
    return info >> 24 & 0x7F, info & 0xFFFFFF


def _occurrences(data: bytes, wanted: bytes, within: range) -> Iterator[int]:
    at = data.find(wanted, within.start, within.stop)
    while at >= 0:
        yield at
        at = data.find(wanted, at + 1, within.stop)
