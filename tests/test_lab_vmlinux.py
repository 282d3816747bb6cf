"""The lab's reading of kernel images: type information without booting."""

import lzma
import struct
from pathlib import Path

import pytest
from lab.vmlinux import ImageError, btf_of, section


def elf(name: bytes, contents: bytes) -> bytes:
    """Make the smallest ELF file with one named section."""
    names = b"\0" + name + b"\0.shstrtab\0"
    body = contents + names
    table = 64 + len(body)
    header = b"\x7fELF\x02\x01\x01".ljust(0x28, b"\0")
    header += struct.pack("<QIHHHHHH", table, 0, 64, 0, 0, 64, 3, 2)
    sections = [(0, 0, 0), (1, 64, len(contents)), (0, 64 + len(contents), len(names))]
    rows = [
        struct.pack("<IIQQQQ", name_at, 1, 0, 0, offset, size).ljust(64, b"\0")
        for name_at, offset, size in sections
    ]
    return header + body + b"".join(rows)


def boot_image(payload: bytes) -> bytes:
    """Make the smallest bzImage around a payload."""
    image = bytearray(1024)
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = struct.pack("<H", 0x20F)
    image[0x248:0x250] = struct.pack("<II", 0, len(payload))
    return bytes(image) + payload


def test_btf_comes_out_of_a_compressed_image(tmp_path: Path) -> None:
    """The payload is found, unpacked in spite of its size trailer, and cut."""
    image = tmp_path / "vmlinuz"
    packed = lzma.compress(elf(b".BTF", b"types")) + struct.pack("<I", 5)
    image.write_bytes(boot_image(packed))

    assert b"types" == btf_of(image)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "not a Linux x86 boot image"),
        (boot_image(b"unknown"), "unknown kernel compression"),
        (boot_image(b"\xfd7zXZ\x00" + b"rubbish " * 4), r"Corrupt|not supported"),
        (boot_image(b"x" * 64)[:-8], "truncated"),
        (boot_image(lzma.compress(b"no elf")), "not a 64-bit"),
        (boot_image(lzma.compress(elf(b".text", b""))), "no .BTF section"),
    ],
)
def test_what_is_no_kernel_image_is_named(
    contents: bytes, reason: str, tmp_path: Path
) -> None:
    """Every kind of unreadable image is one error with the file's name and a reason."""
    image = tmp_path / "vmlinuz"
    image.write_bytes(contents)

    with pytest.raises(ImageError, match=reason) as caught:
        btf_of(image)
    assert str(caught.value).startswith(str(image))


def test_section_takes_the_named_one() -> None:
    """A section's name decides, not its place."""
    assert b"abc" == section(elf(b".BTF", b"abc"), b".BTF")
