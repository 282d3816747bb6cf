"""observer/labels.py: which label sets have series of their own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observer.labels import LABEL_CHARACTERS, Labels, label

names = st.text(max_size=3)
counts = st.dictionaries(st.tuples(names, names), st.integers(1, 9))


@given(counts, st.integers(0, 5))
def test_sums_stay(seen: dict[tuple[str, str], int], room: int) -> None:
    """Whatever is folded, nothing is lost, and no more sets are given than fit."""
    labels = Labels(room)
    folded = labels.fold(seen)
    assert sum(seen.values()) == sum(folded.values())
    given_away = [key for key in folded if key[0] != "other"]
    assert len(given_away) <= room
    assert max(0, len(seen) - room) == labels.dropped


def test_label_is_spelled_and_cut() -> None:
    """Hostile text stays one short printable word."""
    assert "\\x1b[31m" == label("\x1b[31m")
    assert LABEL_CHARACTERS == len(label("\n" * 4000))
