"""What the daemon tells about itself survives the way to the one who asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import texts, u64

from observer.fields import FieldError
from observer.record import Judgement
from observer.status_page import Line, Status

seconds = st.integers(0, 253402300799)
counts = st.dictionaries(texts(20), u64, max_size=3)
lines = st.builds(Line, seconds, texts(20), texts(20), st.booleans())
statuses = st.builds(
    Status,
    *(texts(20), texts(20), texts(20), texts(20), texts(20), seconds),
    st.fixed_dictionaries({str(name): u64 for name in Judgement}),
    *(u64, u64, counts, st.dictionaries(texts(20), texts(20), max_size=3), u64),
    st.lists(lines, max_size=3).map(tuple),
)
GOOD = Status(
    version="0.1.0",
    kernel="6.1.0",
    layout="E",
    semantics="linux-5.15",
    method="fentry",
    since=1,
    judgements=dict.fromkeys(map(str, Judgement), 0),
    emitted=0,
    lost=0,
    misses={},
    hooks={},
    divergences=0,
    last=(Line(1, "bash[1]", "match", alarming=False),),
)


@given(statuses)
def test_round_trip(status: Status) -> None:
    """What was written is what is read, hostile text included."""
    assert status == Status.from_object(json.loads(json.dumps(status.as_object())))


def test_unknown_fields() -> None:
    """What a newer daemon says besides is skipped."""
    assert GOOD == Status.from_object(GOOD.as_object() | {"mood": "good"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 1),
        ("since", -1),
        ("since", 1 << 40),
        ("judgements", {"agree": 1}),
        ("judgements", []),
        ("misses", {"hook": "many"}),
        ("hooks", {"hook": None}),
        ("emitted", 1.5),
        ("lost", True),
        ("last", [1]),
        ("last", [{"time": 1, "actor": "", "what": ""}]),
    ],
)
def test_bad_field(name: str, value: object) -> None:
    """A field that is not what it must be is named."""
    with pytest.raises(FieldError, match=f"^{name}"):
        Status.from_object(GOOD.as_object() | {name: value})


@pytest.mark.parametrize("name", Status._fields)
def test_missing_field(name: str) -> None:
    """A field that is missing is named."""
    rest = {key: value for key, value in GOOD.as_object().items() if key != name}
    with pytest.raises(FieldError, match=f"^{name}: missing"):
        Status.from_object(rest)
