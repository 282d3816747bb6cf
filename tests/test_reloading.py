"""observer/reloading.py: what changes with the file, and what needs a restart."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, NamedTuple

from observer import log
from observer.config import ConfigError
from observer.reloading import Reloading

if TYPE_CHECKING:
    from collections.abc import Mapping


class Chosen(NamedTuple):
    """Options, as the daemon has them."""

    given: Mapping[str, object]


class Case:
    """A daemon that has read `old`; the file says `now`."""

    def __init__(self, **old: object) -> None:
        """Begin with `old`."""
        self.now: Mapping[str, object] | ConfigError = old
        self.taken: list[object] = []
        self._log = io.StringIO()
        logger = log.configure(self._log)
        self.reload = Reloading(Chosen(old), self._read, self._take, logger)

    def _read(self) -> Chosen:
        if isinstance(self.now, ConfigError):
            raise self.now
        return Chosen(self.now)

    def _take(self, chosen: Chosen) -> None:
        self.taken.append(chosen.given["series"])

    def lines(self) -> list[dict[str, object]]:
        """Return what was logged."""
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


def test_taken_over_once() -> None:
    """What can change does, when it changed; the rest is named, each time anew."""
    case = Case(series=300, listen=":1")
    case.now = {"series": 400, "listen": ":2"}
    assert case.reload()
    assert case.reload()
    assert [400] == case.taken
    told = [(line["changed"], line["after_a_restart"]) for line in case.lines()]
    assert [(["series"], ["listen"]), ([], ["listen"])] == told


def test_refused() -> None:
    """Each mistake is a warning, and what was there holds on."""
    case = Case(series=300)
    case.now = ConfigError("x:1: a\nx:2: b")
    assert not case.reload()
    lines = case.lines()
    assert ["x:1: a", "x:2: b"] == [line["mistake"] for line in lines]
    assert {"warning"} == {line["level"] for line in lines}
    case.now = {"series": 301}
    assert case.reload()
    assert [301] == case.taken
