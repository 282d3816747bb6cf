"""Which findings stand, when each began and ended.

Tools that rebind a device pass through states that would be findings if they lasted,
so one counts only after it was there for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from observer.findings import Kind, Name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer.findings import Finding

HOLD_NS: Final = 3_000_000_000
ENDED: Final = 1000  # remembered, so that their series can say 0


Key = tuple[str, Name, Kind, str]  # address, finding, kind and which of several


class Change(NamedTuple):
    """What began to stand and what ended since the last look."""

    begun: tuple[Finding, ...]
    ended: tuple[Finding, ...]


class Standing:
    """The findings of the machine over time.

    Another thread may read `findings` and `ended`: both are replaced, never changed.
    """

    def __init__(self, *, hold_ns: int = HOLD_NS) -> None:
        """Let a finding stand that is there for `hold_ns`."""
        self._hold_ns = hold_ns
        self._since: dict[Key, int] = {}  # CLOCK_MONOTONIC of first sight
        self._standing: dict[Key, Finding] = {}
        self.findings: tuple[Finding, ...] = ()
        self.ended: tuple[tuple[str, str], ...] = ()  # (address, finding), the last

    def look(self, found: Iterable[Finding], now_ns: int) -> Change:
        """Take what an audit found now; return what changed."""
        seen = {key_of(finding): finding for finding in found}
        self._since = {key: self._since.get(key, now_ns) for key in seen}
        standing = {
            key: finding
            for key, finding in seen.items()
            if key in self._standing or now_ns - self._since[key] >= self._hold_ns
        }
        before, self._standing = self._standing, standing
        self.findings = tuple(standing.values())
        change = Change(
            tuple(f for key, f in standing.items() if key not in before),
            tuple(f for key, f in before.items() if key not in standing),
        )
        if change.begun or change.ended:
            self._remember(change.ended)
        return change

    def waiting(self) -> bool:
        """Say whether a finding is there that does not stand yet."""
        return len(self._since) > len(self._standing)

    def _remember(self, ended: tuple[Finding, ...]) -> None:
        stands = {(f.address, str(f.finding)) for f in self.findings}
        pairs = dict.fromkeys(self.ended)
        pairs.update(dict.fromkeys((f.address, str(f.finding)) for f in ended))
        self.ended = tuple(pair for pair in pairs if pair not in stands)[-ENDED:]


def key_of(finding: Finding) -> Key:
    """Return what tells a finding from all others of the machine.

    One address can have several greedy dynids; and what changed may change again.
    """
    told, which = finding.details, ""
    if finding.finding is Name.GREEDY_DYNID:
        which = f"{told['driver']} {told['dynid']}"
    elif finding.finding is Name.BINDING_CHANGED:
        which = f"{told['driver']} {told['after']}"
    return finding.address, finding.finding, finding.kind, which
