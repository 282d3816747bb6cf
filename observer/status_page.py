"""What the daemon tells about itself: its books, its hooks and what it saw last."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from observer.fields import Fields
from observer.record import Judgement

if TYPE_CHECKING:
    from collections.abc import Mapping

_COUNT = 0xFFFFFFFFFFFFFFFF
_LAST_SECOND = 253402300799  # of the year 9999


class Line(NamedTuple):
    """Something that was seen, for a person."""

    time: int  # Unix time in seconds
    actor: str  # in which task it happened; "" where nobody can be named
    what: str
    alarming: bool


class Status(NamedTuple):
    """The page `/status`."""

    version: str  # of the daemon
    kernel: str  # release
    layout: str
    semantics: str  # slug
    method: str  # of the hooks
    since: int  # Unix time in seconds; 0: no decision is seen
    judgements: Mapping[str, int]  # match decisions by judgement
    emitted: int  # match decisions
    lost: int
    misses: Mapping[str, int]  # calls not seen whole, by hook
    hooks: Mapping[str, str]  # "" or why it is not attached
    divergences: int
    last: tuple[Line, ...] = ()  # newest first

    def as_object(self) -> dict[str, object]:
        """Return it for JSON."""
        named = {
            "judgements": {str(name): self.judgements[name] for name in Judgement},
            "misses": dict(self.misses),
            "hooks": dict(self.hooks),
            "last": [line._asdict() for line in self.last],
        }
        return self._asdict() | named

    @classmethod
    def from_object(cls, value: object) -> Status:
        """Read a decoded JSON value. Raises FieldError."""
        fields = Fields(value)
        judgements, misses = fields.nested("judgements"), fields.nested("misses")
        hooks = fields.nested("hooks")
        return cls(
            version=fields.text("version"),
            kernel=fields.text("kernel"),
            layout=fields.text("layout"),
            semantics=fields.text("semantics"),
            method=fields.text("method"),
            since=fields.integer("since", _LAST_SECOND),
            judgements={
                str(name): judgements.integer(name, _COUNT) for name in Judgement
            },
            emitted=fields.integer("emitted", _COUNT),
            lost=fields.integer("lost", _COUNT),
            misses={name: misses.integer(name, _COUNT) for name in misses.all},
            hooks={name: hooks.text(name) for name in hooks.all},
            divergences=fields.integer("divergences", _COUNT),
            last=tuple(map(_line, fields.nested_list("last"))),
        )


def _line(fields: Fields) -> Line:
    return Line(
        time=fields.integer("time", _LAST_SECOND),
        actor=fields.text("actor"),
        what=fields.text("what"),
        alarming=fields.flag("alarming"),
    )
