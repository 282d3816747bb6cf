"""observer/baseline.py: what other kernels are compared with, and accepting it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import machines
import pytest
from kept import keep
from machines import device

from observer import kernel
from observer.baseline import Standing, accept, as_object, as_text, show
from observer.pictures import PictureError
from observer.store import Archive

if TYPE_CHECKING:
    from pathlib import Path

UNBOUND = machines.machine(device(), release="7.3")


def lines(told: Standing) -> list[str]:
    """Return what a person is told."""
    return [*as_text(told, lambda unix_ns: f"T{unix_ns}")]


def test_it_is_of_the_other_kernel(tmp_path: Path) -> None:
    """Until the bindings of this one are accepted."""
    told = show(keep(tmp_path), UNBOUND)
    first, second, third = lines(told)
    assert first.startswith("baseline: Linux 6.1, T1, 1 device, 1 bound, ")
    assert second.startswith("now: Linux 7.3, T1000100000000000, 1 device, 0 bound, ")
    assert "1 difference; pci-observer diff baseline now lists them." == third


def test_accept(tmp_path: Path) -> None:
    """Then it is the baseline, with this boot's id, whole."""
    state = keep(tmp_path)
    first, _second, third = lines(accept(state, UNBOUND))
    assert first.startswith("baseline: Linux 7.3, T1000100000000000, 1 device, 0 bound")
    assert "0 differences." == third
    with Archive(state) as archive:
        kept = archive.baseline()
    assert kept is not None
    assert (kernel.boot_id(), "7.3") == (kept.boot_id, kept.release)
    assert "pci-observer-audit" == kept.document["format"]


def test_object(tmp_path: Path) -> None:
    """For programs: both, and how much is otherwise."""
    told = json.loads(json.dumps(as_object(show(keep(tmp_path), UNBOUND))))
    assert ("pci-observer-baseline", 1) == (told["format"], told["version"])
    assert ("6.1", 1) == (told["baseline"]["release"], told["baseline"]["bound"])
    assert ("7.3", 0) == (told["now"]["release"], told["now"]["bound"])
    assert 1 == told["differences"]


def test_none_yet(tmp_path: Path) -> None:
    """The daemon has not kept a picture."""
    told = show(keep(tmp_path, pictures=False), UNBOUND)
    (line,) = lines(told)
    assert line.startswith("There is no baseline yet")
    assert as_object(told)["baseline"] is None


def test_no_state(tmp_path: Path) -> None:
    """There is nothing to accept it for either."""
    with pytest.raises(PictureError, match="is not there; a daemon that keeps"):
        show(tmp_path / "none", UNBOUND)
    with pytest.raises(PictureError, match="is not there; a daemon that keeps"):
        accept(tmp_path / "none", UNBOUND)
