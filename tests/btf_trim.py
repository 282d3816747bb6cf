#!/usr/bin/env python3
"""Cut a kernel's BTF down to a fixture: the types we ask about, and no others.

    btf_trim.py DIRECTORY FILE...     write DIRECTORY/<release>.btf of each FILE

FILE is a `vmlinuz-<release>`, or raw BTF named so.  Members keep their names, offsets
and sizes; a pointer to a type that isn't kept becomes a `void *`.  This reads BTF with
code of its own, so that it can serve as a second opinion in tests.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from observer.btf import Btf
from observer.kernel_image import btf_of
from observer.layout import layout_of

if TYPE_CHECKING:
    from collections.abc import Collection

# More than layout.py asks for: those who walk kernel memory test on the same files.
STRUCTS = [
    *("pci_driver", "pci_dev", "pci_device_id", "pci_dynid", "pci_dynids"),
    *("device", "device_driver", "bus_type", "kobject"),
    *("list_head", "klist", "klist_node", "kset", "module"),
    *("subsys_private", "driver_private", "device_private"),
    *("attribute", "attribute_group", "driver_attribute", "device_attribute"),
]
FUNCTIONS = [
    *("pci_match_device", "pci_bus_match", "pci_device_probe", "pci_match_id"),
    *("__driver_probe_device", "driver_probe_device", "really_probe"),
    *("pci_add_dynid", "do_pci_add_dynid", "device_driver_attach"),
    *("__pci_register_driver", "pci_unregister_driver"),
    *("new_id_store", "remove_id_store", "driver_override_store"),
]

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FUNC, FUNC_PROTO = 1, 2, 3, 4, 5, 6, 12, 13
MODIFIERS = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
ENUM64 = 19
EXTRA = {INT: 4, ARRAY: 12, 14: 4, 17: 4}
EACH = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, 15: 12, ENUM64: 12}


class Type(NamedTuple):
    """A type as BTF stores it, its name spelled out."""

    name: str
    info: int
    value: int  # size, or the id of another type
    body: bytes

    @property
    def kind(self) -> int:
        """What kind of type this is."""
        return self.info >> 24 & 31


class Reader:
    """The types of a blob, by id."""

    def __init__(self, data: bytes) -> None:
        """Find all types in `data`."""
        header = struct.unpack_from("<HBBIIIII", data)
        length, types, types_length, strings = header[3:7]
        self.data, self.strings = data, length + strings
        self.spans = [(0, 0)]  # void
        at = length + types
        while at < length + types + types_length:
            (info,) = struct.unpack_from("<I", data, at + 4)
            kind = info >> 24 & 31
            size = 12 + EXTRA.get(kind, 0) + EACH.get(kind, 0) * (info & 0xFFFF)
            self.spans.append((at, size))
            at += size

    def text(self, offset: int) -> str:
        """Read the string at an offset."""
        begin = self.strings + offset
        return self.data[begin : self.data.index(b"\0", begin)].decode()

    def __getitem__(self, type_id: int) -> Type:
        at, size = self.spans[type_id]
        name, info, value = struct.unpack_from("<III", self.data, at)
        return Type(self.text(name), info, value, self.data[at + 12 : at + size])

    def find(self, kind: int, names: Collection[str]) -> list[int]:
        """List the types of a kind that have one of these names."""
        wanted = (type_id for type_id in range(1, len(self.spans)))
        return [i for i in wanted if self._kind(i) == kind and self[i].name in names]

    def _kind(self, type_id: int) -> int:
        return self.data[self.spans[type_id][0] + 7] & 31


class Trimmer:
    """The types of a blob on their way into a smaller one."""

    def __init__(self, source: Reader, structs: Collection[str]) -> None:
        """Keep the members of `structs` only."""
        self.source, self.structs = source, structs
        self.ids: dict[object, int] = {0: 0}  # old id, or "void *": new id
        self.types: list[Type] = []
        self.strings = {"": 0}
        self.text = b"\0"

    def keep(self, old: int) -> int:
        """Give the new id of a type, taking it and what it needs along."""
        found = self.source[old] if old else None
        key: object = old
        if found and found.kind == PTR and not self._points_to_kept(found):
            key, found = "void *", found._replace(value=0)
        if key not in self.ids:
            assert found is not None
            self.types.append(found)
            self.ids[key] = new = len(self.types)
            self.types[new - 1] = self._cut(found)
        return self.ids[key]

    def _points_to_kept(self, pointer: Type) -> bool:
        target = pointer
        while target.value and target.kind in MODIFIERS | {PTR}:
            target = self.source[target.value]
            if target.kind == PTR:
                return False
        return target.kind == STRUCT and target.name in self.structs

    def _cut(self, found: Type) -> Type:
        if found.kind in MODIFIERS | {PTR, FUNC}:
            return found._replace(value=self.keep(found.value))
        if found.kind == FUNC_PROTO:
            body = self._renumber(found.body, "<II", text=0, kept=1)
            return found._replace(value=self.keep(found.value), body=body)
        if found.kind == ARRAY:
            element, index, length = struct.unpack("<III", found.body)
            body = struct.pack("<III", self.keep(element), self.keep(index), length)
            return found._replace(body=body)
        if found.kind in {STRUCT, UNION} and found.name in {"", *self.structs}:
            return found._replace(
                body=self._renumber(found.body, "<III", text=0, kept=1)
            )
        if found.kind in {STRUCT, UNION, ENUM, ENUM64}:  # of use for its size alone
            return found._replace(info=found.info & ~0xFFFF, body=b"")
        return found

    def _renumber(self, body: bytes, form: str, *, text: int, kept: int) -> bytes:
        out = b""
        for element in struct.iter_unpack(form, body):
            numbers = list(element)
            numbers[text] = self._string(self.source.text(numbers[text]))
            numbers[kept] = self.keep(numbers[kept])
            out += struct.pack(form, *numbers)
        return out

    def _string(self, text: str) -> int:
        if text not in self.strings:
            self.strings[text] = len(self.text)
            self.text += text.encode() + b"\0"
        return self.strings[text]

    def blob(self) -> bytes:
        """Write everything kept so far as BTF."""
        types = b"".join(
            struct.pack("<III", self._string(t.name), t.info, t.value) + t.body
            for t in self.types
        )
        sections = 0, len(types), len(types), len(self.text)
        return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, *sections) + types + self.text


def trim(data: bytes, structs: Collection[str], functions: Collection[str]) -> bytes:
    """Make a BTF blob of these structs and functions alone."""
    source = Reader(data)
    trimmer = Trimmer(source, structs)
    for old in source.find(STRUCT, structs) + source.find(FUNC, functions):
        trimmer.keep(old)
    return trimmer.blob()


def main(directory: str, *files: str) -> None:
    """Run the command line."""
    for file in map(Path, files):
        data = file.read_bytes()
        full = data if data.startswith(b"\x9f\xeb") else btf_of(file)
        trimmed = trim(full, STRUCTS, FUNCTIONS)
        if layout_of(Btf(full)) != layout_of(Btf(trimmed)):
            sys.exit(f"{file}: the layout changed on the way")
        out = Path(directory) / f"{file.name.removeprefix('vmlinuz-')}.btf"
        out.write_bytes(trimmed)
        print(out, len(trimmed), layout_of(Btf(trimmed)).name)


if __name__ == "__main__":
    main(*sys.argv[1:])
