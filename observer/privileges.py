"""Give up root and every capability for good, before the first thread.

setresuid reaches all threads, the bounding set and no_new_privs only the calling
one and those it starts later. What could not be given up is read back from the
kernel and returned, not guessed from return values.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from contextlib import suppress
from pathlib import Path

USER = "pci-observer"
NOBODY = 65534

# include/uapi/linux/prctl.h
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
# include/uapi/linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITY_MAX = 64

_FIELDS = (
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
)

_libc = ctypes.CDLL(None, use_errno=True)


class PrivilegesError(Exception):
    """Privileges were not, or not reliably, given up."""


def unprivileged_ids(user: str = USER) -> tuple[int, int]:
    """Return the uid and gid to run as: the daemon's own user's, or nobody's."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return NOBODY, NOBODY
    return entry.pw_uid, entry.pw_gid


def held(*, status: str = "/proc/self/status") -> dict[str, str]:
    """Return ids, groups and capability sets as the kernel shows them."""
    lines = Path(status).read_text(encoding="ascii", errors="replace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: " ".join(fields[name].split()) for name in _FIELDS}


def drop(uid: int, gid: int) -> tuple[str, ...]:
    """Become uid and gid without a capability in any set, nor a way to regain one.

    Returns what remains all the same, as ``"CapBnd 000001ffffffffff"``: a process
    without CAP_SETPCAP keeps its bounding set, one without CAP_SETUID its uid.
    Raises PrivilegesError when a thread runs already or a capability is still held.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise PrivilegesError(
            "Privileges can only be dropped before the first thread is started."
        )
    _empty_bounding_set()
    _become(uid, gid)
    _clear_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return _remaining(uid, gid)


def _prctl(option: int, argument: int) -> int:
    arguments = (ctypes.c_ulong(value) for value in (argument, 0, 0, 0))
    result: int = _libc.prctl(option, *arguments)
    return result


def _empty_bounding_set() -> None:
    """Drop each capability that the kernel knows; without CAP_SETPCAP none goes."""
    for capability in range(_CAPABILITY_MAX):
        if _prctl(_PR_CAPBSET_READ, capability) == 1:
            _prctl(_PR_CAPBSET_DROP, capability)


def _become(uid: int, gid: int) -> None:
    """Change groups and ids as far as this process may; _remaining tells."""
    with suppress(OSError):
        os.setgroups([])
    with suppress(OSError):
        os.setresgid(gid, gid, gid)
    with suppress(OSError):
        os.setresuid(uid, uid, uid)


def _clear_capabilities() -> None:
    """Empty the permitted, effective and inheritable set, and with them the ambient."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _libc.capset(header, nothing)


def _remaining(uid: int, gid: int) -> tuple[str, ...]:
    state = held()
    kept = {name: state[name] for name in _FIELDS if name.startswith("Cap")}
    remaining = {name: caps for name, caps in kept.items() if int(caps, 16)}
    if remaining.keys() - {"CapBnd"} or state["NoNewPrivs"] != "1":
        raise PrivilegesError(f"Privileges could not be dropped; held: {state}.")
    wanted = {"Uid": f"{uid}", "Gid": f"{gid}"}
    for name, value in wanted.items():
        if set(state[name].split()) != {value}:
            remaining[name] = state[name]
    if set(state["Groups"].split()) - {f"{gid}"}:
        remaining["Groups"] = state["Groups"]
    return tuple(f"{name} {value}" for name, value in remaining.items())
