"""Pictures of `audit --json`: read, and compared as `diff` does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import observations

from fuzz.json_tree import mutate
from fuzz.lines import told
from fuzz.scratch import SCRATCH
from fuzz.target import Target
from observer import audit, comparison, document, pictures
from observer.comparison import Side
from observer.pictures import PictureError

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE = SCRATCH / "picture.json"
HEALTHY = audit.as_object(audit.audit(observations.MACHINE))
OTHER = Side("other", document.from_object(json.loads(json.dumps(HEALTHY))))


def run(data: bytes) -> None:
    """Read a picture and compare it both ways; written anew it is the same."""
    FILE.write_bytes(data)
    picture = pictures.read(FILE)
    again = document.from_object(json.loads(json.dumps(document.as_object(picture))))
    assert again == picture
    side = Side("file", picture)
    assert comparison.compare(side, side).changes == ()
    for compared in (comparison.compare(side, OTHER), comparison.compare(OTHER, side)):
        json.dumps(comparison.as_object(compared))
        told(comparison.as_text(compared))


def seeds() -> Iterable[bytes]:
    """Yield the picture of a machine."""
    yield json.dumps(HEALTHY, separators=(",", ":")).encode()


TARGET = Target(run, (PictureError,), seeds, share=3, max_bytes=1 << 13, mutate=mutate)
