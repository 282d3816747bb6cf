"""observer/standing.py: what lasts is told once, when it begins and when it ends."""

from __future__ import annotations

import machines

from observer.findings import Finding, Kind, Name
from observer.standing import ENDED, Change, Standing

HOLD = machines.seconds(3)


def finding(
    address: str = machines.ADDRESS,
    name: Name = Name.ORPHAN,
    kind: Kind = Kind.UNBOUND,
    text: str = "It has no driver.",
) -> Finding:
    """Return a finding."""
    return Finding(address, name, kind, text, "echo", None, None, {})


def look(standing: Standing, at: float, *found: Finding) -> Change:
    """Look at this second."""
    return standing.look(found, machines.seconds(at))


def test_what_passes_is_never_told() -> None:
    """As tools that rebind make it: there at one look, gone at the next."""
    standing = Standing(hold_ns=HOLD)

    assert look(standing, 0, finding()) == Change((), ())
    assert standing.waiting()
    assert look(standing, 2) == Change((), ())
    assert look(standing, 4, finding()) == Change((), ())
    assert standing.findings == ()
    assert standing.ended == ()


def test_what_lasts_begins_once_and_ends_once() -> None:
    """However often it is looked at."""
    standing = Standing(hold_ns=HOLD)

    look(standing, 0, finding())
    assert look(standing, 3, finding()) == Change((finding(),), ())
    assert standing.findings == (finding(),)
    assert not standing.waiting()
    assert look(standing, 4, finding()) == Change((), ())
    assert look(standing, 5) == Change((), (finding(),))
    assert standing.findings == ()
    assert look(standing, 6) == Change((), ())


def test_what_changed_and_changes_again_is_another_one() -> None:
    """The device was on vfio-pci before; then it is on this, then on that."""
    standing = Standing(hold_ns=HOLD)
    first, second = (
        finding(name=Name.BINDING_CHANGED, kind=Kind.DRIVER_CHANGED)._replace(
            details={"driver": None, "after": after}
        )
        for after in ("e1000", "e1000e")
    )
    look(standing, 0, first)
    look(standing, 3, first)
    assert look(standing, 4, second) == Change((), (first,))
    assert look(standing, 7, second) == Change((second,), ())


def test_the_last_sentence_stands() -> None:
    """More may become known of a finding while it lasts."""
    standing = Standing(hold_ns=HOLD)
    longer = finding(text="It has no driver since 12:00.")

    look(standing, 0, finding())
    assert look(standing, 3, longer) == Change((longer,), ())
    look(standing, 4, finding())
    assert standing.findings == (finding(),)


def test_what_ended_is_remembered_until_it_stands_again() -> None:
    """So that its series says 0 and not nothing."""
    standing = Standing(hold_ns=0)
    two = finding(kind=Kind.NEVER_BOUND)

    look(standing, 0, finding(), two)
    look(standing, 1, two)
    assert standing.ended == ()  # one of that name still stands
    look(standing, 2)
    assert standing.ended == ((machines.ADDRESS, "orphan"),)
    look(standing, 3, finding())
    assert standing.ended == ()


def test_two_greedy_dynids_of_one_address_both_stand() -> None:
    """One may end while the other lasts."""
    standing = Standing(hold_ns=0)
    one, two = (
        finding(name=Name.GREEDY_DYNID, kind=Kind.GREEDY_DYNID)._replace(
            details={"driver": "vfio-pci", "dynid": dynid}
        )
        for dynid in ("8086:100e", "8086:10d3")
    )

    assert look(standing, 0, one, two).begun == (one, two)
    assert look(standing, 1, two).ended == (one,)
    assert standing.findings == (two,)
    assert standing.ended == ()


def test_what_ended_is_bounded() -> None:
    """Addresses come and go for years."""
    standing = Standing(hold_ns=0)
    for number in range(ENDED + 10):
        look(standing, number, finding(f"0000:00:{number:04x}.0"))
    look(standing, 9999)

    assert len(standing.ended) == ENDED
    assert standing.ended[-1][0] == f"0000:00:{ENDED + 9:04x}.0"
