"""observer/lasting.py: what passes is never the picture of a boot."""

from __future__ import annotations

import machines

from observer.audit import Audit, audit
from observer.lasting import Lasting

S = machines.seconds
BOUND = machines.device(bound="e1000")
UNBOUND = machines.device()


def seen(at: float, *devices: machines.PciDevice, **more: object) -> Audit:
    """Return an audit of this second."""
    return audit(machines.machine(*devices, now_ns=S(at), **more))


def test_what_lasted_is_told_once() -> None:
    """Thirty seconds after it was first seen so."""
    lasting = Lasting()
    first = seen(100, BOUND)
    assert lasting.lasted(S(100)) is None
    lasting.look(first)
    assert lasting.lasted(S(129)) is None
    assert first is lasting.lasted(S(130))
    assert lasting.lasted(S(131)) is None


def test_what_passes_is_not_told() -> None:
    """As when a tool rebinds, or a shutdown unbinds."""
    lasting = Lasting()
    lasting.look(seen(100, BOUND))
    lasting.look(seen(120, UNBOUND))
    assert lasting.lasted(S(140)) is None
    last = seen(145, BOUND)
    lasting.look(last)
    assert lasting.lasted(S(174)) is None
    assert last is lasting.lasted(S(175))


def test_the_newest_audit_of_it_is_told() -> None:
    """Other things than bindings may change meanwhile."""
    lasting = Lasting()
    lasting.look(seen(100, BOUND))
    newer = seen(125, BOUND, drivers=[machines.E1000])
    lasting.look(newer)
    assert newer is lasting.lasted(S(130))
    newest = seen(140, BOUND)
    lasting.look(newest)
    assert newest is lasting.lasted(S(140))


def test_the_same_again_is_not_told() -> None:
    """An audit a minute is not a picture a minute."""
    lasting = Lasting()
    lasting.look(seen(100, BOUND))
    assert lasting.lasted(S(130))
    lasting.look(seen(160, BOUND))
    assert lasting.lasted(S(200)) is None


def test_an_override_is_a_change() -> None:
    """So are a device that came and one that went."""
    for other in (
        [machines.device(bound="e1000", driver_override="e1000")],
        [BOUND, machines.device("0000:00:03.0")],
        [],
    ):
        lasting = Lasting()
        lasting.look(seen(100, BOUND))
        lasting.look(seen(120, *other))
        assert lasting.lasted(S(149)) is None
        assert lasting.lasted(S(150))
