"""Attached hooks without a kernel: ring and counters say what a test wants."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from shapes import layouts

from observer.boot_coverage import NOT_RECORDED
from observer.live import Live
from observer.registered import NOT_TAKEN
from observer.ring import Counters

if TYPE_CHECKING:
    from observer.attachment import Attachment
    from observer.record import Record


class Hooks:
    """Attached hooks whose kernel does what the test says."""

    def __init__(self, *, shape: str = "D", semantics: str = "") -> None:
        layout = layouts()[shape]
        self.layout = replace(layout, semantics=semantics or layout.semantics)
        self.ring = self
        self.counters = self
        self.now = Counters()
        self.waiting: deque[list[bytes]] = deque()
        self.ktime_ns = 1000
        self.method = "kprobe"
        self.programs = "shipped"
        self.repeats: defaultdict[int, int] = defaultdict(int)  # by digest
        self.hooks = {"pci_match_device": "", "pci_unregister_driver": "no room"}
        self.methods = {"pci_match_device": "kprobe"}
        self.detours: dict[str, str] = {}
        self.problem = ""
        self.inventory = NOT_TAKEN
        self.coverage = NOT_RECORDED
        self.before: tuple[Record, ...] = ()
        self.attached = True

    def wait(self, _timeout_seconds: float) -> bool:
        """Say whether there is something in the ring."""
        return bool(self.waiting)

    def watch(self, _descriptor: int) -> None:
        """Let a wait end by something else, which it does anyway."""

    def batch(self) -> list[bytes]:
        """Take what is in the ring."""
        return self.waiting.popleft() if self.waiting else []

    def read(self) -> Counters:
        """Return the counters now."""
        return self.now

    def count(self, **more: int) -> None:
        """Let the kernel count."""
        for name, number in more.items():
            before = cast("int", getattr(self.now, name))
            self.now = self.now._replace(**{name: before + number})

    def repeat(self, digest: int, times: int) -> None:
        """Let the kernel count decisions without sending them."""
        self.repeats[digest] += times
        self.count(repeated=times)

    def detach(self) -> None:
        """Take the hooks away."""
        self.attached = False

    def attachment(self) -> Attachment:
        """Return the same under the type that the observer wants."""
        return cast("Attachment", self)

    def live(self) -> Live:
        """Observe."""
        return Live(self.attachment(), clock=lambda: self.ktime_ns)
