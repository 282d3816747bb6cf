"""tests/live/boots.py: one boot a kernel, and a dead guest is no verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lab.guest import STATUS_DIED, GuestResult
from live import boots

if TYPE_CHECKING:
    from pathlib import Path


class Kernels:
    """Boots that are counted, some of which fail."""

    def __init__(self, *dead: str) -> None:
        """Let the boots of these kernels fail."""
        self.dead = dead
        self.booted: list[str] = []

    def __call__(self, kernel: str) -> dict[str, Any]:
        """Boot one."""
        self.booted.append(kernel)
        if kernel in self.dead:
            raise boots.InfrastructureError(kernel)
        return {"kernel": kernel}


def test_a_kernel_boots_once_in_whatever_order_tests_ask() -> None:
    """The second question gets the first one's answer."""
    kernels = Kernels()
    results = boots.Boots(kernels)

    answers = [results[kernel]["kernel"] for kernel in ("6.1", "7.3", "6.1", "7.3")]

    assert ["6.1", "7.3", "6.1", "7.3"] == answers
    assert ["6.1", "7.3"] == kernels.booted


def test_a_boot_that_failed_is_not_tried_for_every_test() -> None:
    """All tests of that kernel hear the same, at once."""
    kernels = Kernels("5.10")
    results = boots.Boots(kernels)

    for _ in range(3):
        with pytest.raises(boots.InfrastructureError, match=r"5\.10"):
            results["5.10"]

    assert ["5.10"] == kernels.booted


def test_hundreds_of_tests_of_a_dead_kernel_have_short_tracebacks() -> None:
    """An error that is raised again would else remember each time it was raised."""
    results = boots.Boots(Kernels("5.10"))

    def entries() -> int:
        with pytest.raises(boots.InfrastructureError) as error:
            results["5.10"]
        return len(error.traceback)

    entries()  # the boot itself
    assert {2} == {entries() for _ in range(100)}


def booted(monkeypatch: pytest.MonkeyPatch, directory: Path, guest: GuestResult) -> Any:  # noqa: ANN401 - JSON
    """Boot a guest that ends as told."""
    monkeypatch.setattr(boots, "build_matchload", lambda: None)
    monkeypatch.setattr(boots, "run_guest", lambda *_, **__: guest)
    return boots.boot("6.1", "live.scenario", directory, lambda _: None)


def test_a_guest_that_died_is_told_as_infrastructure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing failed that we test: pytest shows an error, not a failure."""
    guest = GuestResult(STATUS_DIED, "panic", died=True, seconds=1.0)

    with pytest.raises(boots.InfrastructureError, match=r"died or hung.*: panic"):
        booted(monkeypatch, tmp_path, guest)


def test_a_scenario_that_broke_is_no_infrastructure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it said is quoted."""
    guest = GuestResult(1, "Traceback", died=False, seconds=1.0)

    with pytest.raises(AssertionError, match="status 1: Traceback"):
        booted(monkeypatch, tmp_path, guest)


def test_what_the_guest_left_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its result, and its output for a person beside it."""
    (tmp_path / "result.json").write_text('{"release": "6.1"}')
    guest = GuestResult(0, "said", died=False, seconds=1.0)

    assert {"release": "6.1"} == booted(monkeypatch, tmp_path, guest)
    assert "said" == (tmp_path / "output.txt").read_text()
