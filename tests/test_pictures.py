"""observer/pictures.py: what a word of `diff` names, or why it names nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import machines
import pytest
from kept import BOOTS, keep
from pictures import file_of, of

from observer.pictures import PictureError, find, read

if TYPE_CHECKING:
    from pathlib import Path

    from observer.comparison import Side

MACHINE = machines.machine(machines.device(bound="e1000"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a store with three boots, two of them of one kernel."""
    return keep(tmp_path)


def found(word: str, state: Path) -> Side:
    """Return what the word names."""
    return find(word, state=state, look=lambda: MACHINE)


def refused(word: str, state: Path) -> str:
    """Return why it names nothing."""
    with pytest.raises(PictureError) as caught:
        found(word, state)
    return str(caught.value)


def test_now(tmp_path: Path) -> None:
    """The machine is looked at; no state is needed."""
    side = found("now", tmp_path / "absent")
    assert ("now", of(MACHINE)) == side


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a path, or by a name that there is; no state is needed."""
    file = tmp_path / "6.1"
    file.write_text(json.dumps(file_of(MACHINE)))
    assert (str(file), of(MACHINE)) == found(str(file), tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    assert ("6.1", of(MACHINE)) == found("6.1", tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "not JSON (Expecting property name"),
        (b"\xff", "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
        (b"[]", "line: not an object"),
        (b"{}", "format: missing"),
        (b'{"format": "pci-observer-audit", "version": 2}', "version: 2 is newer"),
    ],
)
def test_a_bad_file(tmp_path: Path, content: bytes, problem: str) -> None:
    """One line names the file and the field."""
    file = tmp_path / "bad"
    file.write_bytes(content)
    with pytest.raises(PictureError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: {problem}")


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    """A path with a slash is a file, even if there is none."""
    assert f"{tmp_path}/none: No such file or directory" == refused(
        f"{tmp_path}/none", tmp_path
    )
    assert f"{tmp_path}: Is a directory" == refused(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("word", "boot"),
    [
        ("boot:-0", 2),
        ("boot:-1", 1),
        ("boot:-2", 0),
        ("6.1", 1),  # the newest of its boots
        ("7.3", 2),
        (BOOTS[0], 0),
        (BOOTS[0][:4], 0),
        ("baseline", 1),
    ],
)
def test_a_boot(state: Path, word: str, boot: int) -> None:
    """By place, kernel or id, whole or not; or the baseline."""
    name, picture = found(word, state)
    assert (word, boot) == (name, picture.unix_ns)


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("boot:-3", "boot:-3: neither a file, nor a boot, nor a kernel that was "),
        ("6.12", "6.12: neither a file, nor a boot, nor a kernel that was observed; "),
        (BOOTS[0][:3], f"{BOOTS[0][:3]}: neither a file, nor a boot, nor a kernel"),
        ("bbbb", "bbbb: 2 boots have such an id; write more"),
    ],
)
def test_no_boot(state: Path, word: str, problem: str) -> None:
    """It is said what it might have been."""
    assert refused(word, state).startswith(problem)


def test_a_boot_without_a_picture(tmp_path: Path) -> None:
    """It ended before its bindings rested."""
    state = keep(tmp_path, pictures=False)
    problem = "its bindings never rested long enough to be kept"
    assert f"boot:-1: {problem}" == refused("boot:-1", state)
    assert "baseline: there is none yet" == refused("baseline", state)


def test_no_state(tmp_path: Path) -> None:
    """Then boots have no names."""
    told = refused("baseline", tmp_path / "none")
    assert told.startswith("baseline: no such file, and no boots are known: ")
    assert f"{tmp_path}/none is not there; " in told
