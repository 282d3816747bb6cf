"""The system calls bpf(2) and perf_event_open(2), as far as we need them.

Everything attached here lives as long as its descriptor and no longer: nothing is
written to tracefs, nothing is pinned.
"""

from __future__ import annotations

import contextlib
import ctypes as ct
import errno
import fcntl
import os
import platform
import resource
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from observer.program import Map

_NUMBERS: Final = {"x86_64": (321, 298)}
_MAP_CREATE, _PROG_LOAD, _PROG_TEST_RUN, _RAW_TRACEPOINT_OPEN = 0, 5, 10, 17
_MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _NOEXIST = 1, 2, 1
_KPROBE, _RAW_TRACEPOINT, _TRACING = 2, 17, 26  # enum bpf_prog_type
_TRACE_FENTRY, _TRACE_FEXIT = 24, 25  # enum bpf_attach_type
_PERF_FLAG_FD_CLOEXEC: Final = 8
_PERF_EVENT_IOC_ENABLE, _PERF_EVENT_IOC_SET_BPF = 0x2400, 0x40042408
_KPROBE_PMU: Final = "/sys/bus/event_source/devices/kprobe"
_LOG_BYTES: Final = 1 << 20
_ATTR_BYTES: Final = 128

# Reads eight bytes of kernel memory onto the stack and returns 0.
_TRIAL: Final = b"".join(
    struct.pack("<BBhi", code, registers, 0, immediate)
    for code, registers, immediate in (
        (0xBF, 0xA1, 0),  # r1 = r10
        (0x07, 0x01, -8),  # r1 += -8
        (0xB7, 0x02, 8),  # r2 = 8
        (0xB7, 0x03, 0),  # r3 = 0
        (0x85, 0x00, 113),  # call bpf_probe_read_kernel
        (0xB7, 0x00, 0),  # r0 = 0
        (0x95, 0x00, 0),  # exit
    )
)

_libc = ct.CDLL(None, use_errno=True)


class BpfError(OSError):
    """The kernel refused a step; strerror names the step and its reason."""


def _fail(step: str, number: int, detail: str = "") -> BpfError:
    return BpfError(number, f"{step}: {os.strerror(number)}{detail}")


def _syscall(which: int, *args: object) -> int:
    machine = platform.machine()
    if machine not in _NUMBERS:
        raise BpfError(errno.ENOSYS, f"bpf(2) on {machine} is not supported yet")
    return int(_libc.syscall(_NUMBERS[machine][which], *args))


def call(command: int, attr: bytes, step: str) -> int:
    """Call bpf(2); return what it does, or raise BpfError about this step."""
    buffer = ct.create_string_buffer(attr, _ATTR_BYTES)
    descriptor = _syscall(0, command, buffer, _ATTR_BYTES)
    if descriptor < 0:
        raise _fail(step, ct.get_errno())
    return descriptor


def create_map(m: Map) -> int:
    """Create a BPF map and return its descriptor."""
    attr = struct.pack(
        "<IIIIIII15sx",
        m.type,
        m.key_size,
        m.value_size,
        m.max_entries,
        m.flags,
        0,
        0,
        m.name.encode(),
    )
    return call(_MAP_CREATE, attr, f"creating the BPF map {m.name}")


def insert(descriptor: int, key: bytes, value: bytes) -> bytes:
    """Put a value into a map unless the key has one; return what is there then."""
    held = ct.create_string_buffer(value, len(value))
    key_at = ct.create_string_buffer(key, len(key))
    where = (descriptor, ct.addressof(key_at), ct.addressof(held))
    try:
        attr = struct.pack("<I4xQQQ", *where, _NOEXIST)
        call(_MAP_UPDATE_ELEM, attr, "filling a BPF map")
    except BpfError as e:
        if e.errno != errno.EEXIST:
            raise
        call(_MAP_LOOKUP_ELEM, struct.pack("<I4xQQQ", *where, 0), "reading a BPF map")
    return held.raw


def put(descriptor: int, value: bytes) -> None:
    """Set the only element of an array."""
    held = ct.create_string_buffer(value, len(value))
    key = ct.create_string_buffer(bytes(4), 4)
    where = (descriptor, ct.addressof(key), ct.addressof(held), 0)
    call(_MAP_UPDATE_ELEM, struct.pack("<I4xQQQ", *where), "filling a BPF map")


def load(
    name: str, instructions: bytes, *, method: str, leave: bool, function_id: int = 0
) -> int:
    """Load one program and return its descriptor.

    ``method`` is fentry, kprobe, or raw_tracepoint for one that is only run;
    ``function_id`` the hooked function's BTF id, needed by fentry. Raises BpfError with
    the end of the verifier's log.
    """
    kinds = kind_of(method, leave=leave)
    if method != "fentry":
        function_id = 0
    step = f"loading the BPF program {name}"
    try:
        return call(*prog_attr(name, instructions, *kinds, function_id), step)
    except BpfError as e:
        log = ct.create_string_buffer(_LOG_BYTES)
        attr = prog_attr(name, instructions, *kinds, function_id, log)
        try:
            return call(*attr, step)
        except BpfError:
            lines = log.value.decode(errors="replace").strip().splitlines()[-3:]
            detail = f" ({'; '.join(lines)})" if lines else ""
            raise _fail(step, e.errno or 0, detail) from None


