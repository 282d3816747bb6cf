"""The type information inside a kernel's image, without booting it.

A `vmlinuz` is a boot stub around a compressed ELF file. The stub's header says where
the compressed part lies (the x86 boot protocol, 2.08 and later).
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import struct
import subprocess
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SETUP_SECTS: Final = 0x1F1  # u8, in sectors of 512 bytes; 0 stands for 4
_HEADER_MAGIC: Final = 0x202  # "HdrS"
_PROTOCOL_VERSION: Final = 0x206  # u16
_PAYLOAD_OFFSET: Final = 0x248  # u32 offset, then u32 length
_PAYLOAD_FIELDS: Final = 0x208  # the first protocol that has them
_SIZE_TRAILER: Final = 4  # the kernel's build appends the unpacked size, mostly


class ImageError(Exception):
    """No kernel image that can be read; the message says which file and why."""


# What numbers that lead out of the file, and a damaged stream, end in.
_BAD: Final = (
    *(ImageError, ValueError, IndexError, OverflowError),
    *(struct.error, lzma.LZMAError, zlib.error),
)


def btf_of(vmlinuz: Path) -> bytes:
    """Extract the raw .BTF section of a kernel image, compressed or not.

    Raises ImageError, also where the file can't be read.
    """
    try:
        image = vmlinuz.read_bytes()
        elf = image if image.startswith(b"\x7fELF") else unpack(payload(image))
        return section(elf, b".BTF")
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{vmlinuz}: {reason}") from error
    except _BAD as error:
        raise ImageError(f"{vmlinuz}: {error}") from error


def payload(image: bytes) -> bytes:
    """Cut the compressed kernel out of a bzImage."""
    if image[_HEADER_MAGIC : _HEADER_MAGIC + 4] != b"HdrS":
        raise ImageError("not a Linux x86 boot image (no HdrS)")
    (protocol,) = struct.unpack_from("<H", image, _PROTOCOL_VERSION)
    if protocol < _PAYLOAD_FIELDS:
        raise ImageError(
            f"boot protocol {protocol:#x} is older than 2.08: no payload fields"
        )
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_OFFSET)
    start = ((image[_SETUP_SECTS] or 4) + 1) * 512 + offset
    if length == 0 or start + length > len(image):
        raise ImageError("truncated: the payload ends behind the end of the file")
    return image[start : start + length]


def unpack(packed: bytes) -> bytes:
    """Decompress a payload, whichever of the kernel's compressors made it."""
    for magic, decompress in _DECOMPRESSORS:
        if packed.startswith(magic):
            return decompress(packed)
    raise ImageError(f"unknown kernel compression, starts with {packed[:6].hex()}")


def _gunzip(packed: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(packed)


def _unxz(packed: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(packed)


def _unlzma(packed: bytes) -> bytes:
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(packed)


def _bunzip2(packed: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(packed)


def _unzstd(packed: bytes) -> bytes:
    return _pipe("zstd", packed)


def _unlz4(packed: bytes) -> bytes:
    return _pipe("lz4", packed)


def _pipe(tool: str, packed: bytes) -> bytes:
    """Decompress with a command, for what Python 3.11 has no library."""
    if shutil.which(tool) is None:
        raise ImageError(f"compressed with {tool}: install the package {tool}")
    command = [tool, "-dc"]
    done = subprocess.run(
        command, input=packed[:-_SIZE_TRAILER], capture_output=True, check=False
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise ImageError(f"{tool} failed: {reason}")
    return done.stdout


_DECOMPRESSORS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"\x1f\x8b", _gunzip),
    (b"\xfd7zXZ\x00", _unxz),
    (b"\x28\xb5\x2f\xfd", _unzstd),
    (b"\x02\x21\x4c\x18", _unlz4),
    (b"\x5d\x00\x00", _unlzma),
    (b"BZh", _bunzip2),
)


def section(elf: bytes, wanted: bytes) -> bytes:
    """Find the contents of a section of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise ImageError("the unpacked kernel is not a 64-bit little-endian ELF file")
    for name, offset, size in _sections(elf):
        if name == wanted:
            if offset + size > len(elf):
                raise ImageError(f"section {wanted.decode()} is truncated")
            return elf[offset : offset + size]
    raise ImageError(
        f"no {wanted.decode()} section: built without CONFIG_DEBUG_INFO_BTF"
    )


def _sections(elf: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, file offset and size of every section."""
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    entry_size, count, names_index = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [
        struct.unpack_from("<IIQQQQ", elf, table + i * entry_size) for i in range(count)
    ]
    if not headers:
        return
    names = headers[names_index][4]
    for name, _type, _flags, _address, offset, size in headers:
        start = names + name
        yield elf[start : elf.index(b"\0", start)], offset, size
