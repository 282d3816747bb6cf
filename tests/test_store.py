"""observer/store: what is given to it is found again, after a reboot too."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import machines
import observations
import pytest
import stores
from test_standing import finding

from observer.findings import Name
from observer.record import Action, Loss, LossStage, ProbeResult, StoreFile, Uevent
from observer.store import (
    FILE,
    Archive,
    Binding,
    Bound,
    Counts,
    Kept,
    StoreError,
    Who,
    accept,
)
from observer.store.writer import BATCH, QUEUE, RETRY_NS

if TYPE_CHECKING:
    from pathlib import Path

    from observer.machine import Event, Machine, PciDevice

S = machines.seconds
DOCUMENT: dict[str, object] = {"format": "pci-observer-audit", "name": "\udc80"}
OTHER: dict[str, object] = {"format": "pci-observer-audit", "name": "other"}


def machine(at: float, *devices: PciDevice, **more: object) -> Machine:
    """Return a machine at this second."""
    return machines.machine(*devices, now_ns=S(at), **more)


def binding(at: float, driver: str | None, **more: object) -> Binding:
    """Return the row of the device from this second on."""
    bound = Bound(machines.ADDRESS, machines.E1000_IDS, driver, None)
    unix_ns = S(at) + stores.OFFSET_NS
    row = Binding(1, bound, S(at), unix_ns, None, None, seen=False, who=None)
    return row._replace(**more)


def ended(row: Binding, at: float) -> Binding:
    """Return it as it is when it ended at this second."""
    unix_ns = S(at) + stores.OFFSET_NS
    return row._replace(until_ktime_ns=S(at), until_unix_ns=unix_ns)


def bindings_of(directory: Path, *kept: Machine) -> list[Binding]:
    """Keep these one after the other; return the rows."""
    store = stores.store(directory)
    for each in kept:
        store.keep_bindings(each)
        store.step()
    store.close()
    with Archive(directory / FILE) as archive:
        return archive.bindings()


def test_boots_in_the_order_of_observation(tmp_path: Path) -> None:
    """Also where the clock was set back: the wall clock orders nothing."""
    late, early = stores.Clock(), stores.Clock(5)
    early.offset_ns = -S(1000)
    stores.store(tmp_path, clock=late).close()
    stores.store(tmp_path, stores.LATER, clock=early).close()
    with Archive(tmp_path / FILE) as archive:
        first, second = archive.boots()
    assert (1, stores.RUNNING.boot_id, "6.1.0-56-amd64", "E") == (
        first.seq,
        first.boot_id,
        first.release,
        first.layout,
    )
    assert (2, stores.LATER.boot_id, "6.12.90") == (
        second.seq,
        second.boot_id,
        second.release,
    )
    assert (S(100) + stores.OFFSET_NS, S(100)) == (
        first.last_unix_ns,
        first.last_ktime_ns,
    )
    assert (-S(995), S(5)) == (second.first_unix_ns, second.first_ktime_ns)


def test_a_restart_is_no_boot(tmp_path: Path) -> None:
    """The same boot goes on, with what is known of it now."""
    clock = stores.Clock()
    stores.store(tmp_path, clock=clock).close()
    clock.go_on(50)
    newer = stores.RUNNING._replace(version="0.2.0")
    stores.store(tmp_path, newer, clock=clock).close()
    with Archive(tmp_path / FILE) as archive:
        (boot,) = archive.boots()
    assert ("0.2.0", S(100), S(150)) == (
        boot.version,
        boot.first_ktime_ns,
        boot.last_ktime_ns,
    )


def test_a_boot_is_still_observed(tmp_path: Path) -> None:
    """That nothing happens is noted once a minute."""
    clock = stores.Clock()
    store = stores.store(tmp_path, clock=clock)
    last = []
    for _ in range(3):
        store.step()
        with Archive(tmp_path / FILE) as archive:
            last.append(archive.boots()[0].last_ktime_ns)
        clock.go_on(40)
    store.close()
    assert [S(100), S(100), S(180)] == last


def test_what_is_found_is_no_change_that_was_seen(tmp_path: Path) -> None:
    """The first look tells how it is, and not since when."""
    device = machines.device(bound="e1000")
    assert [binding(100, "e1000")] == bindings_of(tmp_path, machine(100, device))


def test_a_change_has_its_time_and_its_actor(tmp_path: Path) -> None:
    """Of the events: when the device was unbound, and who wrote to unbind."""
    device = machines.device(bound="e1000")
    write = machines.write(104, StoreFile.UNBIND, driver="e1000")
    events = {machines.ADDRESS: (write,)}
    before, after = bindings_of(
        tmp_path,
        machine(100, device),
        machine(110, device._replace(driver=None), device_events=events),
    )
    assert ended(binding(100, "e1000"), 104) == before
    who = Who("tee", 123, 0)
    assert binding(104, None, seen=True, who=who) == after


@pytest.mark.parametrize(
    ("events", "at", "who"),
    [
        ((machines.probe(107, "e1000"),), 107, Who("tee", 123, None)),
        ((machines.uevent(107, Action.BIND, driver="e1000"),), 107, None),
        ((machines.probe(107, "e1000", ProbeResult.REFUSED),), None, None),
        ((machines.probe(107, "vfio-pci"),), None, None),
        ((machines.probe(90, "e1000"),), None, None),
    ],
)
def test_a_bind_has_its_time(
    tmp_path: Path, events: tuple[Event, ...], at: float | None, who: Who | None
) -> None:
    """Of the probe that bound it; what was before the last change explains none."""
    device = machines.device()
    _, after = bindings_of(
        tmp_path,
        machine(100, device),
        machine(
            110,
            device._replace(driver="e1000"),
            device_events={machines.ADDRESS: events},
        ),
    )
    expected = binding(at or 110, "e1000", seen=at is not None, who=who)
    assert expected == after


def test_an_override_is_a_change(tmp_path: Path) -> None:
    """So is who set it."""
    device = machines.device(bound="e1000")
    write = machines.write(
        103, StoreFile.DRIVER_OVERRIDE, "vfio-pci", address=machines.ADDRESS
    )
    before, after = bindings_of(
        tmp_path,
        machine(100, device),
        machine(
            110,
            device._replace(driver_override="vfio-pci"),
            device_events={machines.ADDRESS: (write,)},
        ),
    )
    bound = binding(103, "e1000").bound._replace(driver_override="vfio-pci")
    who = Who("tee", 123, 0)
    assert binding(103, "e1000", bound=bound, seen=True, who=who) == after
    assert ended(binding(100, "e1000"), 103) == before


def test_a_device_that_went_has_an_end(tmp_path: Path) -> None:
    """And no row after it."""
    device = machines.device(bound="e1000")
    rows = bindings_of(tmp_path, machine(100, device), machine(110))
    assert [ended(binding(100, "e1000"), 110)] == rows


def test_bindings_of_a_restart(tmp_path: Path) -> None:
    """What is the same goes on; what changed meanwhile is found so."""
    one = machines.device(bound="e1000")
    other = machines.device("0000:00:03.0", bound="e1000")
    bindings_of(tmp_path, machine(100, one, other))
    rows = bindings_of(tmp_path, machine(200, one, other._replace(driver=None)))
    assert [S(100), S(100), S(200)] == [row.since_ktime_ns for row in rows]
    assert [None, S(200), None] == [row.until_ktime_ns for row in rows]
    with Archive(tmp_path / FILE) as archive:
        assert rows[:1] == archive.bindings(one.address)


def test_bindings_of_another_boot(tmp_path: Path) -> None:
    """Those of before stay as they were: that boot ended with them."""
    one = machines.device(bound="e1000")
    bindings_of(tmp_path, machine(100, one))
    later = stores.store(tmp_path, stores.LATER)
    later.keep_bindings(machine(9, one._replace(driver=None)))
    later.close()
    with Archive(tmp_path / FILE) as archive:
        rows = archive.bindings()
    assert [(1, "e1000", None), (2, None, None)] == [
        (row.boot, row.bound.driver, row.until_ktime_ns) for row in rows
    ]


def test_findings_begin_and_end(tmp_path: Path) -> None:
    """One that stands has no end; two of one kind at one address are two."""
    clock = stores.Clock()
    store = stores.store(tmp_path, clock=clock)
    orphan = finding()._replace(also=("0000:00:03.0",))
    greedy = [
        finding(name=Name.GREEDY_DYNID)._replace(
            details={"driver": driver, "dynid": "8086:100e"}
        )
        for driver in ("one", "two")
    ]
    for standing in ((orphan, *greedy), (orphan, greedy[1]), (greedy[1],)):
        store.keep_findings(standing)
        store.step()
        clock.go_on(10)
    store.close()
    with Archive(tmp_path / FILE) as archive:
        found = archive.findings()
        assert found[:1] == archive.findings("0000:00:03.0")
    assert [
        ("orphan", S(100), S(120)),
        ("greedy_dynid", S(100), S(110)),
        ("greedy_dynid", S(100), None),
    ] == [(each.finding, each.begin_ktime_ns, each.end_ktime_ns) for each in found]
    assert ("It has no driver.", "echo") == (found[0].text, found[0].cure)


def test_findings_of_a_restart(tmp_path: Path) -> None:
    """The same finding goes on."""
    for _ in range(2):
        store = stores.store(tmp_path)
        store.keep_findings((finding(),))
        store.close()
    with Archive(tmp_path / FILE) as archive:
        assert 1 == len(archive.findings())


def test_first_picture_is_the_baseline(tmp_path: Path) -> None:
    """Of the first kernel ever seen; there was none before."""
    store = stores.store(tmp_path)
    assert not store.ready()
    store.step()
    assert (True, None) == (store.ready(), store.before())
    store.keep_picture(DOCUMENT, 5)
    store.close()
    expected = Kept(stores.RUNNING.boot_id, "6.1.0-56-amd64", 5, DOCUMENT)
    with Archive(tmp_path / FILE) as archive:
        assert expected == archive.baseline()
        assert expected == archive.picture(archive.boots()[0])


def test_baseline_moves_with_its_kernel(tmp_path: Path) -> None:
    """Within a boot, and in another boot of it; whoever starts then finds the last."""
    reboot = stores.RUNNING._replace(boot_id=stores.LATER.boot_id)
    store = stores.store(tmp_path)
    for unix_ns, document in enumerate((DOCUMENT, OTHER)):
        store.keep_picture(document, unix_ns)
        store.step()
    store.close()
    again = stores.store(tmp_path, reboot)
    again.step()
    assert Kept(stores.RUNNING.boot_id, reboot.release, 1, OTHER) == again.before()
    again.keep_picture(DOCUMENT, 9)
    again.close()
    with Archive(tmp_path / FILE) as archive:
        assert Kept(reboot.boot_id, reboot.release, 9, DOCUMENT) == archive.baseline()


def test_baseline_stays_on_another_kernel(tmp_path: Path) -> None:
    """Over restarts, until the daemon accepts its own picture."""
    store = stores.store(tmp_path)
    store.keep_picture(DOCUMENT, 5)
    store.close()
    baseline = Kept(stores.RUNNING.boot_id, "6.1.0-56-amd64", 5, DOCUMENT)
    for _ in range(2):
        later = stores.store(tmp_path, stores.LATER)
        later.keep_picture(OTHER, 7)
        later.close()
        assert baseline == later.before()
    later = stores.store(tmp_path, stores.LATER)
    later.keep_picture(OTHER, 8)
    later.accept_picture()
    later.close()
    with Archive(tmp_path / FILE) as archive:
        expected = Kept(stores.LATER.boot_id, "6.12.90", 8, OTHER)
        assert expected == archive.baseline()
        assert [5, 8] == [
            kept.unix_ns for each in archive.boots() if (kept := archive.picture(each))
        ]


def test_baseline_of_an_operator(tmp_path: Path) -> None:
    """A daemon that runs takes it up, once; it is no baseline of before."""
    store = stores.store(tmp_path)
    store.step()
    store.step()
    assert store.accepted() is None
    kept = Kept("by hand", "7.3", 3, OTHER)
    accept(tmp_path / FILE, kept)
    store.step()
    assert (kept, None) == (store.accepted(), store.before())
    store.keep_picture(DOCUMENT, 5)
    store.close()
    with Archive(tmp_path / FILE) as archive:
        assert kept == archive.baseline()


def test_a_baseline_is_read_when_the_file_opens_at_last(tmp_path: Path) -> None:
    """A disk that comes late does not cost the comparison."""
    stores.fill(tmp_path)
    kept = Kept("by hand", "6.1", 3, OTHER)
    accept(tmp_path / FILE, kept)
    away = tmp_path.rename(tmp_path.with_name("away"))
    clock = stores.Clock()
    store = stores.store(tmp_path, clock=clock)
    store.step()
    assert (True, None) == (store.ready(), store.before())
    away.rename(tmp_path)
    clock.ktime_ns += RETRY_NS
    store.step()
    assert (kept, None) == (store.before(), store.accepted())
    store.close()


def test_what_is_accepted_while_the_file_is_closed(tmp_path: Path) -> None:
    """It is taken up when the file opens again."""
    clock = stores.Clock()
    store = stores.store(tmp_path, clock=clock)
    store.step()
    store._fail("a disk is full", clock())  # noqa: SLF001 - as a step does
    kept = Kept("by hand", "7.3", 3, OTHER)
    accept(tmp_path / FILE, kept)
    clock.ktime_ns += RETRY_NS
    store(stores.JUDGED)
    store.step()
    assert (None, kept) == (store.before(), store.accepted())
    store.close()


def test_accept_makes_no_store(tmp_path: Path) -> None:
    """Where there is none, there is nothing to compare with it."""
    with pytest.raises(StoreError, match="is not there"):
        accept(tmp_path / FILE, Kept("a", "6.1", 0, {}))
    assert [] == list(tmp_path.iterdir())


def test_books_balance(tmp_path: Path) -> None:
    """Offered = written + refused + failed; more than can wait is refused."""
    store = stores.store(tmp_path)
    for _ in range(QUEUE + 5):
        store(stores.JUDGED)
    store(stores.DRIVER)  # no row
    store(Loss(0, 1, LossStage.OTHER, 1))
    store(Uevent(1, Action.ADD, machines.ADDRESS, None))
    assert Counts(offered=QUEUE + 5, refused=5) == store.counts()
    store.step()
    counts = store.counts()
    assert (BATCH, True, False) == (counts.written, counts.up, counts.degraded)
    store.close()
    assert Counts(QUEUE + 5, QUEUE, 5, 0, up=False) == store.counts()
    with Archive(tmp_path / FILE) as archive:
        assert {1: QUEUE} == archive.counts("decisions")
    assert [] == store.notices()


def test_thread_commits_within_the_second(tmp_path: Path) -> None:
    """What is offered is in the file soon, and closing leaves nothing beside it."""
    store = stores.store(tmp_path)
    store.start()
    store(stores.JUDGED)
    deadline = stores.deadline(10)
    while store.counts().written < 1:
        deadline()
    store(stores.PROBED)
    store.close()
    assert 2 == store.counts().written
    assert [FILE, f"{FILE}.lock"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_batch_does_not_wait_for_the_second(tmp_path: Path) -> None:
    """A storm is written as it comes."""
    store = stores.store(tmp_path)
    store.start()
    deadline = stores.deadline(20)
    for _ in range(10):
        for _ in range(BATCH):
            store(stores.JUDGED)
        while store.counts().written + QUEUE - BATCH < store.counts().offered:
            deadline()
    store.close()
    assert (10 * BATCH, 0) == (store.counts().written, store.counts().refused)


def test_drivers_are_kept_once(tmp_path: Path) -> None:
    """As long as nothing new is known of them, over restarts too."""
    more = stores.DRIVER._replace(id_table=None)
    for _ in range(2):
        stores.fill(
            tmp_path,
            stores.JUDGED,
            stores.JUDGED,
            observations.match(S(99), more),
            stores.JUDGED,
        )
    assert [2] == column(tmp_path, "SELECT count(*) FROM drivers")
    with Archive(tmp_path / FILE) as archive:
        decisions = [past.seen for past in archive.decisions(machines.ADDRESS)]
    assert 8 == len(decisions)
    assert stores.JUDGED == decisions[-1]
    assert more == decisions[2].match.inputs.driver


def test_no_kernel_address(tmp_path: Path) -> None:
    """Nowhere in the file."""
    address = 0xFFFFFFFFC0DE1234
    entry = observations.DYNID._replace(driver_data=address)
    driver = stores.DRIVER._replace(id_table=(entry,))
    stores.fill(tmp_path, observations.match(1, driver, dynids=(entry,)))
    with Archive(tmp_path / FILE) as archive:
        (past,) = archive.decisions()
    inputs = past.seen.match.inputs
    found = {each.driver_data for each in (*inputs.dynids, *inputs.driver.id_table)}
    assert address not in found
    assert str(address).encode() not in (tmp_path / FILE).read_bytes()


def test_columns_are_for_other_programs_too(tmp_path: Path) -> None:
    """As sqlite3(1) shows them: the kernel's words and numbers."""
    stores.fill(tmp_path, stores.JUDGED)
    query = 'SELECT json_array(address, vendor, "match", judgement) FROM decisions'
    assert [[machines.ADDRESS, 0x8086, "static", "agree"]] == [
        json.loads(text) for text in column(tmp_path, query)
    ]


def column(directory: Path, query: str) -> list[Any]:
    """Return the first column of a query's rows."""
    connection = sqlite3.connect(directory / FILE)
    try:
        return [row[0] for row in connection.execute(query)]
    finally:
        connection.close()
