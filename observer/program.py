"""A compiled BPF program as plain data, between compiling and loading."""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

_INSTRUCTION: Final = struct.Struct("<BBhi")
_LD_IMM64: Final = 0x18  # the one instruction of two words
_PSEUDO_MAP_FD: Final = 1  # its source register: the immediate is a map


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


class Program(NamedTuple):
    """Everything the loader needs; no compiler is involved any more."""

    maps: tuple[Map, ...]
    codes: dict[str, Code]  # by function name

    def as_dict(self) -> dict[str, Any]:
        """Return the same as JSON types."""
        return {
            "maps": [list(m) for m in self.maps],
            "codes": {
                name: [code.instructions.hex(), [list(ref) for ref in code.maps]]
                for name, code in self.codes.items()
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Program:
        """Rebuild what :meth:`as_dict` gave."""
        return cls(
            tuple(Map(*m) for m in data["maps"]),
            {
                name: Code(bytes.fromhex(code), tuple((at, ref) for at, ref in refs))
                for name, (code, refs) in data["codes"].items()
            },
        )


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
