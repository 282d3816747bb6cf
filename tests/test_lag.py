"""observer/lag.py: how long live decisions waited."""

from __future__ import annotations

from test_metrics import judged, probed

from observer.lag import Lag
from observer.record import Seen


def test_lag() -> None:
    """A decision is in the bucket whose bound it does not exceed."""
    now_ns = 0
    lag = Lag(lambda: now_ns)
    for waited_ns in (5, 10_000_000, 10_000_001, 20_000_000_000):
        now_ns = 1 + waited_ns  # the decision was made at 1 ns
        lag(judged())
    expected = [("0.01", 2), ("0.1", 3), ("1.0", 3), ("10.0", 3), ("+Inf", 4)]
    assert expected == lag.cumulated()
    assert 20.020000006 == lag.seconds


def test_lag_of_others() -> None:
    """Decisions of the boot waited for the daemon; probes are no decisions."""
    lag = Lag(lambda: 9)
    decision = judged()
    lag(decision._replace(match=decision.match._replace(seen=Seen.BOOT)))
    lag(probed())
    assert ("+Inf", 0) == lag.cumulated()[-1]
