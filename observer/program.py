"""A compiled BPF program as plain data, between compiling and loading."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RINGBUF: Final = 27  # enum bpf_map_type
_INSTRUCTION: Final = struct.Struct("<BBhi")
_LD_IMM64: Final = 0x18  # the one instruction of two words
_PSEUDO_MAP_FD: Final = 1  # its source register: the immediate is a map
_MOV_IMMEDIATE: Final = 0xB7  # into a register of 64 bits
_MARK: Final = 0x5EED0000  # larger than any offset in a struct
_MARK_SHIFT: Final = 16


class ProgramError(ValueError):
    """A program can't be fitted to a kernel; the message says why."""


class Map(NamedTuple):
    """A BPF map to be created."""

    name: str
    type: int  # enum bpf_map_type
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class Code(NamedTuple):
    """A BPF program with its map references taken out."""

    instructions: bytes  # 8 bytes each
    maps: tuple[tuple[int, str], ...]  # (byte offset, name of the map) of references
    # (byte offset, name) of values of the kernel that are not in yet
    constants: tuple[tuple[int, str], ...] = ()


class Program(NamedTuple):
    """Everything the loader needs; no compiler is involved any more."""

    maps: tuple[Map, ...]
    codes: dict[str, Code]  # by function name

    def with_constants(self, values: Mapping[str, int]) -> Program:
        """Return the programs with a kernel's values in. Raises ProgramError."""
        codes = {
            name: put_in_constants(code, values) for name, code in self.codes.items()
        }
        return self._replace(codes=codes)

    def with_ring(self, size_bytes: int) -> Program:
        """Return the programs with a ring buffer of this size."""
        maps = (
            each._replace(max_entries=size_bytes) if each.type == RINGBUF else each
            for each in self.maps
        )
        return self._replace(maps=tuple(maps))

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON types."""
        return {
            "maps": [list(m) for m in self.maps],
            "codes": {
                name: [code.instructions.hex(), code.maps, code.constants]
                for name, code in self.codes.items()
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Program:
        """Rebuild what :meth:`as_dict` gave."""
        return cls(
            tuple(Map(*m) for m in data["maps"]),
            {
                name: Code(bytes.fromhex(code), *map(_places, places))
                for name, (code, *places) in data["codes"].items()
            },
        )


def _places(values: list[list[Any]]) -> tuple[tuple[int, str], ...]:
    return tuple((at, name) for at, name in values)


def markers(names: Iterable[str]) -> dict[str, int]:
    """Return a value for each name that no kernel has, to be found in the code."""
    return {name: _MARK + number for number, name in enumerate(sorted(names), 1)}


def take_out_constants(code: Code, marked: Mapping[str, int]) -> Code:
    """Note where these markers are in code that was compiled with them.

    Raises ProgramError when one is in it otherwise than by itself.
    """
    names = {value: name for name, value in marked.items()}
    places = []
    for at, opcode, immediate in _immediates(code.instructions):
        if opcode == _MOV_IMMEDIATE and immediate in names:
            places.append((at, names[immediate]))
        elif _is_marker(immediate):
            raise ProgramError(f"a marker in instruction {at // 8}: {immediate:#x}")
    return code._replace(constants=tuple(places))


def put_in_constants(code: Code, values: Mapping[str, int]) -> Code:
    """Return code with a kernel's values in the places of the markers.

    Raises ProgramError when a value is missing, or a marker is left.
    """
    instructions = bytearray(code.instructions)
    for at, name in code.constants:
        if name not in values:
            raise ProgramError(f"no value for {name}")
        struct.pack_into("<i", instructions, at + 4, values[name])
    left = [at for at, _, number in _immediates(instructions) if _is_marker(number)]
    if left:
        raise ProgramError(f"a marker is left in instruction {left[0] // 8}")
    return Code(bytes(instructions), code.maps)


def _immediates(instructions: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield place, operation and immediate of each instruction, and of second words."""
    for at in range(0, len(instructions), _INSTRUCTION.size):
        opcode, _, _, immediate = _INSTRUCTION.unpack_from(instructions, at)
        yield at, opcode, immediate


def _is_marker(immediate: int) -> bool:
    return immediate >> _MARK_SHIFT == _MARK >> _MARK_SHIFT


def take_out_maps(instructions: bytes, names: dict[int, str]) -> Code:
    """Turn map descriptors in code into names. ``names`` maps descriptor to name."""
    code, refs, at = bytearray(instructions), [], 0
    while at < len(code):
        opcode, registers, _, immediate = _INSTRUCTION.unpack_from(code, at)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            refs.append((at, names[immediate]))
            struct.pack_into("<i", code, at + 4, 0)
        at += 16 if opcode == _LD_IMM64 else 8
    return Code(bytes(code), tuple(refs))


def put_in_maps(code: Code, descriptors: dict[str, int]) -> bytes:
    """Return instructions that refer to maps by these descriptors."""
    instructions = bytearray(code.instructions)
    for at, name in code.maps:
        struct.pack_into("<i", instructions, at + 4, descriptors[name])
    return bytes(instructions)