def kind_of(method: str, *, leave: bool) -> tuple[int, int]:
    """Return program type and attach type of a program that is attached so."""
    if method == "fentry":
        return _TRACING, _TRACE_FEXIT if leave else _TRACE_FENTRY
    return (_RAW_TRACEPOINT if method == "raw_tracepoint" else _KPROBE), 0


def prog_attr(
    name: str,
    instructions: bytes,
    kind: int,
    attach: int,
    function_id: int,
    log: ct.Array[ct.c_char] | None = None,
) -> tuple[int, bytes]:
    """Return what `call` wants to load a program; the verifier may write to `log`."""
    # The kernel copies both during the call; they are kept alive by the tuple below.
    licence = _kept(b"GPL\0")
    code = _kept(instructions)
    wanted = (1, len(log), ct.addressof(log)) if log else (0, 0, 0)
    count = len(instructions) // 8
    attr = struct.pack("<IIQQIIQII", kind, count, code, licence, *wanted, 0, 0)
    attr += struct.pack("<15sxII", name.encode(), 0, attach)
    attr += struct.pack("<IIQIIQI", *[0] * 7)  # BTF, function and line info: none
    attr += struct.pack("<I", function_id)
    return _PROG_LOAD, attr


_buffers: dict[bytes, ct.Array[ct.c_char]] = {}


def _kept(data: bytes) -> int:
    """Return the address of a copy that lives as long as this (short) process."""
    buffer = _buffers.setdefault(data, ct.create_string_buffer(data, len(data)))
    return ct.addressof(buffer)


def run(program: int) -> int:
    """Run a loaded raw_tracepoint program once, here and now; return its r0."""
    attr = ct.create_string_buffer(struct.pack("<I", program), _ATTR_BYTES)
    if _syscall(0, _PROG_TEST_RUN, attr, _ATTR_BYTES) < 0:
        raise _fail("running a BPF program", ct.get_errno())
    return int(struct.unpack_from("<I", attr, 4)[0])


def lift_memory_limit() -> None:
    """Allow this process maps of any size: up to 5.10 they count as locked memory."""
    with contextlib.suppress(ValueError, OSError):
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, unlimited)


def attach_fentry(program: int) -> int:
    """Attach a loaded fentry or fexit program; return the link's descriptor."""
    attr = struct.pack("<QI", 0, program)
    return call(_RAW_TRACEPOINT_OPEN, attr, "attaching by fentry")


def attach_kprobe(program: int, function: str, *, leave: bool, address: int = 0) -> int:
    """Attach through the kprobe PMU; return the perf event's descriptor.

    With an address the name only serves messages: several functions may share it.
    """
    step = f"attaching a kprobe to {function}"
    try:
        pmu = int(Path(_KPROBE_PMU, "type").read_text())
    except (OSError, ValueError) as e:
        raise BpfError(errno.ENODEV, f"{step}: this kernel has no kprobe PMU") from e
    name = ct.create_string_buffer(function.encode())
    # kprobe_func and probe_offset, or no function and kprobe_addr
    where = (0, address) if address else (ct.addressof(name), 0)
    attr = bytearray(_ATTR_BYTES)
    struct.pack_into("<IIQQ", attr, 0, pmu, _ATTR_BYTES, int(leave), 1)
    struct.pack_into("<QQ", attr, 56, *where)
    buffer = ct.create_string_buffer(bytes(attr), _ATTR_BYTES)
    event = _syscall(1, buffer, -1, 0, -1, _PERF_FLAG_FD_CLOEXEC)
    if event < 0:
        raise _fail(step, ct.get_errno())
    try:
        fcntl.ioctl(event, _PERF_EVENT_IOC_SET_BPF, program)
        fcntl.ioctl(event, _PERF_EVENT_IOC_ENABLE, 0)
    except OSError as e:
        os.close(event)
        raise _fail(step, e.errno or 0) from None
    return event


def attach(
    program: int, function: str, *, method: str, leave: bool, address: int = 0
) -> int:
    """Attach a loaded program; return the descriptor that keeps it attached."""
    if method == "fentry":
        return attach_fentry(program)
    return attach_kprobe(program, function, leave=leave, address=address)


def try_attach(function: str, *, method: str, function_id: int = 0) -> None:
    """Attach a program and take it away; raise BpfError if the kernel refuses.

    It hooks the return, which is what some kernels refuse where entry works, and reads
    kernel memory, which is all that lockdown=confidentiality forbids.
    """
    program = load("trial", _TRIAL, method=method, leave=True, function_id=function_id)
    try:
        os.close(attach(program, function, method=method, leave=True))
    finally:
        os.close(program)
