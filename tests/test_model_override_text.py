"""observer/model/override_text.py: driver_override as it is written and read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.model.override_text import RULES, Stored, read_override, write_override

texts = st.text(st.sampled_from("ab \t\n\0\udcff\u00e9"), max_size=6)


@pytest.mark.parametrize(
    ("text", "driver_override"),
    [
        ("vfio-pci", "vfio-pci"),
        ("vfio-pci\n", "vfio-pci"),
        ("vfio-pci\ne1000", "vfio-pci"),
        ("vfio-pci ", "vfio-pci "),  # names no driver
        (" vfio-pci\n", " vfio-pci"),
        ("a,b\tc\n", "a,b\tc"),
        (" \n", " "),
        ("\n", None),
        ("\nvfio-pci", None),
        ("vfio-pci\0", "vfio-pci"),
        ("vfio-pci\0e1000", "vfio-pci"),
        ("\udcff", "\udcff"),
    ],
)
@pytest.mark.parametrize("rules", RULES)
def test_stored(rules: str, text: str, driver_override: str | None) -> None:
    """The text up to the newline counts, and nothing else is special."""
    assert Stored(0, driver_override) == write_override(text, "before", rules)


def test_leading_nul_clears() -> None:
    """As Python's and dpdk's scripts do it."""
    assert Stored(0, None) == write_override("\0", "before", "linux-3.16")
    assert Stored(0, None) == write_override("\0x\n", "before", "linux-3.16")


def test_leading_nul_in_5_19_stores_an_empty_name() -> None:
    """5.19.0 to 5.19.8: the device matched nothing any more."""
    assert Stored(0, "") == write_override("\0", "before", "linux-5.19")
    assert Stored(0, "") == write_override("\0x\n", "before", "linux-5.19")


@pytest.mark.parametrize("rules", RULES)
def test_nothing_written_changes_nothing(rules: str) -> None:
    """A write of no bytes ends in sysfs: it does not clear."""
    assert Stored(0, "before") == write_override("", "before", rules)


@pytest.mark.parametrize("rules", RULES)
def test_longest(rules: str) -> None:
    """There must be room for a newline and a NUL in a page, in bytes."""
    assert Stored(0, "x" * 4094) == write_override("x" * 4094, None, rules)
    assert Stored(0, "x") == write_override("x\n" + "y" * 4092, None, rules)
    assert Stored("EINVAL", "a") == write_override("x" * 4095, "a", rules)
    assert Stored("EINVAL", "a") == write_override("x\n" + "y" * 4093, "a", rules)
    assert Stored("EINVAL", "a") == write_override("\u00e9" * 2048, "a", rules)
    assert Stored(0, "\udcff" * 4094) == write_override("\udcff" * 4094, "a", rules)


def test_unset_reads_as_null() -> None:
    """A name that is set to this looks the same."""
    assert "(null)" == read_override(None)
    assert "(null)" == read_override("(null)")
    assert "vfio-pci " == read_override("vfio-pci ")


@pytest.mark.parametrize("rules", RULES)
@given(text=texts, before=st.none() | texts)
def test_written_back(rules: str, text: str, before: str | None) -> None:
    """What was stored is stored again as it is; no newline or NUL ever is."""
    errno, stored = write_override(text, before, rules)
    assert 0 == errno
    if text and stored:
        assert not {"\n", "\0"} & set(stored)
        assert Stored(0, stored) == write_override(f"{stored}\n", None, rules)
