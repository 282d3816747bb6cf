"""A vmlinuz: boot stub, compressed part, sections.

Without zstd and lz4, which programs of others unpack.
"""

from __future__ import annotations

import gzip
import lzma
import struct
from typing import TYPE_CHECKING

from fuzz.scratch import SCRATCH
from fuzz.target import Target
from observer.kernel_image import ImageError, btf_of

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = SCRATCH / "vmlinuz"
OF_OTHERS = (b"\x28\xb5\x2f\xfd", b"\x02\x21\x4c\x18")


def run(data: bytes) -> None:
    """Extract its types."""
    if any(magic in data for magic in OF_OTHERS):
        return
    FILE.write_bytes(data)
    btf_of(FILE)


def elf() -> bytes:
    """Return an ELF file whose one section beside the names is .BTF."""
    names, types = b"\0.shstrtab\0.BTF\0", b"\x9f\xeb types"
    head = struct.pack("<6s34xQ10xHHH", b"\x7fELF\x02\x01", 64, 64, 3, 1)
    sections = b"".join(
        struct.pack("<IIQQQQ24x", name, 1, 0, 0, offset, size)
        for name, offset, size in (
            (0, 0, 0),
            (1, 256, len(names)),
            (11, 256 + len(names), len(types)),
        )
    )
    return head + sections + names + types


def image(packed: bytes) -> bytes:
    """Return a bzImage around a compressed part."""
    stub = bytearray(1024)
    stub[0x1F1] = 1
    stub[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", stub, 0x206, 0x20F)
    struct.pack_into("<II", stub, 0x248, 0, len(packed))
    return bytes(stub) + packed


def seeds() -> Iterable[bytes]:
    """Yield the file as it is, and packed in two ways."""
    yield elf()
    yield image(gzip.compress(elf(), mtime=0))
    yield image(lzma.compress(elf(), preset=0))


TARGET = Target(run, (ImageError,), seeds, share=2)
