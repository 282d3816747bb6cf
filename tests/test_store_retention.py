"""observer/store/retention.py: what is old or too much goes, a little at a time."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import machines
import observations
import pytest
import stores
from test_standing import finding

from observer.store import FILE, Archive, Limits
from observer.store.database import open_store
from observer.store.retention import BOOTS, STEP, Cut, cut_of, prune, size
from observer.store.shape import DAY_NS, MIB

if TYPE_CHECKING:
    from pathlib import Path

    from observer.record import Judged

S = machines.seconds


@pytest.mark.parametrize(
    ("ran", "age", "cut"),
    [
        ([], 10, None),
        ([(1, 10)], 10, None),
        ([(1, 11)], 10, Cut(1, 1)),
        ([(3, 4), (2, 5), (1, 1)], 10, None),
        ([(3, 4), (2, 5), (1, 2)], 10, Cut(1, 1)),
        ([(3, 4), (2, 7), (1, 2)], 10, Cut(2, 1)),
    ],
)
def test_age_is_added_up_over_boots(
    ran: list[tuple[int, int]], age: int, cut: Cut | None
) -> None:
    """The newest boot first; while the machine was off nothing aged."""
    assert cut == cut_of(ran, age)


def decision(at: float, driver: int = 1) -> Judged:
    """Return a decision of this second, by the driver with this number."""
    known = stores.DRIVER._replace(number=driver)
    return observations.match(S(at), known, observations.STATIC)


def counts(directory: Path) -> dict[str, int]:
    """Return how many rows there are."""
    with Archive(directory / FILE) as archive:
        return {
            "decisions": sum(archive.counts("decisions").values()),
            "probes": sum(archive.counts("probes").values()),
            "boots": len(archive.boots()),
        }


def test_old_decisions_go(tmp_path: Path) -> None:
    """And probes; drivers go with the last decision about them."""
    clock = stores.Clock()
    limits = Limits(age_ns=S(50))
    store = stores.store(tmp_path, limits=limits, clock=clock)
    for seen in (decision(99), observations.probe(S(99)), decision(120, 2)):
        store(seen)
    store.step()
    assert {"decisions": 2, "probes": 1, "boots": 1} == counts(tmp_path)
    clock.ktime_ns = S(160)
    store.step()
    store.close()
    assert {"decisions": 1, "probes": 0, "boots": 1} == counts(tmp_path)
    with closing(open_store(tmp_path / FILE)) as connection:
        assert [(2,)] == connection.execute("SELECT number FROM drivers").fetchall()


def test_a_driver_comes_again_after_its_row_went(tmp_path: Path) -> None:
    """The daemon knows it all the time; its decisions must find it."""
    clock = stores.Clock()
    store = stores.store(tmp_path, limits=Limits(age_ns=S(50)), clock=clock)
    for at, driver in ((100, 1), (140, 2), (160, 2), (170, 1)):
        clock.ktime_ns = S(at)
        store(decision(at, driver))
        store.step()
    store.close()
    expected = [decision(140, 2), decision(160, 2), decision(170, 1)]
    with Archive(tmp_path / FILE) as archive:
        assert expected == [past.seen for past in archive.decisions()]


def test_a_file_becomes_smaller(tmp_path: Path) -> None:
    """When less is to be kept than before."""
    stores.fill(tmp_path, *[decision(1)] * 8000)
    limits = Limits(size_bytes=MIB // 4)
    assert (tmp_path / FILE).stat().st_size > 2 * limits.size_bytes
    store = stores.store(tmp_path, limits=limits)
    for _ in range(60):
        store.keep_findings(())  # something to write
        store.step()
    store.close()
    assert limits.size_bytes >= (tmp_path / FILE).stat().st_size


@pytest.mark.parametrize("jump", [-40, 4000])
def test_a_clock_that_jumps_deletes_nothing(tmp_path: Path, jump: int) -> None:
    """By years, within a boot and between two."""
    for running in (stores.RUNNING, stores.LATER):
        clock = stores.Clock()
        store = stores.store(tmp_path, running, clock=clock)
        store(decision(99))
        store.step()
        clock.offset_ns += jump * DAY_NS
        clock.go_on(100)
        store(decision(199))
        store.close()
    assert {"decisions": 4, "probes": 0, "boots": 2} == counts(tmp_path)
    with Archive(tmp_path / FILE) as archive:
        assert [S(99), S(199)] * 2 == [
            past.seen.match.ktime_ns for past in archive.decisions()
        ]


def test_the_file_is_kept_small(tmp_path: Path) -> None:
    """The oldest decisions go, and what they took is given back."""
    limits = Limits(size_bytes=MIB)
    store = stores.store(tmp_path, limits=limits)
    for number in range(20_000):
        store(decision(number))
        if number % 1000 == 0:
            store.step()
    for _ in range(40):
        store.keep_findings(())  # something to write
        store.step()
    store.close()
    assert limits.size_bytes >= store.counts().size_bytes
    assert limits.size_bytes + MIB // 4 >= (tmp_path / FILE).stat().st_size
    with Archive(tmp_path / FILE) as archive:
        kept = [past.seen.match.ktime_ns for past in archive.decisions()]
    assert S(19_999) == kept[-1]
    assert len(kept) > 1000
    assert kept == [*range(kept[0], S(20_000), S(1))]


def test_no_step_is_large(tmp_path: Path) -> None:
    """However much there is to delete."""
    path = tmp_path / FILE
    stores.fill(tmp_path, *[decision(1)] * (3 * STEP))
    tiny = Limits(age_ns=S(1), size_bytes=0)
    with closing(open_store(path)) as connection:

        def rows() -> int:
            (number,) = connection.execute("SELECT count(*) FROM decisions").fetchone()
            return int(number)

        prune(connection, tiny._replace(size_bytes=MIB), rows=0)
        assert 2 * STEP == rows()
        prune(connection, tiny, rows=0)
        assert 0 == rows()
        prune(connection, tiny, rows=0)


def test_what_stands_is_never_deleted(tmp_path: Path) -> None:
    """Nor the picture, nor the baseline, however small the file must be."""
    store = stores.store(tmp_path, limits=Limits(size_bytes=0))
    device = machines.device(bound="e1000")
    store.keep_bindings(machines.machine(device))
    store.keep_findings((finding(),))
    store.keep_picture({}, 1)
    for _ in range(5):
        store(decision(99))
        store(stores.PROBED)
        store(stores.WROTE)
        store.step()
    store.close()
    with Archive(tmp_path / FILE) as archive:
        assert 1 == len(archive.bindings())
        assert 1 == len(archive.findings())
        assert archive.baseline()
        assert archive.picture(archive.boots()[0])


def test_the_oldest_boots_go(tmp_path: Path) -> None:
    """With all that is known of them, once there are too many."""
    for number in range(BOOTS + 2):
        boot = stores.RUNNING._replace(boot_id=f"{number}")
        store = stores.store(tmp_path, boot)
        store.keep_bindings(machines.machine(machines.device()))
        store(stores.JUDGED)
        store.close()
    for _ in range(6):
        store = stores.store(tmp_path, boot)
        store(stores.JUDGED)
        store.close()
    with Archive(tmp_path / FILE) as archive:
        boots = archive.boots()
        assert BOOTS == len(boots)
        assert "2" == boots[0].boot_id
        assert {each.seq for each in boots} == {row.boot for row in archive.bindings()}
        assert {each.seq for each in boots} == archive.counts("decisions").keys()


def test_size_is_what_is_in_use(tmp_path: Path) -> None:
    """Pages that were given back do not count."""
    stores.fill(tmp_path, *[decision(1)] * 2000)
    with closing(open_store(tmp_path / FILE)) as connection:
        before = size(connection)
        assert before == (tmp_path / FILE).stat().st_size
        connection.execute("DELETE FROM decisions")
        assert before > 2 * size(connection)
