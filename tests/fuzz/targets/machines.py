"""What the daemon answers: a machine, judged and told as `audit` and `explain` do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import observations

from fuzz.json_tree import mutate
from fuzz.lines import told
from fuzz.target import Target
from observer import audit, snapshot, story
from observer.fields import FieldError
from observer.machine import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable


def run(data: bytes) -> None:
    """Read a machine and tell everything of it; written anew it is the same."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    machine = snapshot.from_object(value)
    again = snapshot.from_object(json.loads(json.dumps(snapshot.as_object(machine))))
    assert again == machine
    judged = audit.audit(machine)
    json.dumps(audit.as_object(judged))
    told(audit.as_text(judged))
    for address in machine.devices:
        for driver in (None, *machine.drivers):
            explained = story.story(machine, address, driver=driver)
            json.dumps(story.as_object(explained))
            told(story.as_text(explained))


def seeds() -> Iterable[bytes]:
    """Yield a machine, and one on which something happened."""
    machine = observations.MACHINE
    decision = Decision(
        5, observations.TASK, "e1000", *observations.STATIC, None, observations.DYNID
    )
    events = (decision, observations.probe(6).probe, observations.bind(7).write)
    busy = machine._replace(
        device_events={observations.ADDRESS: events},
        driver_events={"pci-stub": (observations.new_id(8, "1 2").write,)},
        baseline=None,
    )
    for each in (machine, busy):
        yield json.dumps(snapshot.as_object(each), separators=(",", ":")).encode()


TARGET = Target(
    run,
    (FieldError, story.StoryError),
    seeds,
    share=2,
    max_bytes=1 << 13,
    mutate=mutate,
)
