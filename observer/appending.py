"""A file to append to, compressed or not, in which no write is half done.

What does not fit is taken back, and what comes later goes on from there.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_GZIP: Final = 16 + zlib.MAX_WBITS  # zlib's way to ask for gzip's head and end


class Appending:
    """Creates a file, or empties it. Raises OSError, as all methods do."""

    def __init__(self, path: Path, *, compress: bool) -> None:
        """Compress as gzip does, or not at all."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)
        self._compressor = zlib.compressobj(wbits=_GZIP) if compress else None
        self._size = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        """Give all of it to the operating system, or nothing."""
        if self._compressor is None:
            self._append(data)
            return
        compressor = self._compressor.copy()
        packed = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        self._append(packed)
        self._compressor = compressor

    def flush(self) -> None:
        """Do nothing: a write is all there is to do."""

    def close(self) -> None:
        """End the stream and close the file; once more does nothing."""
        if self.closed:
            return
        self.closed = True
        try:
            if self._compressor is not None:
                self._append(self._compressor.flush())
        finally:
            os.close(self._descriptor)

    def _append(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, data[done:])
        except OSError:
            with suppress(OSError):  # a device has no end to go back to
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)
            raise
        self._size += len(data)
