"""Pages of the kernel's tracing ring, and the definitions of what is in them."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz.target import Target
from observer.boot_decisions import Known, decisions
from observer.boot_trace import PAGE_BYTES, TraceError, events, shapes_of
from observer.btf import Btf
from observer.layout import layout_of

if TYPE_CHECKING:
    from collections.abc import Iterable

TESTS = Path(__file__).parents[2]
RELEASE = "7.3.4+deb13-amd64"
BOOT = TESTS / "boot" / RELEASE
DEFINITIONS = (BOOT / "kprobe_events").read_text().splitlines()
FORMATS = {
    path.parent.name: path.read_text()
    for path in sorted(BOOT.glob("events/*/*/format"))
}
SHAPES = shapes_of(DEFINITIONS, FORMATS)
LAYOUT = layout_of(Btf((TESTS / "btf" / f"{RELEASE}.btf").read_bytes()))


def run(data: bytes) -> None:
    """Make decisions of pages; or shapes of texts, by the first byte."""
    if data[:1] == b"t":
        texts = data[1:].decode("utf-8", "surrogateescape").split("\f")
        half = len(texts) // 2
        names = [
            definition.split()[0][2:]
            for definition in texts[:half]
            if definition.split()
        ]
        formats = {
            name.rpartition("/")[2]: text
            for name, text in zip(names, texts[half:], strict=False)
        }
        shapes_of(texts[:half], formats)
        return
    decisions(events(data[1:], 0, SHAPES), Known(LAYOUT, {}))


def seeds() -> Iterable[bytes]:
    """Yield pages of a real ring, cut to what is used of them; and texts."""
    pages = lzma.decompress((BOOT / "per_cpu/cpu0/trace_pipe_raw.xz").read_bytes())
    for start in range(0, min(len(pages), 8 * PAGE_BYTES), PAGE_BYTES):
        yield b"p" + pages[start : start + PAGE_BYTES]
    for definition in DEFINITIONS:
        name = definition.split()[0].rpartition("/")[2]
        yield "\f".join([f"t{definition}", FORMATS.get(name, "")]).encode()


TARGET = Target(run, (TraceError,), seeds, share=2, max_bytes=PAGE_BYTES + 1)
