"""A tracefs of files, which does what the kernel's does with what is written to it."""

from __future__ import annotations

import lzma
import shutil
from pathlib import Path
from typing import Final

BOOT: Final = Path(__file__).parent / "boot"


class Tracefs:
    """The tracing ring of a fixture, armed as it was at boot."""

    def __init__(self, root: Path, release: str) -> None:
        """Copy the fixture to `root`, which must not be there."""
        shutil.copytree(BOOT / release, root)
        packed = root / "per_cpu/cpu0/trace_pipe_raw.xz"
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        (root / "buffer_size_kb").write_text("2051\n")
        (root / "options").mkdir()
        self.root = root
        self.definitions = (root / "kprobe_events").read_text().splitlines()
        self.group = self.definitions[0].partition(":")[2].partition("/")[0]
        names = [line.split()[0].partition("/")[2] for line in self.definitions]
        self.enabled = [f"{self.group}:{name}" for name in names]
        self.busy = ""  # an event that somebody uses elsewhere
        self.written: list[tuple[str, str]] = []
        self._show()

    def enable(self, event: str) -> None:
        """Have somebody else use the ring too."""
        self.enabled.append(event)
        self._show()

    def define(self, definition: str, hits: int) -> None:
        """Have somebody else define an event."""
        self.definitions.append(definition)
        name = definition.split(maxsplit=1)[0].partition("/")[2]
        profile = self.root / "kprobe_profile"
        profile.write_text(f"{profile.read_text()}  {name} {hits} 0\n")
        self._show()

    def write(self, path: Path, text: str) -> None:
        """Do what the kernel does; what it does not know is written and no more."""
        name = str(path.relative_to(self.root))
        self.written.append((name, text))
        if name == "set_event":
            group = text.strip().removeprefix("!").removesuffix("*")
            self.enabled = [each for each in self.enabled if not each.startswith(group)]
        elif name == "kprobe_events":
            event = text.strip().removeprefix("-:")
            busy = event.replace("/", ":") in self.enabled
            if busy or event.endswith(f"/{self.busy}"):
                raise OSError(16, "Device or resource busy", str(path))
            self.definitions = [
                each
                for each in self.definitions
                if each.split()[0].partition(":")[2] != event
            ]
        self._show()

    def _show(self) -> None:
        lines = "".join(f"{line}\n" for line in self.definitions)
        (self.root / "kprobe_events").write_text(lines)
        lines = "".join(f"{event}\n" for event in self.enabled)
        (self.root / "set_event").write_text(lines)
