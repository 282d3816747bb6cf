#!/usr/bin/env python3
"""virtme-run with three changes: a fast root, a console log, and no orphans.

virtme-ng writes the 9p mount options into the initramfs it builds and has no option
for them.  With cache=loose, importing bcc in the guest takes 1.2 s instead of 8.
Loose caching is right for a guest that doesn't watch the host change files under it.

It sends a script's console to /dev/null; a panic had better be read.  LAB_CONSOLE names
the file for it.

Whatever happens to the process that started it, the machine must not live on: both
virtme-run and QEMU ask the kernel to be ended with their parent.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from virtme import mkinitramfs  # type: ignore[import-untyped]
from virtme.commands import run  # type: ignore[import-untyped]

PLAIN = "msize=524288"
SILENT = "file,id=console,path=/dev/null"
PR_SET_PDEATHSIG = 1


def mount_root_loosely() -> None:
    """Change the mount options of the root file system in virtme-ng's template."""
    template = mkinitramfs._MOUNT_ROOT_HOST  # noqa: SLF001 - there is no option
    if PLAIN not in template:
        sys.exit(
            "this virtme-ng mounts its root in another way than 1.42: "
            "pin 1.42, or adapt tests/lab/virtme_run.py to virtme/mkinitramfs.py"
        )
    loose = template.replace(PLAIN, f"{PLAIN},cache=loose")
    mkinitramfs._MOUNT_ROOT_HOST = loose  # noqa: SLF001


def end_with_parent() -> None:
    """Be sent SIGTERM when the parent ends; this survives exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end_after_qemu(number: int, _frame: object) -> NoReturn:
    """Pass a signal on to QEMU and collect it: init may do so late."""
    signal.signal(number, signal.SIG_IGN)
    os.killpg(0, number)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    sys.exit(1)


def keep_console(execv: Callable[[str, list[str]], NoReturn]) -> None:
    """Have QEMU started with the console in a file."""
    path = os.environ["LAB_CONSOLE"].replace(",", ",,")

    def start(program: str, words: list[str]) -> NoReturn:
        kept = [f"file,id=console,path={path}" if w == SILENT else w for w in words]
        execv(program, kept)

    run.os.execv = start


def main() -> int:
    """Run virtme-run's own command line."""
    run.signal_handler = end_after_qemu
    end_with_parent()
    os.register_at_fork(after_in_child=end_with_parent)
    mount_root_loosely()
    keep_console(os.execv)
    return int(run.main() or 0)


if __name__ == "__main__":
    sys.exit(main())
