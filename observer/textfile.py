"""The metrics as a file, for node_exporter's textfile collector.

It is replaced whole, so that nobody reads half of it; the collector reads *.prom only.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS: Final = 15.0
SUFFIX: Final = ".prom"
_MODE: Final = 0o644  # of whomever node_exporter runs as


class TextfileError(Exception):
    """The file can't be written, and why, in one sentence."""


class Textfile:
    """Writes the file now and then, in a thread of its own."""

    def __init__(
        self,
        path: Path,
        render: Callable[[], bytes],
        on_trouble: Callable[[str | None], None],
        *,
        seconds: float = SECONDS,
    ) -> None:
        """Prepare to write what `render` returns; no thread runs before `start`.

        `on_trouble` hears, in that thread, why a file is not written, once for each
        reason, and None when it is again.
        """
        self._path = path
        self._render = render
        self._on_trouble = on_trouble
        self._seconds = seconds
        self._trouble: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)

    def start(self) -> None:
        """Write it for the first time. Raises TextfileError."""
        try:
            self._write()
        except OSError as e:
            raise TextfileError(
                f"{self._path} can't be written by the user with id {os.geteuid()}, as "
                f"which the daemon runs ({e.strerror}): let it write to "
                f"{self._path.parent}."
            ) from e
        self._thread.start()

    def stop(self) -> None:
        """End, and leave no file that would look as if it were current."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            trouble = None
            try:
                self._write()
            except OSError as e:
                trouble = str(e.strerror)
            except Exception as e:  # noqa: BLE001 - the next time it may go well
                trouble = f"{type(e).__name__}: {e}"
            if trouble != self._trouble:
                self._trouble = trouble
                self._on_trouble(trouble)

    def _write(self) -> None:
        body = self._render()
        fresh = self._path.with_name(f".{self._path.name}.new")
        with suppress(FileNotFoundError):  # what was left by a crash, or was put there
            fresh.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(fresh, flags, _MODE), "wb") as file:  # noqa: PTH123 - as it is
            os.fchmod(file.fileno(), _MODE)  # whatever the umask
            file.write(body)
        fresh.replace(self._path)
