"""Where targets put files: in memory, gone with the process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

_DIRECTORY: Final = tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm")
SCRATCH: Final = Path(_DIRECTORY.name)
