"""One virtual machine: its command line, its process, its end."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
PYTHON = REPOSITORY / ".venv" / "bin" / "python"
MAC = "52:54:00:98:17:01"
ADDRESS = "10.0.2.15"  # of the guest, in QEMU's user network

# What the guest may write, in memory. QEMU's own choice of top-level directories
# hides nothing: they are overlays of this machine's.
WRITABLE = ("/etc", "/lib", "/home", "/opt", "/root", "/srv", "/usr", "/var", "/tmp")  # noqa: S108

INTERRUPT_GRACE_SECONDS = 20
TERMINATE_GRACE_SECONDS = 5


@dataclass(frozen=True)
class Boot:
    """What to boot, on what, to run what."""

    vmlinuz: Path
    script: Path
    qemu_args: tuple[str, ...] = ()
    memory: str = "2G"
    cpus: int = 1
    shared: Path | None = None  # the one directory whose changes outlive the guest
    port: int | None = None  # of the guest, answers on 127.0.0.1 here
    qmp: Path | None = None  # a socket to be made
    append: tuple[str, ...] = field(default=())  # kernel arguments

    def command(self, directory: Path) -> list[str]:
        """Spell the virtme-run command; the status goes below `directory`."""
        words = [str(PYTHON), str(HERE / "virtme_run.py")]
        words += ["--name", "lab", "--script-sh", self._inner()]
        if self.shared:
            words += ["--rwdir", str(self.shared.resolve())]
        for writable in writable_directories(REPOSITORY):
            words += ["--overlay-rwdir", writable]
        words += ["--kimg", str(self.vmlinuz), "--mods", "auto"]
        words += ["--disable-microvm", "--disable-kvm", "--force-9p"]
        words += ["--cpus", str(self.cpus), "--memory", self.memory]
        for argument in self.append:
            words += ["--kopt", argument]
        return [*words, "--qemu-opts", *self._qemu_options(directory)]

    def _inner(self) -> str:
        """Spell the shell command that the guest's init runs."""
        words = ["env"] + ([f"LAB_MAC={MAC}"] if self.port else [])
        words += ["bash", str(HERE / "guest_init.sh"), str(self.script.resolve())]
        return shlex.join(words)

    def _qemu_options(self, directory: Path) -> list[str]:
        status = _escaped(directory / "status")
        words = ["-chardev", f"file,id=lab-status,path={status}"]
        words += ["-device", "virtserialport,name=lab.status,chardev=lab-status"]
        if self.port:
            forward = f"hostfwd=tcp:127.0.0.1:{self.port}-{ADDRESS}:{self.port}"
            words += ["-netdev", f"user,id=lab,{forward}"]
            words += ["-device", f"virtio-net-pci,netdev=lab,mac={MAC}"]
        if self.qmp:
            words += ["-qmp", f"unix:{_escaped(self.qmp)},server=on,wait=off"]
        return [*words, *self.qemu_args]


def writable_directories(repository: Path) -> Sequence[str]:
    """WRITABLE as far as it exists, and the repository where it lies elsewhere."""
    present = [directory for directory in WRITABLE if Path(directory).is_dir()]
    if any(repository.is_relative_to(directory) for directory in present):
        return present
    return [*present, str(repository)]


def _escaped(path: Path) -> str:
    """Double the commas in a path, as QEMU's option syntax wants it."""
    return str(path).replace(",", ",,")


class Machine:
    """A running guest. Always `stop` it."""

    def __init__(
        self,
        boot: Boot,
        directory: Path,
        on_output: Callable[[bytes], object] | None = None,
    ) -> None:
        """Start it; `on_output` gets the script's output as it comes."""
        self._directory = directory
        self._on_output = on_output
        self._chunks: list[bytes] = []
        self._interrupted_at: float | None = None
        # A session of its own: the terminal's Ctrl-C must not reach QEMU, which would
        # die at once. A pipe, not a file: QEMU opens /proc/self/fd/1 once more and
        # would truncate a regular file.
        self._process = subprocess.Popen(
            boot.command(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "TMPDIR": str(directory),
                "LAB_CONSOLE": str(directory / "console"),
            },
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while chunk := os.read(stdout.fileno(), 65536):
            self._chunks.append(chunk)
            if self._on_output:
                self._on_output(chunk)

    @property
    def output(self) -> str:
        """All that the script has written so far."""
        return b"".join(self._chunks).decode(errors="replace")

    @property
    def interrupted(self) -> bool:
        """Whether anyone asked for an early end."""
        return self._interrupted_at is not None

    def reports(self) -> list[str]:
        """Read what the guest said apart from the script: `started`, `status N`."""
        try:
            return (
                (self._directory / "status").read_text("ascii", "replace").split("\n")
            )
        except FileNotFoundError:
            return []

    @property
    def started(self) -> bool:
        """Whether the script has been reached."""
        return "started" in self.reports()

    @property
    def status(self) -> int | None:
        """The script's exit status, once it has one."""
        for line in self.reports():
            if line.startswith("status "):
                return int(line.removeprefix("status "))
        return None

    def console_tail(self, lines: int = 45) -> str:
        """Quote the last the kernel said, made printable: it is hostile text."""
        try:
            text = (self._directory / "console").read_text("ascii", "replace")
        except FileNotFoundError:
            return ""
        tail = [line.rstrip() for line in text.split("\n") if line.strip()][-lines:]
        return "\n".join(
            "".join(c if c.isprintable() else "?" for c in line) for line in tail
        )

    def interrupt(self) -> None:
        """Ctrl-C for the script; the second time, or 20 s later, the end."""
        if self.interrupted:
            self._signal(signal.SIGTERM)
            return
        self._interrupted_at = time.monotonic()
        try:
            stdin = self._process.stdin
            assert stdin is not None
            stdin.write(b"\n")
            stdin.flush()
        except OSError:
            self._signal(signal.SIGTERM)

    def alive(self) -> bool:
        """Whether the machine runs; ends it when it ignores an interrupt."""
        now = time.monotonic()
        patience = (self._interrupted_at or now) + INTERRUPT_GRACE_SECONDS
        if now > patience:
            self._signal(signal.SIGTERM)
        return self._process.poll() is None

    def stop(self) -> None:
        """End whatever still runs and collect the rest of the output."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            # QEMU holds the pipe: its end of file says that QEMU is gone, too.
            self._reader.join(TERMINATE_GRACE_SECONDS)
            if not self._reader.is_alive():
                break
        self._process.wait(TERMINATE_GRACE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole session: virtme-run and QEMU."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def say(text: str) -> None:
    """Tell the person at the terminal, apart from the script's output."""
    sys.stderr.write(f"guest: {text}\n")
    sys.stderr.flush()
