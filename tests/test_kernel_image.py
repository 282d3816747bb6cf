"""observer/kernel_image.py: a kernel's type information without booting it."""

import lzma
import struct
import subprocess
from pathlib import Path

import pytest
from lab.kernels import vmlinuz

from observer.btf import Btf
from observer.kernel_image import ImageError, btf_of, section
from observer.layout import layout_of


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


ELF = elf(b".BTF", b"types")


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
        (ELF[:0x28] + b"\xff" * 8 + ELF[0x30:], "too large"),  # the table's place
        (ELF[:0x3E] + b"\xff" * 2 + ELF[0x40:], "out of range"),  # where the names are
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


def test_no_file(tmp_path: Path) -> None:
    """A file that is not there is the same error, without Python's errno."""
    image = tmp_path / "vmlinuz"
    with pytest.raises(ImageError, match=r"No such file or directory$"):
        btf_of(image)


@pytest.mark.parametrize(
    ("tool", "magic"), [("zstd", b"\x28\xb5\x2f\xfd"), ("lz4", b"\x02\x21\x4c\x18")]
)
def test_a_missing_command_is_named(
    tool: str, magic: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Python has no library and there is no command, the package is named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    image = tmp_path / "vmlinuz"
    image.write_bytes(boot_image(magic + b"packed"))
    with pytest.raises(ImageError, match=rf"install the package {tool}$"):
        btf_of(image)


@pytest.mark.parametrize(
    "command",
    [
        ("gzip",),
        ("xz", "--check=crc32"),
        ("lzma",),
        ("bzip2",),
        ("zstd",),
        ("lz4", "-l"),
    ],
    ids=lambda command: command[0],
)
def test_the_usual_compressions(command: tuple[str, ...], tmp_path: Path) -> None:
    """What the kernel's own build uses is unpacked; the size is appended to most."""
    image = tmp_path / "vmlinuz"
    kernel = elf(b".BTF", b"types" * 1000)
    packed = subprocess.run(
        command, input=kernel, capture_output=True, check=True, timeout=30
    ).stdout
    image.write_bytes(boot_image(packed + struct.pack("<I", len(kernel))))
    assert b"types" * 1000 == btf_of(image)


@pytest.mark.guest  # needs a guest's kernel
@pytest.mark.parametrize(
    ("kernel", "layout"), [("5.10", "L0"), ("6.1", "E"), ("6.12.90", "B"), ("7.3", "D")]
)
def test_debian_kernels(kernel: str, layout: str) -> None:
    """The layout of each is read from its image."""
    assert layout == layout_of(Btf(btf_of(vmlinuz(kernel)))).name
