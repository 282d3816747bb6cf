"""Records of the running kernel, with every loss counted and said."""

from __future__ import annotations

from collections import deque
from operator import sub
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from observer import abi, hooks
from observer.record import Loss, LossStage, Match, Repeat, Seen
from observer.ring import Counters
from observer.wire import Decoder, WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from observer.attachment import Attachment
    from observer.record import Record

_MATCH: Final = abi.KIND_MATCH
_TICK_NS: Final = 1_000_000_000
MATCH_TICKS: Final = 5  # a match takes microseconds
PROBE_TICKS: Final = 300  # a probe may wait minutes for firmware, a write for a probe


class Floor:
    """Calls that entered and never left, as far as that can be known.

    What is under way now may still end, what was there at every one of the last ticks
    is taken for missed. Never falls, so it can be a counter.
    """

    def __init__(self, ticks: int) -> None:
        """Look at this many ticks."""
        self._under_way: deque[int] = deque(maxlen=ticks)
        self.missed = 0

    def tick(self, under_way: int) -> None:
        """Enter how many calls are under way now."""
        self._under_way.append(under_way)
        if len(self._under_way) == self._under_way.maxlen:
            self.missed = max(self.missed, min(self._under_way))


class Live:
    """The attached hooks as a source of records."""

    def __init__(
        self, attachment: Attachment, *, clock: Callable[[], int] = monotonic_ns
    ) -> None:
        """Read from now on; nothing older than the hooks is there."""
        self._attachment = attachment
        self._clock = clock
        # The functions that tell of decisions and of probes.
        self._told_by = hooks.told_by(attachment.layout, attachment.methods)
        match, probe = (function in hooks.FALLBACKS for function in self._told_by)
        self._decoder = Decoder(
            self._told_by[1],  # type: ignore[arg-type]
            matches=Seen.FALLBACK if match else Seen.LIVE,
            # pci_bus_match does not see the match that belongs to a probe.
            probes=Seen.FALLBACK if match or probe else Seen.LIVE,
        )
        self._seen = Counters()  # of fresh maps: what was lost since is told
        self._seen_ns = 0
        self._ticked_ns = clock()
        self._matches, self._probes = Floor(MATCH_TICKS), Floor(PROBE_TICKS)
        self._writes = {file: Floor(PROBE_TICKS) for file in abi.FILES}
        self._missed = 0
        self._repeats: dict[int, int] = {}  # told, by digest
        self._not_understood: set[int] = set()  # digests
        self._repeated = 0
        self._repeated_ns = self._ticked_ns  # when that was read
        self.received = 0  # match decisions taken from the ring, and their repeats
        self.decoded = 0  # of these, understood

    def poll(self, timeout_seconds: float) -> Iterator[Record]:
        """Wait at most this long; yield one batch, the losses before it first.

        A probe is judged by the matches before it, so a loss must be known earlier
        than any record that it may explain.
        """
        self._attachment.ring.wait(timeout_seconds)
        batch = self._attachment.ring.batch()
        yield from self._losses()
        for data in batch:
            record = self._decode(data)
            if record is not None:
                yield record
        yield from self._repeated_since()

    def pending(self) -> bool:
        """Say whether there is something to poll."""
        return self._attachment.ring.wait(0)

    @property
    def counters(self) -> Counters:
        """The kernel side's counters now."""
        return self._attachment.counters.read()

    @property
    def under_way(self) -> bool:
        """Whether a hooked function was entered and is not left yet."""
        now = self.counters
        return (now.match_entered, now.probe_entered, now.write_entered) != (
            *(now.match_left, now.probe_left),
            now.write_left,
        )

    @property
    def misses(self) -> dict[str, int]:
        """Missed calls by hook."""
        counters = self.counters
        match, probe = self._told_by
        return {
            # A call without exit may be found by its task after we gave it up.
            match: counters.match_no_entry
            + max(counters.match_no_exit, self._matches.missed),
            probe: self._probes.missed,
            **{
                hooks.STORES[file]: floor.missed for file, floor in self._writes.items()
            },
        }

    def _decode(self, data: bytes) -> Record | None:
        is_match = data[:2] == _MATCH.to_bytes(2, "little")
        self.received += is_match
        try:
            record = self._decoder.decode(data)
        except WireError:
            if is_match and len(data) >= abi.MATCH.size:
                self._forgo(abi.MATCH.unpack_from(data)[-1] - 1)
            stage = LossStage.DECODE if is_match else LossStage.OTHER
            # Its time can't be read, and it may have waited in the ring for long.
            return Loss(0, self._clock(), stage, 1)
        self.decoded += is_match
        if isinstance(record, Match) and record.digest is not None:
            self._repeats.setdefault(record.digest, 0)
        return record

    def _forgo(self, digest: int) -> None:
        if 0 <= digest < abi.DIGESTS and digest not in self._repeats:
            self._repeats[digest] = 0
            self._not_understood.add(digest)

    def _repeated_since(self) -> Iterator[Repeat | Loss]:
        """Yield what was only counted; of a digest that is still to come, later."""
        if self.counters.repeated == self._repeated:
            return
        repeats, now_ns = self._attachment.repeats, self._clock()
        since_ns, self._repeated_ns = self._repeated_ns, now_ns
        for digest, told in self._repeats.items():
            count = repeats[digest] - told
            if count:
                self._repeats[digest] = told + count
                self._repeated += count
                self.received += count
                if digest in self._not_understood:
                    yield Loss(since_ns, now_ns, LossStage.DECODE, count)
                else:
                    self.decoded += count
                    yield Repeat(digest, count, since_ns, now_ns)

    def _losses(self) -> Iterator[Loss]:
        # What is lost around the reading lies in this interval and in the next.
        before_ns, counters, now_ns = self._clock(), self.counters, self._clock()
        self._tick(now_ns, counters)
        seen, since_ns = self._seen, self._seen_ns
        self._seen, self._seen_ns = counters, before_ns
        missed = sum(self.misses.values())
        for stage, count in (
            (LossStage.RESERVE, counters.lost_reserve - seen.lost_reserve),
            (LossStage.OTHER, counters.lost_other - seen.lost_other),
            (LossStage.MISSED, missed - self._missed),
        ):
            if count:
                yield Loss(since_ns, now_ns, stage, count)
        self._missed = missed

    def _tick(self, now_ns: int, counters: Counters) -> None:
        if now_ns - self._ticked_ns < _TICK_NS:
            return
        self._ticked_ns = now_ns
        self._matches.tick(counters.match_entered - counters.match_left)
        self._probes.tick(counters.probe_entered - counters.probe_left)
        under_way = map(sub, counters.write_entered, counters.write_left)
        for floor, number in zip(self._writes.values(), under_way, strict=True):
            floor.tick(number)
