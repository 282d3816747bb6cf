"""The host's side: boot a kernel once, run something in it, read what it left."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from lab import devices
from lab.guest import STATUS_TIMEOUT, run_guest
from lab.load import build_matchload
from lab.machine import PYTHON, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pytest

    Progress = Callable[[str], None]

TIMEOUT_SECONDS: Final = 1200
SYSTEMD: Final = REPOSITORY / "tests" / "lab" / "systemd.sh"
_NETWORK: Final = ("-netdev", "user,id=of-nic,restrict=on")
QEMU_ARGS: Final = (
    *devices.DRIVERLESS,
    *devices.IOMMU,
    *devices.SRIOV_NVME,
    *_NETWORK,
    *("-device", "e1000,netdev=of-nic"),
)


class InfrastructureError(Exception):
    """The guest died or hung: this says nothing about the observer."""


def boot(  # noqa: PLR0913 - what to boot and how, by name
    kernel: str,
    module: str,
    directory: Path,
    progress: Progress,
    *arguments: str,
    qemu_args: Sequence[str] = QEMU_ARGS,
    append: str = devices.IOMMU_APPEND,
    systemd: bool = False,
    cpus: int = 1,
    timeout: float = TIMEOUT_SECONDS,
) -> Any:  # noqa: ANN401 - JSON
    """Run a module of this package in a guest; return its result.json."""
    build_matchload()
    script = directory / "script.sh"
    words = [str(PYTHON), "-m", module, str(directory), *arguments]
    if systemd:
        words = ["bash", str(SYSTEMD), str(directory), *words]
    path = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    script.write_text(
        f"export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={shlex.quote(path)}\n"
        f"exec {shlex.join(words)}\n"
    )
    progress(f"{module} in a guest with {kernel}: booting, a few minutes in all")
    guest = run_guest(
        kernel,
        script,
        qemu_args=qemu_args,
        append=append,
        cpus=cpus,
        shared=directory,
        timeout=timeout,
        on_output=_show,
    )
    (directory / "output.txt").write_text(guest.output)
    progress(f"{module} in a guest with {kernel}: {guest.seconds:.0f} s")
    if guest.died or guest.status == STATUS_TIMEOUT:
        raise InfrastructureError(
            f"the guest with {kernel} died or hung, status {guest.status}: "
            f"{guest.output[-2000:]}"
        )
    if guest.status:
        raise AssertionError(f"status {guest.status}: {guest.output[-4000:]}")
    return json.loads((directory / "result.json").read_text())


def _show(chunk: bytes) -> None:
    """Pass the guest's output on; pytest -s shows it."""
    with contextlib.suppress(ValueError):  # captured by a test that is over
        sys.stdout.write(chunk.decode(errors="replace"))
        sys.stdout.flush()


def progress(config: pytest.Config) -> Progress:
    """Let a person who waits see what is going on, captured or not."""
    capture = config.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            # What shares the work with others has no other way to the terminal.
            print(f"\n{text}", file=sys.stderr, flush=True)

    return say


class Boots:
    """Boots each kernel once, however the tests are ordered; keeps how that ended."""

    def __init__(self, start: Callable[[str], Any]) -> None:
        """Boot by `start`."""
        self._start = start
        self._results: dict[str, Any] = {}
        self._errors: dict[str, Exception] = {}

    def __getitem__(self, kernel: str) -> Any:  # noqa: ANN401 - JSON
        """Return a kernel's result; raise what its boot raised, again and again."""
        if kernel in self._errors:
            # Raised once more it would gather a traceback that grows with each test.
            raise self._errors[kernel].with_traceback(None)
        if kernel not in self._results:
            begin = time.monotonic()
            try:
                self._results[kernel] = self._start(kernel)
            except Exception as error:
                self._errors[kernel] = error
                raise
            self._results[kernel]["boot_seconds"] = time.monotonic() - begin
        return self._results[kernel]
