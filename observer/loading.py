"""The daemon's side of the loader: start it, take its message, see it leave."""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

from observer import listening, notify

# Nothing is imported from the directory that we happen to be in (-P), nor are
# packages looked for (-S), which takes longer than to attach: it needs none.
_CODE: Final = """\
import sys
sys.path.append({!r})
from observer.loader import main
main()
"""
_ROOT: Final = str(Path(__file__).resolve().parents[1])
LOADER: Final = (sys.executable, "-P", "-S", "-c", _CODE.format(_ROOT))

_MESSAGE_BYTES: Final = 1 << 18
_DESCRIPTORS: Final = 64


class AttachError(Exception):
    """The observer could not be attached; the sentence says why and what to do."""


def loader_arguments(
    method: str, *, whole: bool, compiled: bool = False, ring_bytes: int | None = None
) -> tuple[str, ...]:
    """Return how the loader is told what an operator chose.

    ``whole``: every decision is sent, ``compiled``: the programs are, here and now.
    """
    arguments: tuple[str, ...] = ("--attach", method)
    if ring_bytes is not None:
        arguments += ("--ring-bytes", str(ring_bytes))
    if whole:
        arguments += ("--no-digests",)
    return (*arguments, "--compile") if compiled else arguments


class Loading:
    """The loader at work; a context manager that ends it if it is not needed."""

    def __init__(
        self, arguments: tuple[str, ...] = (), *, command: tuple[str, ...] = LOADER
    ) -> None:
        """Start the loader with these arguments."""
        self._received: tuple[dict[str, Any], list[int]] | None = None
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            whole = [*command, "--fd", str(theirs.fileno()), *arguments]
            # What systemd passed and wants to hear is between it and us.
            ours = {*listening.PASSED, *notify.NAMES}
            environment = {k: v for k, v in os.environ.items() if k not in ours}
            # A group of its own keeps a terminal's Ctrl-C away from it.
            self._loader = subprocess.Popen(
                whole, pass_fds=[theirs.fileno()], process_group=0, env=environment
            )

    def hooked(self) -> None:
        """Wait until decisions are seen, or it is clear that they won't be.

        What the loader has to do then takes longer than that, and so does what can
        be done meanwhile.
        """
        received = _receive(self._ours)
        if "hooked" not in received[0]:
            self._received = received

    def finish(self) -> tuple[dict[str, Any], list[int]]:
        """Wait for the loader's end; return its message and its descriptors.

        Raises AttachError with the loader's sentence, or with one about its end.
        """
        with self:
            message, descriptors = self._received or _receive(self._ours)
            if "hooked" in message:
                message, descriptors = _receive(self._ours)
            status = self._loader.wait()
        if not message:
            raise AttachError(f"the loader ended with status {status} and said nothing")
        if "error" in message:
            raise AttachError(message["error"])
        return message, descriptors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Told to stop, perhaps: what it sent goes with the socket.
        if self._loader.returncode is None:
            self._loader.kill()
            self._loader.wait()
        self._ours.close()


def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    # No child may inherit a descriptor: it would keep the hooks alive.
    data, ancillary, flags, _ = channel.recvmsg(
        _MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(rights)
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise AttachError("the loader's message did not come whole")
    return (json.loads(data) if data else {}), descriptors.tolist()
