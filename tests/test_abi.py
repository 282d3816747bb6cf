"""bpf/record.h and observer/abi.py say the same: the header is compiled and asked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from observer import abi

if TYPE_CHECKING:
    from struct import Struct

HEADER = Path(__file__).resolve().parents[1] / "bpf" / "record.h"

HEAD = ["head.kind", "head.size", "head.cpu", "head.driver", "head.ktime_ns"]
TASK = ["task.pid", "task.tgid", "task.comm[0]", "address[0]"]
IDS = ["vendor", "device", "subvendor", "subdevice", "class"]
ID = [*IDS, "class_mask"]
FIELDS: dict[str, tuple[Struct, list[str]]] = {
    "rec_head": (abi.HEAD, [field.removeprefix("head.") for field in HEAD]),
    "rec_id": (abi.ID, ID),
    "rec_entry": (
        abi.ENTRY,
        [*(f"id.{field}" for field in ID), "driver_data", "override_only"],
    ),
    "rec_driver": (
        abi.DRIVER,
        [*HEAD, "first", "count", "end", "flags", "name[0]"],
    ),
    "rec_match": (
        abi.MATCH,
        [
            *(*HEAD, *TASK, *IDS, "index", "source", "flags"),
            *("dynids", "name_size", "override_size", "digest"),
        ],
    ),
    "rec_probe": (
        abi.PROBE,
        [*HEAD, *TASK, "ret", "duration_ns", "path", "flags", "name[0]"],
    ),
    "rec_unregister": (abi.UNREGISTER, [*HEAD, "name[0]"]),
    "rec_write": (
        abi.WRITE,
        [
            *(*HEAD, *TASK[:-1], "ret", "duration_ns", "size", "uid", "file"),
            *("name_size", "text_size"),
        ],
    ),
}
CONSTANTS = {
    "REC_COMM_SIZE": 16,
    "REC_ADDRESS_SIZE": 16,
    "REC_NAME_SIZE": abi.NAME_SIZE,
    "REC_OVERRIDE_SIZE": abi.OVERRIDE_SIZE,
    "REC_DYNIDS": abi.DYNIDS,
    "REC_ENTRIES": abi.ENTRIES,
    "REC_TEXT_SIZE": abi.TEXT_SIZE,
    "REC_DIGESTS": abi.DIGESTS,
    "REC_DRIVER": abi.KIND_DRIVER,
    "REC_MATCH": abi.KIND_MATCH,
    "REC_PROBE": abi.KIND_PROBE,
    "REC_UNREGISTER": abi.KIND_UNREGISTER,
    "REC_WRITE": abi.KIND_WRITE,
    "REC_END_MORE": abi.END_MORE,
    "REC_END_SENTINEL": abi.END_SENTINEL,
    "REC_END_NULL": abi.END_NULL,
    "REC_END_FAULT": abi.END_FAULT,
    "REC_END_TRUNCATED": abi.END_TRUNCATED,
    "REC_DRIVER_HAS_PROBE": abi.DRIVER_HAS_PROBE,
    "REC_MATCH_IS_VIRTFN": abi.MATCH_IS_VIRTFN,
    "REC_MATCH_OVERRIDE_CHANGED": abi.MATCH_OVERRIDE_CHANGED,
    "REC_MATCH_DYNIDS_CHANGED": abi.MATCH_DYNIDS_CHANGED,
    "REC_MATCH_DYNIDS_TRUNCATED": abi.MATCH_DYNIDS_TRUNCATED,
    "REC_MATCH_READ_FAULT": abi.MATCH_READ_FAULT,
    **{f"REC_SOURCE_{s.name}": number for number, s in enumerate(abi.SOURCES)},
    **{f"REC_FILE_{file.name}": number for number, file in enumerate(abi.FILES)},
    **{f"REC_PATH_{path.name}": number for number, path in abi.PATHS.items()},
}


def program() -> str:
    """Return C that prints each constant, and each struct with its fields numbered."""
    lines = [f'printf("{name} %d\\n", {name});' for name in CONSTANTS]
    for struct, (_, fields) in FIELDS.items():
        lines += [
            "{",
            f"struct {struct} s;",
            "memset(&s, 0xa5, sizeof(s));",  # padding is noise
            *(f"s.{field} = {n};" for n, field in enumerate(fields, 1)),
            f'printf("{struct} ");',
            "for (unsigned i = 0; i < sizeof(s); i++)",
            'printf("%02x", ((unsigned char *)&s)[i]);',
            'printf("\\n"); }',
        ]
    body = "\n".join(lines)
    return f"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int16_t s16; typedef int32_t s32; typedef int64_t s64;
#include "{HEADER}"
int main(void) {{
{body}
return 0; }}
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Compile and run the program; what it prints, by name."""
    binary = tmp_path_factory.mktemp("abi") / "abi"
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-x", "c", "-", "-o", str(binary)],
        input=program(),
        text=True,
        check=True,
    )
    run = subprocess.run([binary], text=True, check=True, capture_output=True)
    return dict(line.split() for line in run.stdout.splitlines())


