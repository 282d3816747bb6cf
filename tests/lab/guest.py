#!/usr/bin/env python3
"""Run a script under a Debian kernel, on this machine's file system, as root.

    guest.py KERNEL SCRIPT [options] [-- QEMU ARGUMENTS...]

KERNEL is a series (6.1), a version (6.12.90), an exact release, or the path of a
vmlinuz.  The exit status is the script's; 255 when the guest died twice, 124 when
the watchdog ended it, 130 when Ctrl-C had to, 2 when there is no such kernel.

What the guest writes stays in its memory and is gone with it, except below --shared.
Ctrl-C and SIGTERM reach the script as SIGINT; a second one, or 20 s, ends the guest.
"""

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.apt import AptError
from lab.kernels import KernelError, vmlinuz
from lab.machine import PYTHON, Boot, Machine, say
from lab.sources import NoMirrorError

STATUS_DIED = 255
STATUS_TIMEOUT = 124
STATUS_INTERRUPTED = 130
STATUS_USAGE = 2

TIMEOUT_SECONDS = 900.0
BOOT_TIMEOUT_SECONDS = 240.0  # a loaded machine takes 60 s for what takes 13 alone
POLL_SECONDS = 0.1


class GuestError(Exception):
    """The guest can't even be tried; the message says why."""


@dataclass(frozen=True)
class GuestResult:
    """How a guest ended."""

    status: int  # the script's, or one of STATUS_* above
    output: str  # stdout and stderr of the script, in order
    died: bool  # the machine ended before its script did: no verdict
    seconds: float  # from start to end, of the last attempt


def run_guest(  # noqa: PLR0913 - keywords with defaults, each one a QEMU setting
    kernel: str,
    script: Path | str,
    *,
    qemu_args: Sequence[str] = (),
    memory: str = "2G",
    cpus: int = 1,
    shared: Path | str | None = None,
    port: int | None = None,
    qmp: Path | str | None = None,
    append: str = "",
    timeout: float = TIMEOUT_SECONDS,
    on_output: Callable[[bytes], object] | None = None,
    on_start: Callable[[Machine], object] | None = None,
    retries: int = 1,
) -> GuestResult:
    """Boot KERNEL, run SCRIPT in it, and say how that ended.

    A guest that dies (a panic, an emulator that was killed, a boot that hangs) says
    nothing about the script: it is tried again `retries` times, loudly.
    """
    boot = Boot(
        vmlinuz=vmlinuz(kernel),
        script=_existing(Path(script)),
        qemu_args=tuple(qemu_args),
        memory=memory,
        cpus=cpus,
        shared=_existing(Path(shared)) if shared else None,
        port=port,
        qmp=Path(qmp) if qmp else None,
        append=tuple(shlex.split(append)),
    )
    _check_virtme()
    for left in range(retries, -1, -1):
        result = _attempt(boot, timeout, on_output, on_start)
        if not result.died:
            break
        then = "trying once more" if left else "giving up, this is no verdict"
        say(f"the guest died after {result.seconds:.0f} s; {then}")
    return result


def _existing(path: Path) -> Path:
    if not path.exists():
        raise GuestError(f"{path}: no such file or directory")
    return path.resolve()


def _check_virtme() -> None:
    if not (PYTHON.parent / "virtme-run").exists():
        raise GuestError("virtme-ng isn't installed in .venv: run `make setup`")


def _attempt(
    boot: Boot,
    timeout: float,
    on_output: Callable[[bytes], object] | None,
    on_start: Callable[[Machine], object] | None,
) -> GuestResult:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        machine = Machine(boot, Path(name), on_output)
        try:
            if on_start:
                on_start(machine)
            timed_out = _watch(machine, begin, timeout)
        finally:
            machine.stop()
        seconds = time.monotonic() - begin
        status, died = _judge(machine, timed_out=timed_out)
        if died and (tail := machine.console_tail()):
            say(f"the last words on the console:\n{tail}")
        return GuestResult(status, machine.output, died, seconds)


def _watch(machine: Machine, begin: float, timeout: float) -> bool:
    """Wait for the end; True when the guest used up its time."""
    started = False
    while machine.alive():
        started = started or machine.started
        limit = timeout if started else min(timeout, BOOT_TIMEOUT_SECONDS)
        if time.monotonic() - begin > limit:
            doing = "running its script" if started else "booting"
            say(f"the watchdog ends a guest that is still {doing} after {limit:.0f} s")
            return True
        time.sleep(POLL_SECONDS)
    return False


def _judge(machine: Machine, *, timed_out: bool) -> tuple[int, bool]:
    """(exit status, whether the guest died of itself)."""
    if machine.status is not None:
        return machine.status, False
    if machine.interrupted:
        return STATUS_INTERRUPTED, False
    if timed_out and machine.started:
        return STATUS_TIMEOUT, False
    return STATUS_DIED, True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kernel")
    parser.add_argument("script", type=Path)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--memory", default="2G")
    parser.add_argument("--port", type=int, help="of the guest, to answer on 127.0.0.1")
    parser.add_argument("--qmp", type=Path, help="make QEMU's control socket here")
    parser.add_argument("--shared", type=Path, help="directory the guest may change")
    parser.add_argument("--append", default="", help="more kernel arguments")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS)
    parser.add_argument(
        "--retry-dead",
        type=int,
        nargs="?",
        const=1,
        default=1,
        metavar="N",
        help="boot a guest that died again, N times (default: 1)",
    )
    return parser


def split_at_dashes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part our own words from those behind `--`, which are QEMU's."""
    if "--" not in words:
        return list(words), []
    at = list(words).index("--")
    return list(words[:at]), list(words[at + 1 :])


def _write(chunk: bytes) -> None:
    sys.stdout.buffer.write(chunk)
    sys.stdout.flush()


def _catch_signals(machine: Machine) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: machine.interrupt())


def main() -> int:
    """Run the command line."""
    ours, qemu_args = split_at_dashes(sys.argv[1:])
    args = _parser().parse_args(ours)
    try:
        result = run_guest(
            args.kernel,
            args.script,
            qemu_args=qemu_args,
            memory=args.memory,
            cpus=args.cpus,
            shared=args.shared,
            port=args.port,
            qmp=args.qmp,
            append=args.append,
            timeout=args.timeout,
            on_output=_write,
            on_start=_catch_signals,
            retries=args.retry_dead,
        )
    except (GuestError, KernelError, AptError, NoMirrorError) as error:
        say(str(error))
        return STATUS_USAGE
    return result.status


if __name__ == "__main__":
    sys.exit(main())
