"""observer/boot_args.py: the words for each kernel of the fixtures."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from shapes import all_layouts

from observer.boot_args import (
    DYNIDS,
    LINE_BYTES,
    command_line,
    definitions,
    group,
    without,
)

if TYPE_CHECKING:
    from observer.layout import Layout

LAYOUTS = all_layouts()
D = LAYOUTS["7.3.4+deb13-amd64"]
L0 = LAYOUTS["5.10.0-46-amd64"]
ROOM = 900  # characters, for what a machine has on its command line already


@pytest.fixture(params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> Layout:
    """Return the layout of each fixture."""
    return LAYOUTS[request.param]


def fetches(layout: Layout, event: str) -> dict[str, str]:
    """Return what an event fetches, by name, out of the command line."""
    words = command_line(layout).split()[0].removeprefix("kprobe_event=").split(";")
    (found,) = (word for word in words if f"/{event}," in word)
    return dict(fetch.split("=") for fetch in found.split(",")[2:])


def test_one_line_for_the_kernel_command_line(layout: Layout) -> None:
    """One option for the events, words without blanks and quotes, and room to spare."""
    line = command_line(layout)
    kprobe_event, *others = line.split(" ")
    assert re.fullmatch(r"kprobe_event=[\w:;/,=+%$().\[\]-]+", kprobe_event)
    assert [
        "trace_buf_size=2M",
        "trace_clock=mono",
        "trace_options=record-tgid",
        "ftrace=nop",
    ] == others
    assert len(line) <= LINE_BYTES - ROOM


def test_all_inputs_of_a_decision_are_fetched(layout: Layout) -> None:
    """At the offsets of layouts.json, by registers: the first arguments."""
    at = layout.offsets
    found = fetches(layout, "m")
    override = at["DEV_OVERRIDE"]
    third = {"copy": "%dx"} if layout.match_args == 3 else {}
    assert {
        "sp": "%sp",
        "drv": "%di",
        "dev": "%si",
        **third,
        "comm": "$comm",
        "name": f"+0(+{at['DRV_NAME']}(%di)):string",
        "tbl": f"+{at['DRV_ID_TABLE']}(%di)",
        "addr": f"+0(+{at['DEV_NAME']}(%si)):string",
        "bus": f"+{at['DEV_BUS']}(%si)",
        "ven": f"+{at['DEV_VENDOR']}(%si):x16",
        "did": f"+{at['DEV_DEVICE_ID']}(%si):x16",
        "sven": f"+{at['DEV_SUBVENDOR']}(%si):x16",
        "sdid": f"+{at['DEV_SUBDEVICE']}(%si):x16",
        "cls": f"+{at['DEV_CLASS']}(%si):x32",
        "vf": f"+{at['DEV_IS_VIRTFN_BYTE']}(%si):x8",
        "ovp": f"+{override}(%si)",
        "ov": f"+0(+{override}(%si)):string",
    } == {name: what for name, what in found.items() if not re.match(r"[ni]\d", name)}


def test_dynids_are_fetched_along_their_list(layout: Layout) -> None:
    """Each node by the one before it, its id behind it, and the end or one more."""
    head, size = layout.offsets["DRV_DYNIDS"], layout.offsets["DYNID_ID"]
    found = fetches(layout, "m")
    node = f"+{head}(%di)"
    for place in range(DYNIDS):
        assert node == found[f"n{place}"]
        assert f"+{size}({node}):x64[3]" == found[f"i{place}"]
        node = f"+0({node})"
    assert node == found[f"n{DYNIDS}"]


def test_probes_tell_their_bus(layout: Layout) -> None:
    """The function serves all buses; the driver's method lies before its own struct."""
    at, found = layout.offsets, fetches(layout, "d")
    assert f"+0(+{at['BUS_NAME']}(+{at['DEVICE_BUS']}(%si))):string" == found["bus"]
    assert f"{at['DRV_PROBE'] - at['DRV_DRIVER']}(%di)" == found["probe"]
    assert "+0(+0(%di)):string" == found["name"]


def test_functions(layout: Layout) -> None:
    """Entry and return of both functions, and the outer one where there are two."""
    shown = [line.split()[:2] for line in definitions(layout)]
    probe = layout.probe_function
    inner = [["o", "driver_probe_device"]] if probe.startswith("__") else []
    assert [
        ["m", "pci_match_device"],
        ["mr", "pci_match_device"],
        ["d", probe],
        ["dr", probe],
        *inner,
    ] == [[event.split("/")[1], function] for event, function in shown]
    returns = [event.startswith("r64:") for event, _ in shown]
    assert [False, True, False, True] == returns[:4]


def test_group_tells_the_kernel_image() -> None:
    """It differs with any offset, and is the same for kernels laid out alike."""
    groups = {group(layout) for layout in LAYOUTS.values()}
    lines = {
        command_line(layout).replace(group(layout), "") for layout in LAYOUTS.values()
    }
    assert len(lines) == len(groups)
    moved = replace(D, offsets={**D.offsets, "DEV_CLASS": 72})
    assert group(D) != group(moved)
    assert group(D) == group(replace(D, name="other"))


def test_whole_line() -> None:
    """One as it was run: a change of it makes the lines of all kernels stale."""
    assert (
        "kprobe_event=p:pobs_5eb306a9/m,pci_match_device,sp=%sp,drv=%di,dev=%si,"
        "comm=$comm,name=+0(+96(%di)):string,tbl=+24(%di),addr=+0(+200(%si)):string,"
        "bus=+16(%si),ven=+60(%si):x16,did=+62(%si):x16,sven=+64(%si):x16,"
        "sdid=+66(%si):x16,cls=+68(%si):x32,vf=+2059(%si):x8,ovp=+2512(%si),"
        "ov=+0(+2512(%si)):string,n0=+248(%di),i0=+16(+248(%di)):x64[3],"
        "n1=+0(+248(%di)),i1=+16(+0(+248(%di))):x64[3],n2=+0(+0(+248(%di))),"
        "i2=+16(+0(+0(+248(%di)))):x64[3],n3=+0(+0(+0(+248(%di)))),"
        "i3=+16(+0(+0(+0(+248(%di))))):x64[3],n4=+0(+0(+0(+0(+248(%di)))));"
        "r64:pobs_5eb306a9/mr,pci_match_device,sp=%sp,ret=$retval,"
        "id=+0($retval):x64[3];p:pobs_5eb306a9/d,driver_probe_device,sp=%sp,drv=%di,"
        "dev=%si,comm=$comm,bus=+0(+0(+96(%si))):string,name=+0(+0(%di)):string,"
        "addr=+0(+0(%si)):string,probe=-64(%di);"
        "r64:pobs_5eb306a9/dr,driver_probe_device,sp=%sp,ret=$retval:s32 "
        "trace_buf_size=2M trace_clock=mono trace_options=record-tgid ftrace=nop"
    ) == command_line(L0)


def test_what_others_put_on_the_line_is_counted() -> None:
    """Words of an earlier call are not, for they are to be replaced."""
    others = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 kprobe_event=p:g/x,schedule quiet"
    assert others == without(f"{others} {command_line(L0)}\n")