@pytest.mark.parametrize(("name", "value"), CONSTANTS.items())
def test_constant(answers: dict[str, str], name: str, value: int) -> None:
    """A number of the header is the one that Python knows."""
    assert value == int(answers[name])


def test_no_constant_is_forgotten() -> None:
    """Each REC_ number of the header is compared above."""
    text = HEADER.read_text(encoding="ascii")
    named = re.findall(r"^#define (REC_\w+) \w|^\t(REC_\w+) = ", text, re.MULTILINE)
    assert {macro or member for macro, member in named} == set(CONSTANTS)


@pytest.mark.parametrize("struct", FIELDS)
def test_layout(answers: dict[str, str], struct: str) -> None:
    """Each field lies where Python unpacks it, and has that width."""
    layout, fields = FIELDS[struct]
    unpacked = layout.unpack_from(bytes.fromhex(answers[struct]))
    first = [value[0] if isinstance(value, bytes) else value for value in unpacked]
    assert list(range(1, len(fields) + 1)) == first


@pytest.mark.parametrize("struct", FIELDS)
def test_size(answers: dict[str, str], struct: str) -> None:
    """A struct is as long as Python thinks, a driver with all its entries."""
    size = abi.DRIVER_SIZE if struct == "rec_driver" else FIELDS[struct][0].size
    assert size == len(answers[struct]) // 2


def test_ret_and_index_are_signed() -> None:
    """An errno and "does not apply" are negative; all other numbers are not."""
    for layout in (abi.PROBE, abi.WRITE, abi.MATCH):
        numbers = layout.unpack(b"\xff" * layout.size)
        assert [-1] == [n for n in numbers if isinstance(n, int) and n < 0]
    assert min(n for n in abi.ENTRY.unpack(b"\xff" * abi.ENTRY.size)) > 0


def test_widths() -> None:
    """Texts have the size that the header gives them."""
    assert abi.NAME_SIZE == len(abi.DRIVER.unpack(bytes(abi.DRIVER.size))[-1])
    assert abi.NAME_SIZE == len(abi.PROBE.unpack(bytes(abi.PROBE.size))[-1])
    assert [16, 16] == [len(t) for t in abi.MATCH.unpack(bytes(abi.MATCH.size))[7:9]]


@pytest.mark.parametrize(
    ("struct", "layout", "names"),
    [
        (
            *("registration", abi.REGISTRATION),
            ["number", "id_table", "private", "dynids", "entries", "end"],
        ),
        ("settings", abi.SETTINGS, ["digests", "pci_device_id_any"]),
    ],
)
def test_loaders(struct: str, layout: Struct, names: list[str]) -> None:
    """What the loader puts into the hooks' maps is laid out as they have it."""
    maps = HEADER.with_name("maps.bpf.h").read_text()
    body = maps.split(f"struct {struct} {{", 1)[1].split("};", 1)[0]
    fields = re.findall(r"\t(u64|u32) (\w+);", body)
    assert names == [name for _, name in fields]
    codes = {"u64": "Q", "u32": "I"}
    assert "=" + "".join(codes[kind] for kind, _ in fields) == layout.format
