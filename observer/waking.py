"""Wake the main loop from a thread, or by a signal, out of its wait."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


class Waker:
    """A pipe that can be read when somebody wants the main loop to go on."""

    def __init__(self) -> None:
        """Open it."""
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor that is readable then."""
        return self._read

    def wake(self) -> None:
        """Let the wait end; from any thread."""
        with suppress(BlockingIOError):  # full of wishes already
            os.write(self._write, b"\0")

    def on_signals(self) -> None:
        """Let every signal that has a handler do the same; in the main thread."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def rest(self) -> None:
        """Forget who wanted it."""
        with suppress(BlockingIOError):
            os.read(self._read, 1 << 16)

    def close(self) -> None:
        """Close both ends."""
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)
