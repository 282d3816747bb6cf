"""observer/keeping.py: what the daemon knows of the machine gets to the store."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import machines
import stores
from test_series import changed
from test_standing import finding

from observer import log
from observer.audit import as_object, audit
from observer.findings import Kind
from observer.keeping import SETTLED_NS, Keeping
from observer.lasting import LASTING_NS
from observer.regression import REST_NS, Regression
from observer.store import FILE, Archive, Counts, Kept, accept

if TYPE_CHECKING:
    from pathlib import Path

    from observer.audit import Audit
    from observer.store import Store

START_NS = machines.seconds(100)
DEVICE = machines.device(bound="e1000")


def audited(ktime_ns: int = START_NS) -> Audit:
    """Return an audit of a machine."""
    return audit(machines.machine(DEVICE, now_ns=ktime_ns))


def keeping(store: Store | None) -> tuple[Keeping, io.StringIO]:
    """Return it, and where its log goes."""
    stream = io.StringIO()
    regression = Regression(machines.machine().release, START_NS)
    return Keeping(store, log.configure(stream), regression), stream


def test_bindings_at_once(tmp_path: Path) -> None:
    """With the next commit."""
    made, _ = keeping(stores.store(tmp_path))
    made.audited(audited(), ())
    made.close()
    with Archive(tmp_path / FILE) as archive:
        assert [DEVICE.driver] == [row.bound.driver for row in archive.bindings()]
        assert archive.baseline() is None


def test_findings_once_they_had_time_to_stand(tmp_path: Path) -> None:
    """After a restart those of before must not end and begin again."""
    for second in (False, True):
        store = stores.store(tmp_path)
        made, _ = keeping(store)
        made.audited(audited(), ())
        made.step(START_NS + SETTLED_NS - 1)
        made.audited(audited(), (finding(),))
        store.step()
        with Archive(tmp_path / FILE) as archive:
            assert second == bool(archive.findings())
        made.step(START_NS + SETTLED_NS)
        made.close()
    with Archive(tmp_path / FILE) as archive:
        assert [None] == [each.end_ktime_ns for each in archive.findings()]


def test_a_regression_outlives_a_restart(tmp_path: Path) -> None:
    """It can stand again only once it is compared: until then nothing ends."""
    store = stores.store(tmp_path)
    store.step()
    other = audit(machines.machine(DEVICE, release="6.1"))
    accept(tmp_path / FILE, Kept("other", "6.1", 1, as_object(other)))
    lost = changed(DEVICE.address, Kind.DRIVER_LOST, "e1000", None)
    rest_ns = START_NS + REST_NS
    for _ in range(2):
        made, _log = keeping(store)
        store.step()
        made.audited(audited(), ())
        made.step(rest_ns - 1)  # long after findings of other kinds stand
        store.step()
        made.audited(audited(rest_ns), (lost,))
        made.step(rest_ns + SETTLED_NS)
        made.close()
        store = stores.store(tmp_path)
        store.step()
    store.close()
    with Archive(tmp_path / FILE) as archive:
        assert [None] == [each.end_ktime_ns for each in archive.findings()]


def test_the_picture_that_lasted(tmp_path: Path) -> None:
    """Is the audit as a document, with the time of the audit."""
    made, _ = keeping(stores.store(tmp_path))
    first = audited()
    made.audited(first, ())
    made.step(START_NS + LASTING_NS)
    made.close()
    with Archive(tmp_path / FILE) as archive:
        kept = archive.baseline()
    assert kept
    assert json.loads(json.dumps(as_object(first))) == kept.document
    assert START_NS + first.machine.realtime_offset_ns == kept.unix_ns


def test_trouble_is_told(tmp_path: Path) -> None:
    """As a warning with its cause; the rest goes on."""
    made, stream = keeping(stores.store(tmp_path / "nowhere"))
    made.audited(audited(), ())
    made.close()
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert ("warning", "history is not kept") == (line["level"], line["event"])
    assert "No such file or directory" in line["error"]


def test_without_a_store() -> None:
    """Nothing is kept, and nothing said."""
    made, stream = keeping(None)
    made.start()
    made.audited(audited(), ())
    made.step(START_NS)
    made.close()
    assert ((), Counts(), "") == (made.sinks(), made.counts(), stream.getvalue())
