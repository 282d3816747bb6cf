"""observer/store/rows.py: what is observed comes back as it was, addresses hidden."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import stores
import strategies
from hypothesis import given
from hypothesis import strategies as st

from observer.pointers import hide_pointers
from observer.record import Driver, Judged, Judgement, Kind, Probed, Reason, Wrote
from observer.store import FILE, Archive
from observer.store.rows import cell, driver_of, driver_row, packed, text_of, unpacked

judged = st.builds(
    Judged,
    strategies.matches(),
    st.sampled_from(Judgement),
    st.none() | strategies.outcomes,
    st.none() | st.sampled_from(Kind),
    st.none() | st.sampled_from(Reason),
)
probed = st.builds(Probed, strategies.probes, st.none() | st.sampled_from(Kind))
wrote = st.builds(
    Wrote,
    strategies.writes(),
    st.sampled_from(Judgement),
    st.none() | st.sampled_from(["EEXIST"]),
)


def hidden(observation: Judged) -> Judged:
    """Return it as the store keeps it."""
    match, inputs = observation.match, observation.match.inputs
    table = inputs.driver.id_table
    if table is not None:
        driver = inputs.driver._replace(id_table=hide_pointers(table))
        inputs = inputs._replace(driver=driver)
    inputs = inputs._replace(dynids=hide_pointers(inputs.dynids))
    return observation._replace(match=match._replace(inputs=inputs))


@given(st.lists(judged, max_size=6), st.lists(probed | wrote, max_size=6))
def test_everything_comes_back(
    decisions: list[Judged], others: list[Probed | Wrote]
) -> None:
    """Through the file, whatever bytes are in it, in the order of observation."""
    with TemporaryDirectory() as directory:
        kept = stores.fill(Path(directory), *decisions, *others)
        assert (len(decisions) + len(others), 0) == (
            kept.counts().written,
            kept.counts().failed,
        )
        with Archive(Path(directory) / FILE) as archive:
            assert [*map(hidden, decisions)] == [
                past.seen for past in archive.decisions()
            ]
            assert [each for each in others if isinstance(each, Probed)] == [
                past.seen for past in archive.probes()
            ]
            assert [each for each in others if isinstance(each, Wrote)] == [
                past.seen for past in archive.writes()
            ]


@given(strategies.drivers)
def test_driver_comes_back(driver: Driver) -> None:
    """With its whole table, kernel addresses hidden."""
    table = driver.id_table
    expected = driver._replace(id_table=None if table is None else hide_pointers(table))
    assert expected == driver_of(driver_row(driver))


@given(strategies.texts(20))
def test_text_comes_back(text: str) -> None:
    """Bytes that are no UTF-8 are kept as such."""
    stored = cell(text)
    assert isinstance(stored, str | bytes)
    assert text == text_of(stored)


def test_unix_time_stands_with_it(tmp_path: Path) -> None:
    """Each row has the time of the wall clock as well, and its boot."""
    stores.fill(tmp_path, stores.PROBED)
    with Archive(tmp_path / FILE) as archive:
        (past,) = archive.probes()
    ktime_ns = stores.PROBED.probe.ktime_ns
    assert (1, ktime_ns + stores.OFFSET_NS) == (past.boot, past.unix_ns)


def test_packed_is_json() -> None:
    """What is packed comes back; bytes of another kind are an error."""
    assert {"a": [1, None]} == unpacked(packed({"a": [1, None]}))
    with pytest.raises(ValueError, match="incorrect header"):
        unpacked(b"no zlib")
